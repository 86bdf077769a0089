//! The emulator over real HTTP and TLS: that it answers as Azure is documented to, so that the
//! end-to-end tests stand on something.

#![cfg(feature = "emulator")]

use std::time::{Duration, Instant};

use keyvaultfs::emulator::{
    Certificate, Deletion, Effect, Emulator, Fault, Identity, Operation, Options, Permission,
    RetryAfter, Service, Settings,
};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// An emulator and a client that trusts it.
struct Bench {
    emulator: Emulator,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

/// An answer received whole.
struct Reply {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("the body is JSON")
    }

    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).expect("the header is there");
        value.to_str().expect("the header is text")
    }

    /// Status, code and inner code of an error of the vault.
    fn error(&self) -> (u16, String, Option<String>) {
        let error = &self.json()["error"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        (
            self.status,
            text(&error["code"]).expect("an error has a code"),
            text(&error["innererror"]["code"]),
        )
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let emulator = Emulator::start(options).expect("an emulator starts");
        let pem = std::fs::read(&emulator.endpoints().ca_cert).expect("there is a CA");
        let ca = reqwest::Certificate::from_pem(&pem).expect("the CA is PEM");
        let http = reqwest::Client::builder()
            .tls_certs_only([ca])
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .build()
            .expect("a client can be built");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be built");
        Self {
            emulator,
            http,
            runtime,
        }
    }

    fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
        self.runtime.block_on(async {
            let response = request.send().await?;
            Ok(Reply {
                status: response.status().as_u16(),
                headers: response.headers().clone(),
                text: response.text().await?,
            })
        })
    }

    fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        self.try_send(request).expect("the emulator answers")
    }

    /// Asks IMDS with this query.
    fn imds(&self, query: &str) -> Reply {
        let url = format!("{}?{query}", self.emulator.endpoints().imds);
        self.send(self.http.get(url).header("Metadata", "true"))
    }

    fn token_for(&self, resource: &str) -> String {
        let reply = self.imds(&format!("api-version=2018-02-01&resource={resource}"));
        let token = reply.json()["access_token"].as_str().map(str::to_owned);
        token.expect("IMDS gives a token")
    }

    /// A request to the vault with a fresh token.
    fn vault(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let token = self.token_for("https://vault.azure.net");
        self.vault_without_token(method, path)
            .header("Authorization", format!("Bearer {token}"))
    }

    fn vault_without_token(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let vault = &self.emulator.endpoints().vault;
        let method = method.parse().expect("a method");
        self.http
            .request(method, format!("{vault}{path}?api-version=7.6"))
    }

    fn get(&self, path: &str) -> Reply {
        self.send(self.vault("GET", path))
    }

    fn put(&self, name: &str, body: &Value) -> Reply {
        self.send(self.put_request(name, body))
    }

    fn put_request(&self, name: &str, body: &Value) -> reqwest::RequestBuilder {
        self.vault("PUT", &format!("/secrets/{name}"))
            .body(body.to_string())
    }

    fn control(&self, method: &str, path: &str, body: &Value) -> Reply {
        let url = format!("{}{path}", self.emulator.endpoints().control);
        let method = method.parse().expect("a method");
        self.send(self.http.request(method, url).body(body.to_string()))
    }
}

const TOKEN_QUERY: &str = "api-version=2018-02-01&resource=https://vault.azure.net";

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
fn faults_meet_the_calls_they_name() {
    let bench = Bench::new();
    bench.emulator.set_secret("a", "1");
    bench.emulator.set_secret("b", "1");
    let fault = Fault::error(503, "Busy", Some("Inner")).method("GET");
    let id = bench.emulator.add_fault(fault.secret("A").only([2, 4]));
    let statuses: Vec<u16> = (0..5).map(|_| bench.get("/secrets/a").status).collect();
    assert_eq!(statuses, [200, 503, 200, 503, 200]);
    assert_eq!(bench.get("/secrets/b").status, 200);
    assert!(bench.emulator.remove_fault(id));
    assert!(!bench.emulator.remove_fault(id));

    bench.emulator.add_fault(Fault::throttled().first(1));
    let throttled = bench.get("/secrets/b");
    assert_eq!(throttled.error().1, "Throttled");
    assert!(!throttled.headers.contains_key("retry-after"));
    assert_eq!(bench.get("/secrets/b").status, 200);

    bench
        .emulator
        .add_fault(Fault::error(410, "gone", None).of(Service::Imds).first(1));
    let gone = bench.imds(TOKEN_QUERY);
    assert_eq!((gone.status, &gone.json()["error"]), (410, &json!("gone")));
    assert_eq!(bench.imds(TOKEN_QUERY).status, 200);
}

#[test]
fn faults_say_when_to_come_again_in_every_way_there_is() {
    let bench = Bench::new();
    let header = |retry_after, name: &str| {
        bench.emulator.clear_faults();
        bench
            .emulator
            .add_fault(Fault::throttled().retry_after(retry_after));
        bench.get("/secrets/a").header(name).to_owned()
    };
    assert_eq!(header(RetryAfter::Seconds(7), "retry-after"), "7");
    assert_eq!(header(RetryAfter::Milliseconds(70), "retry-after-ms"), "70");
    assert_eq!(
        header(RetryAfter::MsMilliseconds(8), "x-ms-retry-after-ms"),
        "8"
    );
    let date = header(RetryAfter::DateIn(60), "retry-after");
    let then = httpdate::parse_http_date(&date).expect("an HTTP date");
    assert!(then > std::time::SystemTime::now());
}

