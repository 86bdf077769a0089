//! GET: what each answer of the vault becomes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keyvaultfs::emulator::{Deletion, Effect, Fault, Options, Permission, RetryAfter, Settings};
use keyvaultfs::secrets::Failure;

use super::bench::Bench;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_secret_is_read_with_exactly_one_request_and_no_other_is_made() {
    let bench = Bench::new();
    let version = bench.set_secret("SQLPasswd", "Geheim\n");
    bench.vault.warm_up().await;
    assert_eq!((bench.tokens(), bench.log().len()), (1, 1));
    let secret = bench.get("sqlpasswd").await.unwrap();
    assert_eq!(secret.value.expose(), b"Geheim\n");
    assert_eq!(secret.properties.version.as_str(), version);
    assert!(secret.properties.created.is_some());
    assert_eq!((bench.gets(), bench.log().len()), (1, 2));
}

#[tokio::test]
async fn each_version_is_read_by_its_own_name() {
    let bench = Bench::new();
    let old = bench.set_secret("a", "old");
    let new = bench.set_secret("a", "new");
    assert_eq!(
        bench.get_version("a", &old).await.unwrap().value.expose(),
        b"old"
    );
    assert_eq!(
        bench.get_version("a", &new).await.unwrap().value.expose(),
        b"new"
    );
    assert_eq!(bench.get("a").await.unwrap().value.expose(), b"new");
    let none = bench.get_version("a", &"0".repeat(32)).await.unwrap_err();
    assert_eq!(none.failure, Failure::NotFound);
}

#[tokio::test]
async fn a_value_is_decoded_as_its_tag_says_or_not_shown_at_all() {
    let bench = Bench::new();
    let tagged = |encoding: &str| Settings {
        tags: BTreeMap::from([("file-encoding".to_owned(), encoding.to_owned())]),
        ..Settings::default()
    };
    bench.set_secret_with("bin", "AP8=\n", tagged("base64"));
    bench.set_secret_with("hex", "00ff", tagged("hex"));
    bench.set_secret_with("bad", "not base64", tagged("base64"));
    for name in ["bin", "hex"] {
        assert_eq!(bench.get(name).await.unwrap().value.expose(), [0, 255]);
    }
    let bad = bench.get("bad").await.unwrap_err();
    assert_eq!(bad.failure, Failure::Undecodable);
    assert!(!bad.to_string().contains("not base64"), "{bad}");
}

