//! "Temporary files live in memory only": their limits, what can be done to them, and what becomes
//! of those that are left.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::time::{Duration, Instant, UNIX_EPOCH};

use keyvaultfs::emulator::{Fault, Operation, Permission};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::harness::{Mount, errno, wait_until};

/// Creates a file the way mkstemp(3) does.
fn mkstemp(mount: &Mount, name: &str) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(mount.path(name))
}

#[test]
fn names_that_editors_make_beside_a_secret_live_in_memory_and_never_reach_the_vault() {
    let mount = Mount::new();
    let always = [
        ".db.swp",
        ".db.swo",
        ".db.swpx",
        "db~",
        "#db#",
        ".#db",
        ".db.Xy12zQ",
    ];
    for name in always {
        fs::write(mount.path(name), "hunter2").expect("it can be made");
        assert_eq!(fs::read(mount.path(name)).expect("it is there"), b"hunter2");
    }
    for name in ["db.lock", "db.tmp", "db.new"] {
        let plainly = errno(fs::write(mount.path(name), "x"));
        assert_eq!(plainly, Err(Errno::EINVAL), "{name} without O_EXCL");
        let mut made = File::create_new(mount.path(name)).expect("it can be made");
        made.write_all(b"hunter2").expect("it can be written");
    }
    // vim's probe has a secret's name, and the vault is asked whether it is one.
    drop(File::create_new(mount.path("4913")).expect("it can be made"));
    for name in always
        .iter()
        .chain(&["db.lock", "db.tmp", "db.new", "4913"])
    {
        fs::remove_file(mount.path(name)).expect("it can be removed");
    }
    assert!(mount.emulator.secret_names().is_empty());
    assert_eq!(mount.vault_requests(), ["GET /secrets/4913 404"]);
}

#[test]
fn there_are_at_most_64_temporary_files_of_64_kib() {
    let mount = Mount::new();
    let path = |number: usize| mount.path(&format!(".f{number}.swp"));
    let made = |number| errno(File::create_new(path(number)));
    let mut first = made(0).expect("there is room");
    first.write_all(&[b'x'; 65_536]).expect("there is room");
    assert_eq!(errno(first.write(b"x")), Err(Errno::EFBIG));
    assert_eq!(errno(first.set_len(65_537)), Err(Errno::EFBIG));
    let length = fs::metadata(path(0)).expect("it is there").len();
    assert_eq!(length, 65_536, "what was written stays");
    for number in 1..64 {
        made(number).expect("there is room");
    }
    assert_eq!(made(64).map(drop), Err(Errno::ENOSPC));
    fs::remove_file(path(1)).expect("it can be removed");
    // The kernel forgets a file some time after its last close.
    wait_until("there is room again", || made(64).is_ok());
    assert!(mount.vault_requests().is_empty());
}

#[test]
fn modes_owners_and_times_of_a_temporary_file_are_as_they_were_set() {
    let mount = Mount::new();
    let path = mount.path(".db.swp");
    let file = File::create(&path).expect("it can be made");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("chmod works");
    chown(&path, Some(65534), Some(65534)).expect("chown works");
    let then = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let times = FileTimes::new().set_modified(then).set_accessed(then);
    file.set_times(times).expect("utimes works");
    let shown = fs::metadata(&path).expect("it is there");
    let owner = (shown.mode(), shown.uid(), shown.gid());
    assert_eq!(owner, (0o100_640, 65534, 65534));
    assert_eq!(shown.mtime(), 1_000_000_000);
}

#[test]
fn a_rename_onto_a_secret_reports_why_the_set_failed_and_loses_nothing() {
    let mount = Mount::new();
    mount.emulator.set_secret("db", "old");
    mkstemp(&mount, "sedAb12z")
        .and_then(|mut file| file.write_all(b"new"))
        .expect("it can be written");
    let rename = || errno(fs::rename(mount.path("sedAb12z"), mount.path("db")));
    let locked = Fault::error(409, "ScopeLocked", None).method("PUT");
    let fault = mount.emulator.add_fault(locked);
    assert_eq!(rename(), Err(Errno::EPERM));
    assert_eq!(mount.values("db"), ["old"]);
    mount.emulator.remove_fault(fault);
    assert_eq!(rename(), Ok(()));
    assert_eq!(mount.values("db"), ["old", "new"]);
    assert_eq!(mount.emulator.secret_names(), ["db"]);
}

#[test]
fn creating_renaming_and_removing_a_temporary_file_wait_for_no_vault() {
    let mount = Mount::new();
    mount.emulator.add_fault(Fault::hang());
    let began = Instant::now();
    let (swap, backup) = (mount.path(".db.swp"), mount.path("db~"));
    fs::write(&swap, "x").expect("it can be made");
    fs::rename(&swap, &backup).expect("it can be renamed");
    fs::remove_file(&backup).expect("it can be removed");
    // A hung vault would hold each of them for the whole of --timeout, 10 s.
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(mount.vault_requests().is_empty());
}

#[test]
fn at_unmount_a_file_made_as_mkstemp_does_is_set_and_others_are_dropped_with_a_warning() {
    let mut mount = Mount::new();
    mkstemp(&mount, "Real")
        .and_then(|mut file| file.write_all(b"v"))
        .expect("it can be written");
    fs::write(mount.path("db~"), "hunter2").expect("it can be made");
    mount.signal(Signal::SIGTERM);
    assert!(mount.wait().success());
    assert_eq!(mount.values("Real"), ["v"]);
    assert_eq!(mount.emulator.secret_names(), ["Real"]);
    let log = mount.log_text();
    let warned = log
        .lines()
        .any(|line| line.contains("left behind is dropped") && line.contains("db~"));
    assert!(warned && !log.contains("hunter2"), "{log}");
}

#[test]
fn a_search_for_a_free_name_ends_in_a_drop_box() {
    let mount = Mount::new();
    mount.emulator.set_policy([Permission::Set]);
    let made = mount.sh("mktemp -p $M tXXXXXXXX && echo v > $M/db");
    assert!(made.ok().contains("/t"));
    assert_eq!(mount.values("db"), ["v\n"]);
    let asked = mount.count(Operation::Get);
    assert!((1..=17).contains(&asked), "{asked}");
}

#[test]
fn a_file_that_is_being_replaced_outlives_a_new_program() {
    let mount = Mount::new();
    mount.emulator.set_secret("db", "old");
    let worker = mount.worker();
    let mut file = mkstemp(&mount, "sedAb12z").expect("it can be made");
    file.write_all(b"half, ").expect("it can be written");
    mount.signal(Signal::SIGHUP);
    wait_until("the next worker is ready", || {
        mount.log_text().contains("waits for temporary files")
    });
    file.write_all(b"whole").expect("it can be written");
    drop(file);
    assert_eq!(mount.sh("cat $M/db $M/sedAb12z").ok(), "oldhalf, whole");
    fs::rename(mount.path("sedAb12z"), mount.path("db")).expect("it can be renamed");
    wait_until("the next worker serves", || mount.worker() != worker);
    assert_eq!(mount.sh("cat $M/db").ok(), "half, whole");
    assert_eq!(mount.values("db"), ["old", "half, whole"]);
    assert_eq!(mount.emulator.secret_names(), ["db"]);
    assert!(!mount.log_text().contains("lost"));
}
