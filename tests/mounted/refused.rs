//! What a program is refused, and when: before close(2), whose errors many ignore, and with
//! nothing lost.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use keyvaultfs::emulator::{Operation, Permission};
use nix::errno::Errno;

use crate::harness::{Mount, errno};

#[test]
fn changes_that_change_nothing_succeed_and_others_are_refused() {
    let mount = Mount::new();
    mount.emulator.set_clock_skew(-1_000_000);
    mount.emulator.set_secret("f", "1");
    let times = || {
        let shown = fs::metadata(mount.path("f")).expect("it is there");
        (shown.mtime(), shown.ctime())
    };
    let before = times();
    mount
        .sh("chmod 600 $M/f && chown 0:0 $M/f && touch -d 2001-01-01 $M/f && touch $M/f")
        .ok();
    assert_eq!(times(), before);
    for script in [
        "chmod 644 $M/f",
        "chown 65534 $M/f",
        "rm -f $M/f",
        "mkdir $M/d",
        "ln -s f $M/link",
        "ln $M/f $M/link",
        "mknod $M/pipe p",
        "mv -T $M/f $M/g",
        "rmdir $M",
    ] {
        mount.sh(script).fails_with("");
    }
    assert_eq!(mount.values("f"), ["1"]);
    assert_eq!(mount.count(Operation::Set), 0);
}

/// They go on after no other error than ENOENT, which would make `rm -f` lie.
#[test]
fn tools_that_remove_what_they_replace_are_refused_and_nothing_is_lost() {
    let mount = Mount::new();
    mount.emulator.set_secret("f", "old");
    // Not a tmpfs: another file system than the mount in any case.
    fs::write(mount.scratch.join("new"), "new").expect("it can be written");
    for script in [
        "install -m 600 new $M/f",
        "cp --remove-destination new $M/f",
        "mv new $M/f",
        "mv -f new $M/f",
        "rm -f $M/f",
    ] {
        mount.sh(script).fails_with("Operation not permitted");
        assert_eq!(mount.sh("cat $M/f new").ok(), "oldnew", "{script}");
    }
    // Nor is there a temporary file: one would be counted as it is dropped.
    let mut mount = mount;
    mount.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(mount.wait().success());
    assert!(
        !mount.log_text().contains("left behind"),
        "{}",
        mount.log_text()
    );
    assert_eq!(mount.values("f"), ["old"]);
    assert_eq!(mount.emulator.secret_names(), ["f"]);
    assert_eq!(mount.count(Operation::Set), 0);
}

#[test]
fn opening_with_o_trunc_is_told_from_truncating_a_path() {
    let mount = Mount::new();
    mount.emulator.set_secret("f", "old");
    // There is no close that could set the result.
    let truncated = nix::unistd::truncate(&mount.path("f"), 0);
    assert_eq!(truncated, Err(Errno::EPERM));
    let mut emptied = File::create(mount.path("f")).expect("it opens");
    emptied.write_all(b"new").expect("it can be written");
    drop(emptied);
    assert_eq!(mount.values("f"), ["old", "new"]);
}

#[test]
fn a_name_lately_denied_is_refused_at_open_and_costs_no_question() {
    let mount = Mount::new();
    mount.emulator.set_policy([Permission::Get]);
    mount.emulator.set_secret("f", "1");
    let open = || errno(OpenOptions::new().append(true).open(mount.path("f")));
    let written = open().and_then(|mut file| errno(file.write(b"x")));
    assert_eq!(written, Err(Errno::EACCES), "at the first write");
    assert_eq!(mount.count(Operation::Set), 1, "the question");
    assert_eq!(open().map(drop), Err(Errno::EACCES), "at open");
    let created = errno(File::create(mount.path("F")));
    assert_eq!(created.map(drop), Err(Errno::EACCES), "by any spelling");
    assert_eq!(mount.count(Operation::Set), 1);
}

#[test]
fn a_file_created_and_not_yet_set_exists_here_alone_and_only_while_it_is_open() {
    let mount = Mount::new();
    let mut file = File::create(mount.path("f")).expect("it can be made");
    file.write_all(b"abc").expect("it can be written");
    let length = || errno(fs::metadata(mount.path("f"))).map(|shown| shown.len());
    assert_eq!(length(), Ok(3));
    assert!(mount.emulator.secret_names().is_empty());
    file.set_len(0).expect("it can be emptied");
    drop(file);
    // The release of a file comes after its close has returned.
    crate::harness::wait_until("it is gone", || length() == Err(Errno::ENOENT));
    assert!(mount.emulator.secret_names().is_empty());
}