#[tokio::test]
async fn what_the_vault_refuses_is_told_apart_by_its_inner_code() {
    let bench = Bench::new();
    for name in ["off", "gone"] {
        bench.set_secret(name, "v");
    }
    bench.set_enabled("off", false);
    bench.set_deletion("gone", Deletion::Recoverable);
    for (name, failure) in [
        ("none", Failure::NotFound),
        ("gone", Failure::NotFound),
        ("off", Failure::Disabled),
    ] {
        bench.clear_log();
        assert_eq!(
            bench.get(name).await.unwrap_err().failure,
            failure,
            "{name}"
        );
        assert_eq!(bench.gets(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_codes_the_request_and_the_command_that_mends_it() {
    let bench = Bench::with(
        Options {
            policy: [Permission::Set].into(),
            ..Options::default()
        },
        |_| {},
    );
    let error = bench.get("SQLPasswd").await.unwrap_err();
    assert_eq!(error.failure, Failure::Forbidden);
    assert_eq!(error.status, Some(403));
    assert_eq!(error.code.as_deref(), Some("Forbidden/AccessDenied"));
    assert_eq!(
        error.request_id,
        bench.log().pop().map(|entry| entry.request_id)
    );
    assert_eq!(error.context, "GET secret SQLPasswd from localhost");
    let hint = error.hint.unwrap();
    assert!(hint.contains("az keyvault set-policy"), "{hint}");
    assert!(hint.contains("--secret-permissions get set"), "{hint}");
}

#[tokio::test]
async fn each_lasting_refusal_is_final_after_one_request() {
    let bench = Bench::new();
    bench.set_secret("a", "v");
    for (status, code, inner, failure) in [
        (
            403,
            "Forbidden",
            Some("ForbiddenByRbac"),
            Failure::Forbidden,
        ),
        (
            403,
            "Forbidden",
            Some("ForbiddenByPolicy"),
            Failure::Forbidden,
        ),
        (
            403,
            "Forbidden",
            Some("ForbiddenByFirewall"),
            Failure::Forbidden,
        ),
        (
            403,
            "Forbidden",
            Some("ForbiddenByConnection"),
            Failure::Forbidden,
        ),
        (403, "Forbidden", Some("SecretDisabled"), Failure::Disabled),
        (409, "Conflict", Some("ObjectIsBeingDeleted"), Failure::Busy),
        (409, "ScopeLocked", None, Failure::ScopeLocked),
        (400, "BadParameter", None, Failure::ServerError),
        (404, "SecretNotFound", None, Failure::NotFound),
        (501, "NotImplemented", None, Failure::ServerError),
    ] {
        bench.clear_log();
        let fault = bench.add_fault(Fault::error(status, code, inner));
        let error = bench.get("a").await.unwrap_err();
        assert_eq!(error.failure, failure, "{status} {code} {inner:?}");
        assert_eq!(bench.gets(), 1, "{status} {code} {inner:?}");
        bench.remove_fault(fault);
    }
}

#[tokio::test]
async fn a_service_that_stumbles_is_asked_again_and_one_that_stays_down_five_times() {
    async fn check(status: u16, failure: Failure) {
        let bench = Bench::new();
        bench.set_secret("a", "right");
        let fault = bench.add_fault(Fault::error(status, "x", None).only([1, 2]));
        assert_eq!(bench.get("a").await.unwrap().value.expose(), b"right");
        assert_eq!(bench.gets(), 3, "{status}");
        bench.remove_fault(fault);

        bench.clear_log();
        bench.add_fault(Fault::new(Effect::Html { status }));
        let error = bench.get("a").await.unwrap_err();
        assert_eq!(error.failure, failure, "{status}");
        assert_eq!(bench.gets(), 5, "{status}");
    }
    tokio::join!(
        check(408, Failure::ServerError),
        check(429, Failure::Throttled),
        check(500, Failure::ServerError),
        check(502, Failure::ServerError),
        check(503, Failure::ServerError),
        check(504, Failure::ServerError),
    );
}

#[tokio::test]
async fn the_vaults_wish_for_a_pause_is_granted() {
    async fn check(wish: RetryAfter) {
        let bench = Bench::new();
        bench.set_secret("a", "v");
        bench.add_fault(Fault::throttled().first(1).retry_after(wish));
        let began = Instant::now();
        bench.get("a").await.unwrap();
        assert!(began.elapsed() >= SECOND, "{wish:?} {:?}", began.elapsed());
        assert_eq!(bench.gets(), 2);
    }
    tokio::join!(
        check(RetryAfter::Seconds(1)),
        check(RetryAfter::DateIn(2)),
        check(RetryAfter::Milliseconds(1000)),
        check(RetryAfter::MsMilliseconds(1000)),
    );
}

#[tokio::test]
async fn a_wish_past_the_deadline_ends_the_call_at_once() {
    let bench = Bench::new();
    bench.add_fault(Fault::throttled().retry_after(RetryAfter::Seconds(60)));
    let began = Instant::now();
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::Throttled);
    assert!(began.elapsed() < 5 * SECOND);
    assert_eq!(bench.gets(), 1);
}

#[tokio::test]
async fn no_answer_ends_at_the_deadline_and_delays_nobody_else() {
    let bench = Bench::new();
    bench.set_secret("hung", "v");
    bench.set_secret("other", "v");
    bench.vault.warm_up().await;
    bench.add_fault(Fault::hang().secret("hung"));
    let began = Instant::now();
    let (hung, other) = tokio::join!(bench.get_within("hung", SECOND), async {
        let other = bench.get("other").await;
        (other, began.elapsed())
    });
    assert_eq!(hung.unwrap_err().failure, Failure::TimedOut);
    assert!((SECOND..2 * SECOND).contains(&began.elapsed()));
    assert_eq!(other.0.unwrap().value.expose(), b"v");
    assert!(other.1 < SECOND, "{:?}", other.1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_asked_for_again_and_never_shown() {
    let version = "0".repeat(32);
    let of_another = format!(
        r#"{{"value":"wrong","id":"https://localhost/secrets/b/{version}","attributes":{{}}}}"#
    );
    for effect in [
        Effect::Html { status: 200 },
        Effect::Body {
            status: 200,
            text: of_another,
        },
        Effect::Body {
            status: 200,
            text: String::new(),
        },
        Effect::Body {
            status: 204,
            text: String::new(),
        },
        Effect::CutBody(0),
        Effect::CutBody(30),
        Effect::ContentLength(30),
        Effect::ContentLength(100_000),
        Effect::HugeBody(100 << 20),
    ] {
        let bench = Bench::new();
        bench.set_secret("a", "right");
        let once = bench.add_fault(Fault::new(effect.clone()).first(1));
        match bench.get("a").await {
            Ok(secret) => assert_eq!(secret.value.expose(), b"right", "{effect:?}"),
            // A 204 is an answer; it just says nothing.
            Err(error) => assert_eq!(error.status, Some(204), "{effect:?}"),
        }
        bench.remove_fault(once);
        bench.add_fault(Fault::new(effect.clone()));
        let began = Instant::now();
        let error = bench.get("a").await.unwrap_err();
        assert_eq!(error.failure, Failure::Malformed, "{effect:?} {error}");
        assert!(began.elapsed() < 5 * SECOND, "{effect:?}");
        assert!(!format!("{error:?}").contains("right"), "{error:?}");
    }
}

#[tokio::test]
async fn a_compressed_answer_is_not_unpacked() {
    let bench = Bench::new();
    let mut fault = Fault::new(Effect::Body {
        status: 200,
        text: "\u{1f}\u{8b}\u{8}".repeat(1000),
    });
    fault
        .headers
        .insert("content-encoding".into(), "gzip".into());
    bench.add_fault(fault);
    assert_eq!(
        bench.get("a").await.unwrap_err().failure,
        Failure::Malformed
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let bench = Bench::new();
    bench.set_secret("a", "v");
    let elsewhere = format!("{}/secrets/a?api-version=7.6", bench.endpoints().vault);
    bench.add_fault(Fault::new(Effect::Redirect(elsewhere)).first(1));
    assert_eq!(
        bench.get("a").await.unwrap_err().failure,
        Failure::Redirected
    );
    assert_eq!(bench.gets(), 1);
}
