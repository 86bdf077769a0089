//! PUT: exactly one version for each set that is done, and an error for each that is not.

use std::time::{Duration, Instant};

use keyvaultfs::emulator::{Deletion, Effect, Fault, Operation, Options, Permission};
use keyvaultfs::secrets::{Checked, Failure, SecretName, SecretStore};

use super::bench::{Bench, LONG, new_secret};

const SECOND: Duration = Duration::from_secs(1);

fn put_fault(effect: Effect) -> Fault {
    Fault::new(effect).method("PUT")
}

fn unavailable() -> Fault {
    Fault::error(503, "ServiceUnavailable", None).method("PUT")
}

#[tokio::test]
async fn a_set_makes_one_version_with_exactly_these_bytes_type_and_tags() {
    let bench = Bench::new();
    let mut new = new_secret(b"Helloworld\n");
    new.content_type = Some("text/plain".to_owned());
    new.tags.insert("team".to_owned(), "blue".to_owned());
    let name = SecretName::parse("MySecret").unwrap();
    let deadline = Instant::now() + LONG;
    let properties = bench.vault.set(&name, &new, deadline).await.unwrap();
    let versions = bench.versions("MySecret");
    let [version] = &versions[..] else {
        panic!("one version, not {}", versions.len());
    };
    assert_eq!(version.value, "Helloworld\n");
    assert_eq!(version.settings.content_type.as_deref(), Some("text/plain"));
    assert_eq!(version.settings.tags, new.tags);
    assert_eq!(properties.version.as_str(), version.version);
    assert_eq!(properties.tags, new.tags);
    assert_eq!((bench.sets(), bench.gets()), (1, 0));
}

#[tokio::test]
async fn any_bytes_come_back_as_they_were_set() {
    let bench = Bench::new();
    let every_byte: Vec<u8> = (0..=255).collect();
    for value in [
        &b""[..],
        b"\n",
        "äöü \u{1F511} \"\\\r\n\u{0}".as_bytes(),
        &every_byte,
    ] {
        bench.set_within("a", value, None, LONG).await.unwrap();
        assert_eq!(bench.get("a").await.unwrap().value.expose(), value);
    }
}

#[tokio::test]
async fn a_set_that_was_carried_out_unanswered_is_done_and_not_repeated() {
    for known in [true, false] {
        for effect in [
            Effect::Cut,
            Effect::CutBody(10),
            Effect::ContentLength(10),
            Effect::Html { status: 200 },
            Effect::Html { status: 503 },
            Effect::Html { status: 500 },
            Effect::Html { status: 408 },
        ] {
            let bench = Bench::new();
            // The name is used before, long ago by the emulator's clock.
            bench.set_clock_skew(-3600);
            let old = bench.set_secret("a", "old");
            bench.set_clock_skew(0);
            bench.add_fault(put_fault(effect.clone()).after().first(1));
            let previous = known.then_some(&*old);
            let properties = bench.set_within("a", b"new", previous, LONG).await.unwrap();
            assert_eq!(bench.values("a"), ["old", "new"], "{effect:?} {known}");
            let current = bench.versions("a").pop().unwrap();
            assert_eq!(properties.version.as_str(), current.version, "{effect:?}");
        }
    }
}

