//! "`stat` shows … birth time = `created`". Linux asks for it by a request of its own, since 6.6.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use keyvaultfs::emulator::{Fault, Operation};
use nix::sys::signal::{Signal, kill};

use crate::harness::{Mount, Setup, wait_until};

/// Sets a secret that was created long before it was updated. Returns when each was.
fn set_and_update(mount: &Mount, name: &str) -> (i64, i64) {
    mount.emulator.set_clock_skew(-1_000_000);
    mount.emulator.set_secret(name, "12345");
    mount.emulator.set_clock_skew(0);
    assert!(mount.emulator.set_enabled(name, true));
    let version = mount.emulator.versions(name).remove(0);
    assert_ne!(version.created, version.updated);
    (version.created, version.updated)
}

/// What statx(2) says, as the standard library asks it: with a birth time.
fn statx(path: &Path) -> Metadata {
    std::fs::metadata(path).expect("it is there")
}

/// The birth time in seconds; none if statx(2) left STATX_BTIME out of its mask.
fn born(shown: &Metadata) -> Option<i64> {
    let since = shown.created().ok()?.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.expect("it is not before 1970");
    assert_eq!(since.subsec_nanos(), 0);
    i64::try_from(since.as_secs()).ok()
}

#[test]
fn stat_prints_when_the_version_was_created_and_costs_one_request() {
    let mount = Mount::new();
    let (created, updated) = set_and_update(&mount, "a");
    let date = mount.sh(&format!("date -u -d @{created} '+%F %T.000000000 +0000'"));
    let shown = mount.sh("TZ=UTC stat -c '%w %W %Y %s' $M/a");
    let date = date.ok().trim_end();
    assert_eq!(shown.ok(), format!("{date} {created} {updated} 5\n"));
    assert_eq!(mount.vault_requests(), ["GET /secrets/a 200"]);
}

#[test]
fn statx_and_stat_say_the_same_but_for_the_birth_time() {
    let mount = Mount::new();
    let (created, updated) = set_and_update(&mount, "a");
    let version = mount.emulator.versions("a").remove(0).version;
    let names = ["a", &format!("a@{version}"), ".", ".keyvaultfs/status"];
    for name in names {
        let path = mount.path(name);
        let with_birth = statx(&path);
        let without = nix::sys::stat::stat(&path).expect("it is there");
        assert_eq!(
            (with_birth.mode(), with_birth.ino(), with_birth.nlink()),
            (without.st_mode, without.st_ino, without.st_nlink),
            "{name}"
        );
        assert_eq!(
            (with_birth.uid(), with_birth.gid(), with_birth.blocks()),
            (without.st_uid, without.st_gid, without.st_blocks as u64),
            "{name}"
        );
        let times = (with_birth.mtime(), with_birth.ctime(), with_birth.atime());
        let stats = (without.st_mtime, without.st_ctime, without.st_atime);
        assert_eq!(times, stats, "{name}");
        if name.starts_with('a') {
            assert_eq!(with_birth.len(), without.st_size as u64, "{name}");
            assert_eq!((born(&with_birth), times.0), (Some(created), updated));
        } else {
            assert_eq!(born(&with_birth), None, "{name}");
        }
    }
    assert_eq!(mount.sh("stat -c %w $M/.keyvaultfs/status").ok(), "-\n");
}

#[test]
fn a_temporary_file_is_born_when_it_is_made() {
    let mount = Mount::new();
    let before = SystemTime::now();
    let file = File::create(mount.path(".a.swp")).expect("it can be made");
    let shown = file.metadata().expect("it is open");
    let born = shown.created().expect("it has a birth time");
    assert!(before <= born && born <= SystemTime::now(), "{born:?}");
}

#[test]
fn a_name_that_is_missing_costs_one_request_and_is_enoent() {
    let mount = Mount::new();
    let stat = mount.sh("stat -c %w $M/missing");
    stat.fails_with("No such file or directory");
    assert_eq!(mount.vault_requests(), ["GET /secrets/missing 404"]);
}

#[test]
fn a_killed_worker_takes_no_statx_with_it() {
    let mount = Mount::new();
    let (created, _) = set_and_update(&mount, "a");
    let open = File::open(mount.path("a")).expect("it opens");
    let kill_worker = || {
        kill(mount.worker(), Signal::SIGKILL).expect("it can be killed");
    };
    kill_worker();
    assert_eq!(born(&statx(&mount.path("a"))), Some(created));

    // No LOOKUP comes before this one, and the file's version is yet to be pulled again: what
    // waits for the vault is the STATX.
    mount.emulator.clear_log();
    mount.emulator.add_fault(Fault::hang());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| open.metadata().expect("it is open"));
        let asked = |times| {
            wait_until("the vault is asked", || {
                mount.count(Operation::Get) == times
            });
        };
        asked(1);
        kill_worker();
        asked(2);
        mount.emulator.clear_faults();
        let shown = waiting.join().expect("no thread panics");
        assert_eq!((born(&shown), shown.len()), (Some(created), 5));
    });
}

#[test]
fn birth_times_outlive_a_hand_over() {
    let mount = Mount::new();
    let (created, _) = set_and_update(&mount, "a");
    let first = mount.workers();
    mount.signal(Signal::SIGHUP);
    wait_until("another worker serves alone", || {
        let workers = mount.workers();
        workers.len() == 1 && workers != first
    });
    assert_eq!(born(&statx(&mount.path("a"))), Some(created));
    let shown = mount.sh("stat -c %W $M/a");
    assert_eq!(shown.ok(), format!("{created}\n"));
}

#[test]
fn a_hung_vault_ends_a_statx_at_the_deadline_and_a_signal_does_at_once() {
    let mount = Setup::new().argument("--timeout=4s").alone().mount();
    mount.emulator.set_secret("a", "1");
    mount.emulator.add_fault(Fault::hang());
    // The LOOKUP before it is answered after one second.
    let stopped = mount.sh("timeout --signal=INT 2 stat -c %w $M/a");
    assert_eq!(stopped.code, Some(124));
    let took = stopped.took.as_millis();
    assert!((2_000..3_000).contains(&took), "{took} ms");
    let hung = mount.sh("stat -c %w $M/a");
    hung.fails_with("Connection timed out");
    assert!(hung.took < Duration::from_secs(6), "{:?}", hung.took);
}

#[test]
fn a_new_version_has_its_own_birth_time_at_once() {
    let mount = Mount::new();
    for age in [3_000_000, 2_000_000, 1_000_000] {
        mount.emulator.set_clock_skew(-age);
        mount.emulator.set_secret("a", "12345");
        mount.emulator.set_clock_skew(0);
        let created = mount.emulator.versions("a").last().map(|v| v.created);
        // A program that asks for no birth time comes first: what it brings the kernel has none.
        mount.sh("cat $M/a").ok();
        for _ in 0..2 {
            assert_eq!(born(&statx(&mount.path("a"))), created);
        }
    }
}
