//! `--cache-ttl` and `--stale-if-error`: which opens a pulled value may serve.

use std::fs;

use keyvaultfs::emulator::{Fault, Operation};
use nix::errno::Errno;

use crate::harness::{Setup, errno};

#[test]
fn a_value_serves_other_opens_for_its_ttl_and_a_set_through_the_mount_replaces_it_at_once() {
    let mount = Setup::new().argument("--cache-ttl=10m").mount();
    mount.emulator.set_secret("a", "1");
    let read = |name: &str| errno(fs::read_to_string(mount.path(name)));
    for _ in 0..3 {
        assert_eq!(read("a").as_deref(), Ok("1"));
    }
    assert_eq!(mount.vault_requests(), ["GET /secrets/a 200"]);
    mount.emulator.set_secret("a", "set elsewhere");
    assert_eq!(read("a").as_deref(), Ok("1"), "for its ttl");
    fs::write(mount.path("a"), "2").expect("it can be written");
    let asked = mount.count(Operation::Get);
    assert_eq!(read("a").as_deref(), Ok("2"), "replaced at once");
    assert_eq!(mount.count(Operation::Get), asked);
}

#[test]
fn a_stale_value_serves_when_the_vault_fails_and_never_against_its_word() {
    let setup = Setup::new().argument("--stale-if-error=1h");
    let mount = setup.argument("--timeout=1s").mount();
    for (status, code, expected) in [
        (408, "RequestTimeout", Ok("1")),
        (429, "Throttled", Ok("1")),
        (503, "Busy", Ok("1")),
        (404, "SecretNotFound", Err(Errno::ENOENT)),
        (403, "Forbidden", Err(Errno::EACCES)),
    ] {
        // A name of its own each, since an answer is remembered for a moment.
        let name = format!("a{status}");
        let read = || errno(fs::read_to_string(mount.path(&name)));
        mount.emulator.set_secret(&name, "1");
        assert_eq!(read().as_deref(), Ok("1"));
        let fault = Fault::error(status, code, None).method("GET").secret(&name);
        mount.emulator.add_fault(fault);
        assert_eq!(
            read().as_deref().map_err(|errno| *errno),
            expected,
            "{status}"
        );
    }
}
