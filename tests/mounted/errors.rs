//! The table of errors: what happened, by script, and the errno that a reader gets.

use std::time::{Duration, Instant};

use keyvaultfs::emulator::{Certificate, Effect, Fault, Operation, RetryAfter, Service};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use crate::harness::{Mount, Setup, errno, wait_until};

/// A mount whose operations end soon.
fn hasty() -> Mount {
    let mount = Setup::new().argument("--timeout=2s").mount();
    mount.emulator.set_secret("a", "1");
    mount
}

/// Reads in a thread of its own: a thread that is told of a failure and asks again within 100 ms
/// is taken for the kernel, which does so by itself, and is told the same.
fn read(mount: &Mount, name: &str) -> Result<Vec<u8>, Errno> {
    let path = mount.path(name);
    let reader = std::thread::spawn(|| errno(std::fs::read(path)));
    reader.join().expect("the reader does not panic")
}

/// Reads while every request meets the fault, then without it.
fn read_with(mount: &Mount, fault: Fault) -> Result<Vec<u8>, Errno> {
    mount.emulator.add_fault(fault);
    let outcome = read(mount, "a");
    mount.emulator.clear_faults();
    outcome
}

#[test]
fn refusals_of_the_vault_have_their_errno() {
    let mount = hasty();
    let forbidden = |inner| Fault::error(403, "Forbidden", Some(inner));
    for (fault, expected) in [
        (Fault::error(404, "SecretNotFound", None), Errno::ENOENT),
        (Fault::error(401, "Unauthorized", None), Errno::EACCES),
        (forbidden("AccessDenied"), Errno::EACCES),
        (forbidden("ForbiddenByRbac"), Errno::EACCES),
        (forbidden("ForbiddenByPolicy"), Errno::EACCES),
        (forbidden("ForbiddenByFirewall"), Errno::EACCES),
        (forbidden("ForbiddenByConnection"), Errno::EACCES),
        (forbidden("SecretDisabled"), Errno::EPERM),
    ] {
        // Another mount would do too; that a refusal is remembered must not carry over.
        let mount = if expected == Errno::EACCES {
            &hasty()
        } else {
            &mount
        };
        let what = format!("{fault:?}");
        assert_eq!(read_with(mount, fault), Err(expected), "{what}");
    }
}

#[test]
fn failures_that_last_have_their_errno() {
    let mount = hasty();
    let body = |text: &str| Effect::Body {
        status: 200,
        text: text.to_owned(),
    };
    for (fault, expected) in [
        (Fault::throttled(), Errno::EAGAIN),
        (
            Fault::throttled().retry_after(RetryAfter::Seconds(60)),
            Errno::EAGAIN,
        ),
        (Fault::signing_key_unresolved(), Errno::EAGAIN),
        (Fault::error(500, "InternalServerError", None), Errno::EIO),
        (Fault::error(503, "ServiceUnavailable", None), Errno::EIO),
        (Fault::new(Effect::Html { status: 502 }), Errno::EIO),
        (Fault::new(body("{\"value\": \"cut")), Errno::EIO),
        (Fault::new(body("{}")), Errno::EIO),
        (Fault::new(Effect::CutBody(20)), Errno::EIO),
        (Fault::new(Effect::ContentLength(20)), Errno::EIO),
        (Fault::new(Effect::HugeBody(50_000_000)), Errno::EIO),
        (Fault::cut(), Errno::EHOSTUNREACH),
        (Fault::hang(), Errno::ETIMEDOUT),
        (
            Fault::new(Effect::Redirect("https://elsewhere.invalid/".to_owned())),
            Errno::EPROTO,
        ),
    ] {
        let what = format!("{fault:?}");
        assert_eq!(read_with(&mount, fault), Err(expected), "{what}");
        assert_eq!(read(&mount, "a"), Ok(b"1".to_vec()), "after {what}");
    }
}

#[test]
fn a_vault_that_refuses_connections_is_unreachable_and_comes_back() {
    let mount = hasty();
    assert!(read(&mount, "a").is_ok());
    mount
        .emulator
        .pause(Service::KeyVault)
        .expect("it can be paused");
    assert_eq!(read(&mount, "a"), Err(Errno::EHOSTUNREACH));
    mount
        .emulator
        .resume(Service::KeyVault)
        .expect("it can be resumed");
    assert_eq!(read(&mount, "a"), Ok(b"1".to_vec()));
}

