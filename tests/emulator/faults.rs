//! Scripted faults: which calls they meet, and what those get.

use std::time::{Duration, Instant};

use keyvaultfs::emulator::{Certificate, Effect, Fault, Options, RetryAfter, Service};
use serde_json::json;

use crate::bench::{Bench, TOKEN_QUERY};

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
