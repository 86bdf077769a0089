//! Mounting, unmounting, and what is said to those who ask for what cannot be.

use std::collections::BTreeMap;
use std::time::Duration;

use keyvaultfs::emulator::Service;
use nix::sys::signal::Signal;

use crate::harness::{Mount, Outcome, Setup, is_mounted, mount_line, processes_of, wait_until};

impl Mount {
    /// Mounts in the background, by the program's own word.
    fn start_in_background(&self) -> Outcome {
        let arguments = self.mount_arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.program(&arguments)
    }
}

#[test]
fn in_the_background_it_returns_when_the_mount_is_there() {
    let mount = Setup::new().prepare();
    mount.emulator.set_secret("a", "1");
    let outcome = mount.start_in_background();
    outcome.ok();
    assert!(is_mounted(&mount.mountpoint));
    assert_eq!(mount.sh("cat $M/a").ok(), "1");
    assert!(!processes_of(&mount.mountpoint).is_empty());
    mount.sh("umount $M").ok();
    assert!(!is_mounted(&mount.mountpoint));
    wait_until("no process is left", || {
        processes_of(&mount.mountpoint).is_empty()
    });
}

#[test]
fn the_mount_is_shown_as_promised() {
    let mount = Mount::new();
    let line = mount_line(&mount.mountpoint).expect("it is mounted");
    let fields: Vec<&str> = line.split(' ').collect();
    assert_eq!(fields[0], mount.emulator.endpoints().vault);
    assert_eq!(fields[2], "fuse.keyvaultfs");
    for option in [
        "nosuid",
        "nodev",
        "noexec",
        "noatime",
        "default_permissions",
    ] {
        assert!(fields[3].split(',').any(|one| one == option), "{line}");
    }
    assert!(!fields[3].contains("allow_other"), "{line}");
    assert_eq!(mount.sh("stat -c %A $M").ok(), "d-wx------\n");
}

#[test]
fn sigterm_and_sigint_unmount_and_end_it_well() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut mount = Mount::new();
        mount.signal(signal);
        let status = mount.wait();
        assert!(status.success(), "{signal}: {status}");
        assert!(!is_mounted(&mount.mountpoint));
        wait_until("no process is left", || {
            processes_of(&mount.mountpoint).is_empty()
        });
    }
}

#[test]
fn an_unmount_from_outside_ends_it_well() {
    for script in ["umount $M", "fusermount3 -u $M", "umount -l $M"] {
        let mut mount = Mount::new();
        mount.sh(script).ok();
        let status = mount.wait();
        assert!(status.success(), "{script}: {status}");
        assert!(!is_mounted(&mount.mountpoint));
    }
}

#[test]
fn mounting_needs_no_network() {
    let mount = Setup::new().alone().prepare();
    mount.emulator.set_secret("a", "1");
    for service in [Service::Imds, Service::KeyVault] {
        mount.emulator.pause(service).expect("it can be paused");
    }
    let outcome = mount.start_in_background();
    outcome.ok();
    assert!(outcome.took < Duration::from_secs(3), "{:?}", outcome.took);
    for service in [Service::Imds, Service::KeyVault] {
        mount.emulator.resume(service).expect("it can be resumed");
    }
    wait_until("the vault is there", || {
        mount.sh("cat $M/a").code == Some(0)
    });
    mount.sh("umount $M").ok();
}

#[test]
fn bad_input_is_one_line_with_an_exit_code_of_its_own() {
    let mount = Setup::new().prepare();
    let ca = mount.emulator.endpoints().ca_cert.display().to_string();
    let vault = mount.emulator.endpoints().vault.clone();
    let resource = "--resource=https://vault.azure.net".to_owned();
    let at = mount.mountpoint.display().to_string();
    std::fs::write(mount.scratch.join("file"), "").expect("it can be written");
    let scratch = mount.scratch.display();
    let (file, missing) = (format!("{scratch}/file"), format!("{scratch}/missing"));
    let (not_ca, no_ca) = (format!("--ca-cert={file}"), format!("--ca-cert={missing}"));
    let ca = format!("--ca-cert={ca}");

    let cases: [(&str, &[&str], &[&str]); 14] = [
        ("vault", &["http://localhost:1", &at], &["https"]),
        ("vault", &["under_score", &at], &["under_score"]),
        ("vault", &["https://user@localhost", &at], &["localhost"]),
        ("vault", &["", &at], &["vault"]),
        (
            "resource",
            &[&ca, "https://localhost:1", &at],
            &["--resource"],
        ),
        (
            "missing",
            &[&resource, &ca, &vault, &missing],
            &["missing", "mkdir"],
        ),
        (
            "directory",
            &[&resource, &ca, &vault, &file],
            &["directory"],
        ),
        (
            "identity",
            &["--client-id=a", "--object-id=b", &resource, &vault, &at],
            &["--client-id", "--object-id"],
        ),
        ("ca", &[&no_ca, &resource, &vault, &at], &["--ca-cert"]),
        ("ca", &[&not_ca, &resource, &vault, &at], &["--ca-cert"]),
        (
            "usage",
            &["--no-such-option", &resource, &vault, &at],
            &["--no-such-option"],
        ),
        (
            "usage",
            &["-o", "no-such-option", &resource, &vault, &at],
            &["no-such-option"],
        ),
        ("usage", &[&resource, &vault], &["MOUNTPOINT"]),
        (
            "usage",
            &["--timeout=soon", &resource, &vault, &at],
            &["soon"],
        ),
    ];
    let mut codes: BTreeMap<&str, i32> = BTreeMap::new();
    for (kind, arguments, words) in cases {
        let outcome = mount.program(arguments);
        let code = outcome.code.expect("it ends by itself");
        assert!(code != 0 && code < 100, "{arguments:?}: {outcome:?}");
        assert_eq!(
            outcome.stderr.lines().count(),
            1,
            "{arguments:?}: {outcome:?}"
        );
        for word in words {
            assert!(outcome.stderr.contains(word), "{word}: {outcome:?}");
        }
        assert_eq!(
            *codes.entry(kind).or_insert(code),
            code,
            "{arguments:?}: {outcome:?}"
        );
        assert!(!is_mounted(&mount.mountpoint), "{arguments:?}");
    }
    mount.start_in_background().ok();
    let again = mount.start_in_background();
    codes.insert("mounted", again.code.expect("it ends by itself"));
    again.fails_with("already");
    assert_eq!(again.stderr.lines().count(), 1, "{again:?}");
    mount.sh("umount $M").ok();
    assert!(!is_mounted(&mount.mountpoint), "it was mounted once only");

    let distinct: std::collections::BTreeSet<i32> = codes.values().copied().collect();
    assert_eq!(distinct.len(), codes.len(), "{codes:?}");
}