#[test]
fn a_vault_that_cannot_prove_who_it_is_gets_no_token() {
    let mount = hasty();
    for certificate in [
        Certificate::Expired,
        Certificate::WrongHost,
        Certificate::UnknownIssuer,
    ] {
        mount
            .emulator
            .set_certificate(certificate)
            .expect("it can be changed");
        mount.emulator.clear_log();
        assert_eq!(read(&mount, "a"), Err(Errno::EPROTO), "{certificate:?}");
        assert!(mount.vault_requests().is_empty());
    }
    mount
        .emulator
        .set_certificate(Certificate::Valid)
        .expect("it can be changed");
    assert_eq!(read(&mount, "a"), Ok(b"1".to_vec()));
}

#[test]
fn passing_failures_are_not_seen_by_the_reader() {
    let mount = Setup::new().mount();
    mount.emulator.set_secret("a", "1");
    for fault in [
        Fault::throttled(),
        Fault::throttled().retry_after(RetryAfter::Seconds(1)),
        Fault::throttled().retry_after(RetryAfter::DateIn(1)),
        Fault::throttled().retry_after(RetryAfter::Milliseconds(50)),
        Fault::signing_key_unresolved(),
        Fault::error(500, "InternalServerError", None),
        Fault::error(408, "Timeout", None),
        Fault::cut(),
        Fault::new(Effect::CutBody(20)),
    ] {
        let what = format!("{fault:?}");
        mount.emulator.clear_log();
        assert_eq!(
            read_with(&mount, fault.first(2)),
            Ok(b"1".to_vec()),
            "{what}"
        );
        assert_eq!(mount.count(Operation::Get), 3, "{what}");
    }
}

#[test]
fn an_operation_ends_within_its_time_whatever_the_vault_says() {
    // The kernel makes two requests of an open; together they have the time of one.
    let limit = Duration::from_millis(2_000 + 800);
    let mount = Setup::new().argument("--timeout=2s").alone().mount();
    mount.emulator.set_secret("a", "1");
    for fault in [
        Fault::hang(),
        Fault::throttled().retry_after(RetryAfter::Seconds(3_600)),
        Fault::error(503, "Busy", None),
    ] {
        let what = format!("{fault:?}");
        mount.emulator.add_fault(fault);
        let outcome = mount.sh("cat $M/a");
        mount.emulator.clear_faults();
        outcome.fails_with("");
        assert!(outcome.took < limit, "{what}: {:?}", outcome.took);
    }
}

#[test]
fn the_log_explains_a_failure_and_holds_no_secret() {
    let mount = hasty();
    mount.emulator.set_secret("a", "canary-value");
    assert!(read(&mount, "a").is_ok());
    let firewall = Fault::error(403, "Forbidden", Some("ForbiddenByFirewall"));
    assert_eq!(read_with(&mount, firewall), Err(Errno::EACCES));
    let log = mount.log_text();
    assert!(log.contains("ForbiddenByFirewall"), "{log}");
    let denied = mount.emulator.log().pop().expect("there were requests");
    assert!(log.contains(&denied.request_id), "{log}");
    assert!(
        !log.contains("canary-value") && !log.contains("eyJ0"),
        "{log}"
    );
}

#[test]
fn a_killed_worker_lengthens_nobodys_wait_for_a_vault_that_hangs_nor_shortens_it() {
    let mount = Setup::new().argument("--timeout=3s").alone().mount();
    mount.emulator.set_secret("a", "1");
    mount.emulator.add_fault(Fault::hang());
    let read = || {
        let started = Instant::now();
        let outcome = errno(std::fs::read(mount.path("a")));
        (outcome, started.elapsed())
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(read);
        wait_until("it is asked for", || mount.count(Operation::Get) > 0);
        // A LOOKUP waits for a second; it is the OPEN behind it that has no worker now.
        std::thread::sleep(Duration::from_millis(1_300));
        kill(mount.worker(), Signal::SIGKILL).expect("there is a worker");
        let second = scope.spawn(read);
        for reader in [first, second] {
            let (outcome, took) = reader.join().expect("no reader panics");
            assert_eq!(outcome, Err(Errno::ETIMEDOUT));
            let took = took.as_millis();
            assert!((2_900..4_200).contains(&took), "{took} ms");
        }
    });
}
