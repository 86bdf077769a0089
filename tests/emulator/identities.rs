//! Identity endpoints: whom they give tokens, and how they refuse.

use keyvaultfs::emulator::Identity;
use serde_json::{Value, json};

use crate::bench::{Bench, TOKEN_QUERY};

#[test]
fn imds_gives_a_token_whose_fields_are_all_strings() {
    let bench = Bench::new();
    bench.emulator.set_token_lifetime(3_599);
    let body = bench.imds(TOKEN_QUERY).json();
    let fields = body.as_object().expect("an object");
    assert!(fields.values().all(Value::is_string), "{body}");
    assert_eq!(body["expires_in"], "3599");
    assert_eq!(body["resource"], "https://vault.azure.net");
    assert_eq!(body["token_type"], "Bearer");
}

#[test]
fn imds_refuses_with_the_documented_bodies() {
    let bench = Bench::new();
    let no_header = bench.send(
        bench
            .http
            .get(format!("{}?{TOKEN_QUERY}", bench.emulator.endpoints().imds)),
    );
    let cases = [
        (no_header, "bad_request_102", "metadata header"),
        (
            bench.imds("api-version=2018-02-01"),
            "invalid_request",
            "Required query variable 'resource' is missing",
        ),
        (
            bench.imds("resource=https://vault.azure.net"),
            "invalid_request",
            "api-version",
        ),
        (
            bench.imds("api-version=2017-01-01&resource=https://vault.azure.net"),
            "invalid_request",
            "api-version",
        ),
        (
            bench.imds("api-version=2018-02-01&resource=https://nowhere.example"),
            "invalid_resource",
            "AADSTS50001",
        ),
        (
            bench.imds(&format!("{TOKEN_QUERY}&client_id=nobody")),
            "invalid_request",
            "Identity not found",
        ),
        (
            bench.imds(&format!("{TOKEN_QUERY}&resource=https://vault.azure.net")),
            "invalid_request",
            "more than once",
        ),
    ];
    for (reply, code, text) in cases {
        let body = reply.json();
        assert_eq!((reply.status, &body["error"]), (400, &json!(code)));
        let description = body["error_description"].as_str().expect("a description");
        assert!(description.contains(text), "{description}");
    }
}

#[test]
fn identities_are_found_by_every_id_and_an_ambiguous_request_is_refused() {
    let bench = Bench::new();
    let (one, two) = (
        Identity::user_assigned("one"),
        Identity::user_assigned("two"),
    );
    bench.emulator.set_identities([one.clone()]);
    assert_eq!(bench.imds(TOKEN_QUERY).status, 200, "the only one is meant");
    bench.emulator.set_identities([one, two.clone()]);
    let ambiguous = bench.imds(TOKEN_QUERY);
    assert!(ambiguous.text.contains("Multiple user assigned identities"));
    let resource_id = two.resource_id.expect("a user-assigned identity has one");
    for selector in [
        format!("client_id={}", two.client_id),
        format!("object_id={}", two.object_id),
        format!("msi_res_id={resource_id}"),
    ] {
        bench.emulator.clear_log();
        assert_eq!(bench.imds(&format!("{TOKEN_QUERY}&{selector}")).status, 200);
        let log = bench.emulator.log();
        assert_eq!(log[0].identity.as_deref(), Some(two.client_id.as_str()));
    }
    bench.emulator.set_identities([]);
    assert!(bench.imds(TOKEN_QUERY).text.contains("Identity not found"));
}

#[test]
fn the_vm_extension_takes_a_query_and_a_form() {
    let bench = Bench::new();
    let url = bench.emulator.endpoints().vm_extension.clone();
    let get = bench
        .http
        .get(format!("{url}?resource=https://vault.azure.net"));
    let form = bench
        .http
        .post(&url)
        .body("resource=https%3A%2F%2Fvault.azure.net");
    for request in [get, form] {
        let refused = bench.send(request.try_clone().expect("it has no stream"));
        assert_eq!(refused.status, 400, "no Metadata header");
        let given = bench.send(request.header("Metadata", "true"));
        assert_eq!(given.json()["token_type"], "Bearer");
    }
}