#[tokio::test]
async fn a_set_that_never_arrived_is_repeated_until_it_is_done() {
    for known in [true, false] {
        for fault in [
            put_fault(Effect::Cut),
            put_fault(Effect::Html { status: 500 }),
            put_fault(Effect::Html { status: 408 }),
            unavailable(),
            Fault::throttled().method("PUT"),
            Fault::signing_key_unresolved().method("PUT"),
        ] {
            let bench = Bench::new();
            bench.set_clock_skew(-3600);
            let old = bench.set_secret("a", "same");
            bench.set_clock_skew(0);
            bench.add_fault(fault.clone().only([1, 2]));
            let previous = known.then_some(&*old);
            bench
                .set_within("a", b"same", previous, LONG)
                .await
                .unwrap();
            assert_eq!(bench.values("a"), ["same", "same"], "{fault:?} {known}");
            assert_eq!(bench.sets(), 3, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_new_name_that_never_arrived_is_set_again() {
    let bench = Bench::new();
    bench.add_fault(put_fault(Effect::Cut).first(1));
    bench.set_within("new", b"v", None, LONG).await.unwrap();
    assert_eq!(bench.values("new"), ["v"]);
}

#[tokio::test]
async fn where_the_current_version_may_not_be_seen_a_lost_set_is_an_error_and_not_repeated() {
    for after in [true, false] {
        let bench = Bench::with(
            Options {
                policy: [Permission::Set].into(),
                ..Options::default()
            },
            |_| {},
        );
        let fault = unavailable().first(1);
        bench.add_fault(if after { fault.after() } else { fault });
        let error = bench.set_within("a", b"v", None, LONG).await.unwrap_err();
        assert_eq!(error.failure, Failure::ServerError);
        assert_eq!((bench.sets(), bench.gets()), (1, 1));
        assert_eq!(bench.versions("a").len(), usize::from(after));
    }
}

#[tokio::test]
async fn a_set_without_an_answer_ends_at_the_deadline() {
    let bench = Bench::new();
    bench.vault.warm_up().await;
    bench.add_fault(put_fault(Effect::Hang));
    let began = Instant::now();
    let error = bench.set_within("a", b"v", None, SECOND).await.unwrap_err();
    assert_eq!(error.failure, Failure::TimedOut);
    assert!((SECOND..2 * SECOND).contains(&began.elapsed()));
    assert_eq!(bench.sets(), 1);
}

#[tokio::test]
async fn a_vault_that_stays_down_gives_an_error_and_no_version() {
    let bench = Bench::new();
    bench.add_fault(unavailable());
    let error = bench.set_within("a", b"v", None, LONG).await.unwrap_err();
    assert_eq!(error.failure, Failure::ServerError);
    assert_eq!(bench.sets(), 5);
    assert!(bench.versions("a").is_empty());
}

#[tokio::test]
async fn what_the_vault_refuses_to_set_is_told_apart_after_one_request() {
    let bench = Bench::new();
    for name in ["managed", "deleted", "leaving", "coming"] {
        bench.set_secret(name, "v");
    }
    bench.set_managed("managed", true);
    bench.set_deletion("deleted", Deletion::Recoverable);
    bench.set_deletion("leaving", Deletion::BeingDeleted);
    bench.set_deletion("coming", Deletion::BeingRecovered);
    let long = "x".repeat(25_601);
    for (name, value, failure) in [
        ("managed", "v", Failure::Managed),
        ("deleted", "v", Failure::DeletedButRecoverable),
        ("leaving", "v", Failure::Busy),
        ("coming", "v", Failure::Busy),
        ("long", &long, Failure::TooLarge),
    ] {
        bench.clear_log();
        let set = bench.set_within(name, value.as_bytes(), None, LONG).await;
        assert_eq!(set.unwrap_err().failure, failure, "{name}");
        assert_eq!((bench.sets(), bench.gets()), (1, 0), "{name}");
    }
}

#[tokio::test]
async fn asking_whether_a_name_may_be_set_never_sets_it() {
    let bench = Bench::new();
    bench.set_secret("managed", "v");
    bench.set_managed("managed", true);
    assert_eq!(bench.check_set("a").await.unwrap(), Checked::Allowed);
    assert!(bench.versions("a").is_empty());
    bench.set_policy([Permission::Get]);
    let refused = bench.check_set("a").await.unwrap_err();
    assert_eq!(refused.failure, Failure::Forbidden);
    assert!(refused.hint.unwrap().contains("set-policy"));
    assert_eq!(bench.versions("managed").len(), 1);
    assert_eq!(bench.count(Operation::List), 0);
}

#[tokio::test]
async fn only_a_clear_refusal_stops_a_set_beforehand() {
    let bench = Bench::new();
    for (fault, failure) in [
        (
            Fault::error(403, "Forbidden", Some("ForbiddenByRbac")),
            Some(Failure::Forbidden),
        ),
        (
            Fault::error(403, "Forbidden", Some("ForbiddenByFirewall")),
            Some(Failure::Forbidden),
        ),
        (
            Fault::error(403, "Forbidden", Some("SecretManagedByKeyVault")),
            Some(Failure::Managed),
        ),
        (Fault::error(403, "Forbidden", Some("SecretDisabled")), None),
        (
            Fault::error(409, "Conflict", Some("ObjectIsBeingDeleted")),
            None,
        ),
        (Fault::throttled(), None),
        (Fault::error(500, "x", None), None),
        (Fault::cut(), None),
        (Fault::error(401, "Unauthorized", None), None),
    ] {
        bench.clear_log();
        let id = bench.add_fault(fault.clone().method("PUT"));
        let answer = bench.check_set("a").await;
        let expected = failure.map_or(Ok(Checked::Unknown), Err);
        assert_eq!(answer.map_err(|error| error.failure), expected, "{fault:?}");
        bench.remove_fault(id);
        assert!(bench.sets() <= 2, "{fault:?}");
    }
    assert!(bench.versions("a").is_empty());
}
