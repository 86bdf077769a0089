//! The vault: challenges, secrets and their versions, policy.

use keyvaultfs::emulator::{Deletion, Options, Permission};
use serde_json::json;

use crate::bench::Bench;

#[test]
fn without_a_good_token_the_vault_answers_a_challenge() {
    let bench = Bench::new();
    bench.emulator.set_secret("a", "1");
    let missing = bench.send(bench.vault_without_token("GET", "/secrets/a"));
    assert_eq!(missing.status, 401);
    assert!(missing.text.contains("AKV10000"));
    let challenge = missing.header("www-authenticate");
    assert!(challenge.starts_with("Bearer authorization=\"https://login.microsoftonline.com/"));
    assert!(challenge.ends_with("resource=\"https://vault.azure.net\""));

    let with = |token: &str| {
        let request = bench.vault_without_token("GET", "/secrets/a");
        bench.send(request.header("Authorization", format!("Bearer {token}")))
    };
    assert_eq!(with("made-up").status, 401);
    let slash = bench.token_for("https://vault.azure.net/");
    assert!(with(&slash).text.contains("AKV10022"));
    let other = bench.token_for("https://management.azure.com/");
    assert!(with(&other).text.contains("AKV10022"));

    let good = bench.token_for("https://vault.azure.net");
    assert_eq!(with(&good).status, 200);
    bench.emulator.set_clock_skew(86_401);
    assert_eq!(with(&good).status, 401, "a day later it is expired");
    bench.emulator.set_clock_skew(0);
    bench.emulator.revoke_tokens();
    assert_eq!(with(&good).status, 401);
}

#[test]
fn a_vault_of_another_cloud_wants_its_own_audience() {
    let resource = "https://vault.azure.cn";
    let bench = Bench::with(Options {
        resource: resource.to_owned(),
        ..Options::default()
    });
    bench.emulator.set_secret("a", "1");
    let token = bench.token_for(resource);
    let request = bench
        .vault_without_token("GET", "/secrets/a")
        .bearer_auth(token);
    assert_eq!(bench.send(request).status, 200);
}