#[test]
fn an_unresolved_signing_key_is_a_401_with_a_challenge() {
    let bench = Bench::new();
    bench.emulator.add_fault(Fault::signing_key_unresolved());
    let reply = bench.get("/secrets/a");
    assert_eq!(reply.error(), (401, "Unauthorized".to_owned(), None));
    assert!(reply.text.contains("AKV10046"));
    assert!(reply.header("www-authenticate").starts_with("Bearer "));
}

#[test]
fn broken_answers_are_broken_on_the_wire() {
    let bench = Bench::new();
    bench.emulator.set_secret("a", "a value of some length");
    let fails = |effect: Effect| {
        bench.emulator.clear_faults();
        bench.emulator.add_fault(Fault::new(effect));
        bench.try_send(bench.vault("GET", "/secrets/a")).is_err()
    };
    assert!(fails(Effect::Cut));
    assert!(fails(Effect::CutBody(10)));
    assert!(fails(Effect::CutBody(0)));
    assert!(fails(Effect::ContentLength(10_000)));
    assert!(!fails(Effect::None));

    let answers = |effect: Effect| {
        bench.emulator.clear_faults();
        bench.emulator.add_fault(Fault::new(effect));
        bench.get("/secrets/a")
    };
    let short = answers(Effect::ContentLength(10));
    assert_eq!((short.status, short.text.len()), (200, 10));
    let html = answers(Effect::Html { status: 502 });
    assert_eq!(
        (html.status, html.header("content-type")),
        (502, "text/html")
    );
    let body = answers(Effect::Body {
        status: 200,
        text: "{".to_owned(),
    });
    assert_eq!(body.text, "{");
    assert!(answers(Effect::HugeBody(3_000_000)).text.len() > 3_000_000);
    let redirect = answers(Effect::Redirect("https://elsewhere.invalid/".to_owned()));
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (302, "https://elsewhere.invalid/")
    );
}

#[test]
fn a_set_can_be_carried_out_and_its_answer_lost() {
    let bench = Bench::new();
    bench
        .emulator
        .add_fault(Fault::cut().method("PUT").after().first(1));
    let request = bench.put_request("a", &json!({"value": "kept"}));
    assert!(bench.try_send(request).is_err());
    assert_eq!(bench.emulator.versions("a")[0].value, "kept");
    let log = bench.emulator.log();
    let set = log.last().expect("the request is in the log");
    assert_eq!(set.status, None, "it was not answered");
    assert!(set.version.is_some(), "but it was carried out");
}

#[test]
fn a_hung_request_delays_no_other_and_goes_on_when_the_fault_is_removed() {
    let bench = Bench::new();
    bench.emulator.set_secret("a", "1");
    bench.emulator.set_secret("b", "1");
    let hang = bench.emulator.add_fault(Fault::hang().secret("a"));
    let hung = bench.vault("GET", "/secrets/a");
    let other = bench.vault("GET", "/secrets/b");
    let released = bench.runtime.block_on(async {
        let hung = tokio::spawn(hung.send());
        let other = other.send().await.expect("the other is answered");
        assert_eq!(other.status(), 200);
        assert!(!hung.is_finished());
        assert!(bench.emulator.remove_fault(hang));
        hung.await.expect("the task ends")
    });
    assert_eq!(released.expect("it is answered now").status(), 200);
}

#[test]
fn a_delay_delays() {
    let bench = Bench::new();
    bench.emulator.set_secret("a", "1");
    let delay = Duration::from_millis(200);
    bench.emulator.add_fault(Fault::delay(delay));
    let request = bench.vault("GET", "/secrets/a");
    let start = Instant::now();
    assert_eq!(bench.send(request).status, 200);
    assert!(start.elapsed() >= delay);
}

#[test]
fn a_paused_service_refuses_connections_and_comes_back_on_its_port() {
    let bench = Bench::new();
    bench.emulator.set_secret("a", "1");
    assert_eq!(bench.get("/secrets/a").status, 200);
    bench
        .emulator
        .pause(Service::KeyVault)
        .expect("it can be paused");
    let request = bench.vault("GET", "/secrets/a");
    let error = bench.try_send(request).err().expect("it is refused");
    assert!(error.is_connect(), "{error:?}");
    bench
        .emulator
        .resume(Service::KeyVault)
        .expect("it can be resumed");
    assert_eq!(bench.get("/secrets/a").status, 200);
}

#[test]
fn bad_certificates_fail_the_handshake() {
    for certificate in [
        Certificate::Expired,
        Certificate::WrongHost,
        Certificate::UnknownIssuer,
    ] {
        let options = Options {
            certificate,
            ..Options::default()
        };
        let bench = Bench::with(options);
        bench.emulator.set_secret("a", "1");
        let request = bench.vault("GET", "/secrets/a");
        let error = bench.try_send(request).err().expect("it fails");
        assert!(error.is_connect(), "{error:?}");
        bench
            .emulator
            .set_certificate(Certificate::Valid)
            .expect("it can be changed");
        assert_eq!(bench.get("/secrets/a").status, 200);
    }
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
