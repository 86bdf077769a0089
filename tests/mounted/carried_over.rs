//! What a new version keeps of the one before: content type and tags, never how it was encoded.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::IntoRawFd;

use keyvaultfs::emulator::{Operation, Settings};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use crate::harness::{Mount, Setup, errno};

fn settings<const N: usize>(tags: [(&str, &str); N]) -> Settings {
    Settings {
        content_type: Some("text/plain".to_owned()),
        tags: tags.map(|(tag, text)| (tag.into(), text.into())).into(),
        ..Settings::default()
    }
}

/// The last version's value and settings.
fn last(mount: &Mount, name: &str) -> (String, Settings) {
    let last = mount.emulator.versions(name).pop().expect("there is one");
    (last.value, last.settings)
}

#[test]
fn overwriting_keeps_content_type_and_tags() {
    let mount = Mount::new();
    let kept = settings([("owner", "dba")]);
    mount.emulator.set_secret_with("f", "1", kept.clone());
    mount.sh("printf 2 > $M/f").ok();
    assert_eq!(last(&mount, "f"), ("2".to_owned(), kept));
}

#[test]
fn bytes_that_are_no_text_are_stored_in_base64_and_the_tag_goes_when_text_replaces_them() {
    let mount = Mount::new();
    mount
        .emulator
        .set_secret_with("f", "1", settings([("owner", "dba")]));
    fs::write(mount.path("f"), b"\xff\0").expect("it can be written");
    let encoded = settings([("owner", "dba"), ("file-encoding", "base64")]);
    assert_eq!(last(&mount, "f"), ("/wA=\n".to_owned(), encoded));
    assert_eq!(fs::read(mount.path("f")).expect("it is there"), b"\xff\0");
    fs::write(mount.path("f"), "text").expect("it can be written");
    let plain = settings([("owner", "dba")]);
    assert_eq!(last(&mount, "f"), ("text".to_owned(), plain));
    // As others encode, with white space among it.
    for (encoding, value) in [("base64", "/w\n A=\n"), ("hex", "fF\n 00")] {
        let encoded = settings([("file-encoding", encoding)]);
        mount.emulator.set_secret_with("g", value, encoded);
        assert_eq!(fs::read(mount.path("g")).expect("it is there"), b"\xff\0");
    }
}

#[test]
fn overwriting_what_cannot_be_shown_keeps_its_content_type_and_tags() {
    let mount = Mount::new();
    let odd = settings([("owner", "dba"), ("file-encoding", "base64")]);
    let kept = settings([("owner", "dba")]);
    for script in [
        "printf 2 > $M/f",
        "printf 2 | dd of=$M/f status=none",
        "python3 -c 'import os; f = os.open(os.environ[\"M\"] + \"/f\", os.O_WRONLY); os.ftruncate(f, 0); os.write(f, b\"2\")'",
        "(set -C; printf 2 > $M/f.tmp) && mv $M/f.tmp $M/f",
    ] {
        mount
            .emulator
            .set_secret_with("f", "no base64!", odd.clone());
        mount.sh(script).ok();
        assert_eq!(
            last(&mount, "f"),
            ("2".to_owned(), kept.clone()),
            "{script}"
        );
    }
}

#[test]
fn a_tag_too_many_is_refused_at_the_first_write_and_never_sent() {
    let mount = Setup::new().argument("--tag=t0=mount").mount();
    let tags = |count: usize| -> Settings {
        let tag = |number| (format!("t{number}"), "vault".to_owned());
        Settings {
            tags: (1..=count).map(tag).collect(),
            ..Settings::default()
        }
    };
    mount.emulator.set_secret_with("full", "1", tags(15));
    let mut file = OpenOptions::new();
    let file = file.append(true).open(mount.path("full"));
    let mut file = file.expect("it opens");
    assert_eq!(errno(file.write(b"2")), Err(Errno::E2BIG));
    assert_eq!(
        nix::unistd::close(file.into_raw_fd()),
        Ok(()),
        "nothing waits"
    );
    mount
        .sh("printf 2 | tee $M/full")
        .fails_with("Argument list too long");
    mount
        .sh("(set -C; printf 2 > $M/full.tmp); mv $M/full.tmp $M/full")
        .fails_with("Argument list too long");
    assert_eq!(mount.count(Operation::Set), 0);
    assert!(mount.log_text().contains("a vault takes 15"));
    // Of one fewer all fit, until the value's encoding needs one.
    mount.emulator.set_secret_with("most", "1", tags(14));
    mount.sh("printf 2 > $M/most").ok();
    assert_eq!(last(&mount, "most").1.tags.len(), 15);
    mount
        .sh("printf '\\xff' | tee $M/most > out")
        .fails_with("Argument list too long");
    assert_eq!(mount.values("most"), ["1", "2"]);
}

#[test]
fn a_disabled_secret_opened_before_its_worker_died_is_refused_for_what_it_is() {
    let mount = Mount::new();
    mount.emulator.set_secret("off", "1");
    mount.emulator.set_enabled("off", false);
    let mut open = OpenOptions::new();
    let mut file = open.write(true).open(mount.path("off")).expect("it opens");
    assert_eq!(errno(file.write(b"2")), Err(Errno::EPERM));
    kill(mount.worker(), Signal::SIGKILL).expect("it can be killed");
    assert_eq!(errno(file.write(b"2")), Err(Errno::EPERM));
    file.set_len(0).expect("it can be emptied");
    file.write_all(b"2").expect("it can be written");
    drop(file);
    assert_eq!(mount.values("off"), ["1", "2"]);
}