#[test]
fn a_secret_is_set_and_read_back_with_all_that_goes_with_it() {
    let bench = Bench::new();
    let made = bench.put(
        "MySecret",
        &json!({
            "value": "Hello\nworld",
            "contentType": "text/plain",
            "tags": {"a": "b"},
            "attributes": {"nbf": 1, "exp": 2},
        }),
    );
    assert_eq!(made.status, 200);
    let bundle = bench.get("/secrets/mysecret/").json();
    assert_eq!(bundle, made.json(), "names are compared without case");
    assert_eq!(bundle["value"], "Hello\nworld");
    assert_eq!(bundle["contentType"], "text/plain");
    assert_eq!(bundle["tags"], json!({"a": "b"}));
    assert_eq!(bundle["attributes"]["exp"], 2, "and is not enforced");
    assert_eq!(bundle["attributes"]["recoverableDays"], 90);
    let id = bundle["id"].as_str().expect("an id");
    let prefix = format!("{}/secrets/MySecret/", bench.emulator.endpoints().vault);
    let version = id
        .strip_prefix(&prefix)
        .expect("the first spelling is kept");
    assert_eq!(version.len(), 32);
    assert!(version.bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[test]
fn every_set_makes_a_version_and_old_ones_can_be_read() {
    let bench = Bench::new();
    let first = bench.emulator.set_secret("a", "1");
    bench.put("A", &json!({"value": "2"}));
    assert_eq!(bench.get("/secrets/a").json()["value"], "2");
    assert_eq!(
        bench.get(&format!("/secrets/a/{first}")).json()["value"],
        "1"
    );
    assert_eq!(bench.get("/secrets/a/0123").status, 404);
    let versions = bench.emulator.versions("a");
    let values: Vec<&str> = versions.iter().map(|one| one.value.as_str()).collect();
    assert_eq!(values, ["1", "2"]);
    assert_eq!(bench.emulator.secret_names(), ["a"]);
}

#[test]
fn states_of_a_secret_answer_their_own_codes() {
    let bench = Bench::new();
    bench.emulator.set_secret("a", "1");
    let forbidden = |inner: &str| (403, "Forbidden".to_owned(), Some(inner.to_owned()));
    let conflict = |inner: &str| (409, "Conflict".to_owned(), Some(inner.to_owned()));
    let value = json!({"value": "2"});

    assert!(bench.emulator.set_enabled("a", false));
    assert_eq!(bench.get("/secrets/a").error(), forbidden("SecretDisabled"));
    assert!(bench.emulator.set_enabled("a", true));

    assert!(bench.emulator.set_managed("a", true));
    assert_eq!(bench.get("/secrets/a").json()["managed"], true);
    let refused = bench.put("a", &value).error();
    assert_eq!(refused, forbidden("SecretManagedByKeyVault"));
    assert!(bench.emulator.set_managed("a", false));

    for (deletion, inner) in [
        (Deletion::Recoverable, "ObjectIsDeletedButRecoverable"),
        (Deletion::BeingDeleted, "ObjectIsBeingDeleted"),
        (Deletion::BeingRecovered, "ObjectIsBeingRecovered"),
    ] {
        assert!(bench.emulator.set_deletion("a", deletion));
        assert_eq!(bench.get("/secrets/a").error().1, "SecretNotFound");
        assert_eq!(bench.put("a", &value).error(), conflict(inner));
    }
    assert_eq!(bench.emulator.versions("a").len(), 1);
}

#[test]
fn bad_requests_are_bad_parameters() {
    let bench = Bench::new();
    let bad = |inner: Option<&str>| (400, "BadParameter".to_owned(), inner.map(str::to_owned));
    assert_eq!(bench.get("/secrets/under_score").error(), bad(None));
    let long = format!("/secrets/{}", "a".repeat(128));
    assert_eq!(bench.get(&long).error(), bad(None));
    let fits = json!({"value": "v".repeat(25_600)});
    assert_eq!(bench.put("a", &fits).status, 200);
    let too_large = json!({"value": "v".repeat(25_601)});
    assert_eq!(
        bench.put("a", &too_large).error(),
        bad(Some("SecretTooLarge"))
    );
    assert_eq!(bench.put("a", &json!({})).error(), bad(None));
    let tags: serde_json::Map<_, _> = (0..16).map(|i| (i.to_string(), json!(""))).collect();
    let tagged = json!({"value": "", "tags": tags});
    assert_eq!(bench.put("a", &tagged).error(), bad(None));

    let token = bench.token_for("https://vault.azure.net");
    let url = format!("{}/secrets/a", bench.emulator.endpoints().vault);
    let no_version = bench.http.get(&url).bearer_auth(&token);
    assert_eq!(bench.send(no_version).error(), bad(None));
    let odd_version = bench
        .http
        .get(format!("{url}?api-version=9.9"))
        .bearer_auth(&token);
    assert_eq!(bench.send(odd_version).error(), bad(None));
}

#[test]
fn permission_is_checked_before_the_body() {
    let bench = Bench::new();
    let probe = || {
        let request = bench.vault("PUT", "/secrets/a").body("not json");
        bench.send(request).error()
    };
    assert_eq!(probe(), (400, "BadParameter".to_owned(), None));
    bench.emulator.set_policy([Permission::Get]);
    let denied = (403, "Forbidden".to_owned(), Some("AccessDenied".to_owned()));
    assert_eq!(probe(), denied);
    assert!(bench.emulator.versions("a").is_empty());
}

#[test]
fn the_policy_grants_get_set_and_list_each_alone() {
    let bench = Bench::new();
    bench.emulator.set_secret("a", "1");
    let statuses = || {
        let set = bench.put("b", &json!({"value": ""})).status;
        let list = bench.get("/secrets").status;
        (bench.get("/secrets/a").status, set, list)
    };
    assert_eq!(statuses(), (200, 200, 403), "the default");
    bench.emulator.set_policy([Permission::Get]);
    assert_eq!(statuses(), (200, 403, 403));
    bench.emulator.set_policy([Permission::Set]);
    assert_eq!(statuses(), (403, 200, 403));
    bench.emulator.set_policy([Permission::List]);
    assert_eq!(statuses(), (403, 403, 200));
    let listed = bench.get("/secrets").json();
    let first = listed["value"][0].as_object().expect("an item");
    assert!(!first.contains_key("value"), "a list shows no values");
    assert_eq!(bench.send(bench.vault("DELETE", "/secrets/a")).status, 403);
}
