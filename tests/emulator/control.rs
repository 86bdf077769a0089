//! What a test does to an emulator and learns from it: controls, the log, its end.

use keyvaultfs::emulator::{Fault, Identity, Operation, Service, Settings};
use serde_json::{Value, json};

use crate::bench::{Bench, TOKEN_QUERY};

#[test]
fn the_controls_do_over_http_what_they_do_in_rust() {
    let bench = Bench::new();
    let nothing = Value::Null;
    let endpoints = bench.control("GET", "/", &nothing).json();
    assert_eq!(endpoints["vault"], bench.emulator.endpoints().vault);

    let new = json!({"value": "1", "tags": {"k": "v"}});
    let version = bench.control("PUT", "/secrets/a", &new).json()["version"].clone();
    let versions = bench.control("GET", "/secrets/a", &nothing).json();
    assert_eq!(versions[0]["version"], version);
    assert_eq!(versions[0]["tags"], json!({"k": "v"}));
    bench.control("PATCH", "/secrets/a", &json!({"enabled": false}));
    assert_eq!(
        bench.get("/secrets/a").error().2.as_deref(),
        Some("SecretDisabled")
    );
    bench.control(
        "PATCH",
        "/secrets/a",
        &json!({"enabled": true, "deletion": "recoverable"}),
    );
    assert_eq!(bench.get("/secrets/a").status, 404);
    bench.control("PATCH", "/secrets/a", &json!({"deletion": "none"}));

    bench.control("PUT", "/policy", &json!(["set"]));
    assert_eq!(bench.get("/secrets/a").status, 403);
    bench.control("PUT", "/policy", &json!(["get"]));

    let fault = json!({"secret": "a", "calls": {"first": 1}, "retry_after": {"seconds": 3},
                       "effect": {"error": {"status": 429, "code": "Throttled"}}});
    let id = bench.control("POST", "/faults", &fault).json()["id"].clone();
    assert_eq!(bench.get("/secrets/a").header("retry-after"), "3");
    assert_eq!(
        bench
            .control("DELETE", &format!("/faults/{id}"), &nothing)
            .status,
        200
    );
    assert_eq!(bench.control("DELETE", "/faults/77", &nothing).status, 404);

    bench.control("PUT", "/listening/key-vault", &json!(false));
    assert!(bench.try_send(bench.vault("GET", "/secrets/a")).is_err());
    bench.control("PUT", "/listening/key-vault", &json!(true));
    assert_eq!(bench.get("/secrets/a").status, 200);

    bench.control("PUT", "/tokens", &json!({"lifetime": 10}));
    assert_eq!(bench.imds(TOKEN_QUERY).json()["expires_in"], "10");
    bench.control("PUT", "/identities", &json!([]));
    assert_eq!(bench.imds(TOKEN_QUERY).status, 400);

    let log = bench.control("GET", "/log", &nothing).json();
    assert!(log.as_array().is_some_and(|entries| !entries.is_empty()));
    bench.control("DELETE", "/log", &nothing);
    assert_eq!(bench.control("GET", "/log", &nothing).json(), json!([]));
    for (path, body) in [
        ("/policy", json!(["purge"])),
        ("/clock", json!({"skew": "x"})),
    ] {
        let refused = bench.control("PUT", path, &body);
        assert!(refused.status == 400 && refused.json()["error"].is_string());
    }
}

#[test]
fn the_log_tells_who_asked_for_what_and_never_a_value() {
    let bench = Bench::new();
    bench.put("a", &json!({"value": "canary"}));
    let reply = bench.get("/secrets/a");
    bench.get("/secrets");
    let log = bench.emulator.log();
    let operations: Vec<Operation> = log.iter().map(|entry| entry.operation).collect();
    use Operation::{Get, List, Set, Token};
    assert_eq!(operations, [Token, Set, Token, Get, Token, List]);
    let get = &log[3];
    assert_eq!(
        (get.method.as_str(), get.path.as_str()),
        ("GET", "/secrets/a")
    );
    assert_eq!((get.service, get.status), (Service::KeyVault, Some(200)));
    assert_eq!(get.secret.as_deref(), Some("a"));
    assert_eq!(get.identity, Some(Identity::system_assigned().client_id));
    assert_eq!(
        get.version,
        Some(bench.emulator.versions("a")[0].version.clone())
    );
    assert_eq!(get.request_id, reply.header("x-ms-request-id"));
    let all = serde_json::to_string(&log).expect("a log is JSON");
    assert!(!all.contains("canary") && !all.contains("eyJ0"), "{all}");
    assert_eq!(bench.emulator.count(List), 1);
}

#[test]
fn dropped_it_leaves_no_port_no_file_and_no_thread_that_waits() {
    let bench = Bench::new();
    bench
        .emulator
        .set_secret_with("a", "1", Settings::default());
    bench.emulator.add_fault(Fault::hang());
    let endpoints = bench.emulator.endpoints().clone();
    let hung = bench.vault("GET", "/secrets/a");
    let ca = endpoints.ca_cert.clone();
    let outcome = bench.runtime.block_on(async {
        let hung = tokio::spawn(hung.send());
        while bench.emulator.count(Operation::Get) == 0 {
            tokio::task::yield_now().await;
        }
        drop(bench.emulator);
        hung.await.expect("the task ends")
    });
    assert!(outcome.is_err(), "the hung request was cut");
    assert!(!ca.exists());
    let address = endpoints.imds.split('/').nth(2).expect("it has a host");
    assert!(std::net::TcpStream::connect(address).is_err());
}
