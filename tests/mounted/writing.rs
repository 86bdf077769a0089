//! "Writes are staged in the handle and set once": one version for one close, none for nothing.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::IntoRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyvaultfs::emulator::{Deletion, Fault, Operation};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use crate::harness::{Mount, Setup, errno, wait_until};

/// Ways to write `v` to `$M/f`.
const WRITERS: [&str; 13] = [
    "printf %s v | tee $M/f >/dev/null",
    "printf %s v > $M/f",
    "dash -c 'printf %s v > $M/f'",
    "/bin/echo -n v > $M/f",
    "printf %s v >v; cp v $M/f",
    "printf %s v >v; cat v > $M/f",
    "printf %s v | dd of=$M/f conv=fsync status=none",
    "printf %s v | dd of=$M/f status=none",
    "python3 -c 'import os; open(os.environ[\"M\"]+\"/f\",\"w\").write(\"v\")'",
    "python3 -c 'import os; f=os.open(os.environ[\"M\"]+\"/f\",os.O_RDWR|os.O_CREAT|os.O_TRUNC,0o600); os.write(f,b\"v\"); os.fsync(f); os.close(f)'",
    "perl -e 'open F, \">\", \"$ENV{M}/f\" or die; print F \"v\"; close F or die'",
    "exec 3>$M/f; printf %s v >&3; exec 3>&-",
    "(printf %s v) > $M/f",
];

/// Ways to open `$M/f` for writing and write nothing.
const IDLERS: [&str; 8] = [
    ": > $M/f",
    "touch $M/f",
    "false > $M/f || true",
    "cat /dev/null > $M/f",
    "cp /dev/null $M/f",
    ": >> $M/f",
    "truncate -s 0 $M/f",
    "python3 -c 'import os; open(os.environ[\"M\"]+\"/f\",\"w\").close()'",
];

#[test]
fn each_way_to_write_makes_exactly_one_version_with_exactly_those_bytes() {
    let mount = Mount::new();
    for (index, writer) in WRITERS.iter().enumerate() {
        let name = format!("f{index}");
        let script = writer.replace("/f", &format!("/{name}"));
        mount.sh(&script).ok();
        assert_eq!(mount.values(&name), ["v"], "new: {writer}");
        mount.emulator.set_secret(&name, "something longer");
        mount.sh(&script).ok();
        let expected = ["v", "something longer", "v"];
        assert_eq!(mount.values(&name), expected, "existing: {writer}");
        assert_eq!(mount.sh(&format!("cat $M/{name}")).ok(), "v");
    }
}

#[test]
fn writing_nothing_makes_no_version() {
    let mount = Mount::new();
    for idler in IDLERS {
        mount.sh(idler).ok();
        assert!(mount.values("f").is_empty(), "new: {idler}");
        mount.sh("cat $M/f").fails_with("No such file");
    }
    mount.emulator.set_secret("f", "kept");
    for idler in IDLERS {
        mount.sh(idler).ok();
        assert_eq!(mount.values("f"), ["kept"], "existing: {idler}");
        assert_eq!(mount.sh("cat $M/f").ok(), "kept");
    }
    assert_eq!(mount.count(Operation::Set), 0);
}

#[test]
fn several_writers_of_one_open_file_make_one_version() {
    let mount = Mount::new();
    mount.sh("{ printf a; printf b; } > $M/builtins").ok();
    assert_eq!(mount.values("builtins"), ["ab"]);
    mount.sh("{ /bin/echo a; /bin/echo b; } > $M/programs").ok();
    assert_eq!(mount.values("programs"), ["a\nb\n"]);
    mount
        .sh("echo k > k; echo c > c; (cat k; cat c) > $M/subshell")
        .ok();
    assert_eq!(mount.values("subshell"), ["k\nc\n"]);
}

#[test]
fn appending_and_writing_in_place_start_from_the_current_value() {
    let mount = Mount::new();
    mount.emulator.set_secret("f", "abc");
    mount.sh("printf de >> $M/f").ok();
    assert_eq!(mount.values("f"), ["abc", "abcde"]);
    mount
        .sh("printf X | dd of=$M/f bs=1 seek=1 conv=notrunc status=none")
        .ok();
    assert_eq!(mount.values("f").last().map(String::as_str), Some("aXcde"));
    mount.sh("printf new >> $M/g").ok();
    assert_eq!(mount.values("g"), ["new"]);
}

#[test]
fn written_bytes_are_exact() {
    let mount = Mount::new();
    let long = "0123456789abcdef".repeat(1_600);
    for value in ["\n", "a\r\n", " žluťoučký \u{1F512}", &long] {
        std::fs::write(mount.scratch.join("value"), value).expect("it can be written");
        mount.sh("cp $D/value $M/f && cmp $D/value $M/f").ok();
        assert!(mount.values("f").last().is_some_and(|last| last == value));
    }
}

#[test]
fn more_than_a_vault_takes_is_refused_at_the_write() {
    let mount = Mount::new();
    let mut file = File::create(mount.path("f")).expect("it can be made");
    file.write_all(&[b'x'; 25_600])
        .expect("that is not too much");
    assert_eq!(errno(file.write(b"x")), Err(Errno::EFBIG));
    drop(file);
    mount
        .sh("head -c 25601 /dev/zero | tr '\\0' x > $M/g")
        .fails_with("File too large");
    assert!(mount.values("f").len() <= 1);
}

#[test]
fn a_writer_that_was_killed_sets_nothing() {
    let mount = Mount::new();
    mount.emulator.set_secret("f", "whole");
    let code = "import sys,time; f=open(sys.argv[1],'wb',0); f.write(b'ha'); print('wrote',flush=True); time.sleep(60)";
    let mut writer = Command::new("python3")
        .args(["-c", code])
        .arg(mount.path("f"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 can be run");
    let stdout = writer.stdout.take().expect("it is piped");
    let said = BufReader::new(stdout).lines().next();
    assert_eq!(said.and_then(Result::ok).as_deref(), Some("wrote"));
    writer.kill().expect("it can be killed");
    writer.wait().expect("it ends");
    assert_eq!(mount.values("f"), ["whole"]);
    assert_eq!(mount.sh("cat $M/f").ok(), "whole");
}

#[test]
fn a_failed_set_leaves_the_bytes_for_the_next_try() {
    let mount = Setup::new().argument("--timeout=2s").mount();
    let mut file = File::create(mount.path("f")).expect("it can be made");
    file.write_all(b"v").expect("it can be written");
    mount
        .emulator
        .add_fault(Fault::error(503, "Busy", None).method("PUT"));
    assert_eq!(errno(file.sync_all()), Err(Errno::EIO));
    mount.emulator.clear_faults();
    assert_eq!(nix::unistd::close(file.into_raw_fd()), Ok(()));
    assert_eq!(mount.values("f"), ["v"]);
}

#[test]
fn a_set_whose_answer_was_lost_is_not_made_twice() {
    let mount = Setup::new().argument("--no-set-check").mount();
    mount.emulator.set_secret("f", "0");
    for (name, expected) in [("f", vec!["0", "v"]), ("new", vec!["v"])] {
        mount.emulator.clear_faults();
        mount
            .emulator
            .add_fault(Fault::cut().method("PUT").after().first(1));
        mount.sh(&format!("printf v | tee $M/{name}")).ok();
        assert_eq!(mount.values(name), expected);
    }
}

#[test]
fn a_set_that_never_arrived_is_tried_again() {
    let mount = Setup::new().argument("--no-set-check").mount();
    for fault in [
        Fault::cut(),
        Fault::throttled(),
        Fault::error(503, "Busy", None),
    ] {
        mount.emulator.clear_faults();
        mount.emulator.add_fault(fault.method("PUT").first(2));
        let versions = mount.values("f").len();
        mount.sh("printf v | tee $M/f").ok();
        assert_eq!(mount.values("f").len(), versions + 1);
    }
}

#[test]
fn close_says_why_a_set_failed() {
    let mount = Mount::new();
    let close = |name: &str| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(mount.path(name))
            .expect("it opens");
        file.write_all(b"v").expect("it can be written");
        nix::unistd::close(file.into_raw_fd())
    };
    for (name, deletion, expected) in [
        ("deleted", Deletion::Recoverable, Errno::EEXIST),
        ("leaving", Deletion::BeingDeleted, Errno::EBUSY),
        ("returning", Deletion::BeingRecovered, Errno::EBUSY),
    ] {
        mount.emulator.set_secret(name, "1");
        mount.emulator.set_deletion(name, deletion);
        assert_eq!(close(name), Err(expected), "{name}");
    }
    mount
        .emulator
        .add_fault(Fault::error(409, "ScopeLocked", None).method("PUT"));
    assert_eq!(close("locked"), Err(Errno::EPERM));
}

#[test]
fn a_certificates_secret_cannot_be_opened_for_writing() {
    let mount = Mount::new();
    mount.emulator.set_secret("cert", "pem");
    mount.emulator.set_managed("cert", true);
    mount
        .sh("echo x > $M/cert")
        .fails_with("Operation not permitted");
    assert_eq!(mount.sh("cat $M/cert").ok(), "pem");
    assert_eq!(mount.values("cert").len(), 1);
}

#[test]
fn a_set_on_its_way_is_finished_when_the_mount_is_told_to_end() {
    let mut mount = Setup::new().argument("--no-set-check").mount();
    let slow = Fault::delay(Duration::from_secs(2)).method("PUT");
    mount.emulator.add_fault(slow);
    let code = "import os,sys; f=os.open(sys.argv[1],os.O_WRONLY|os.O_CREAT); os.write(f,b'v'); print('wrote',flush=True); os.fsync(f)";
    let mut writer = Command::new("python3")
        .args(["-c", code])
        .arg(mount.path("f"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 can be run");
    let stdout = writer.stdout.take().expect("it is piped");
    let said = BufReader::new(stdout).lines().next();
    assert_eq!(said.and_then(Result::ok).as_deref(), Some("wrote"));
    wait_until("the set is on its way", || mount.count(Operation::Set) > 0);
    mount.signal(Signal::SIGTERM);
    assert!(writer.wait().expect("it ends").success());
    assert!(mount.wait().success());
    assert_eq!(mount.values("f"), ["v"]);
}

/// An execve(2) that closes a file waits for the answer with a lock on its /proc entry.
#[test]
fn a_program_that_another_execs_does_not_hold_up_its_writing() {
    let mount = Mount::new();
    let code = "import os,sys; f=os.open(sys.argv[1],os.O_WRONLY|os.O_CREAT|os.O_CLOEXEC); os.write(f,b'a'); os.spawnv(os.P_WAIT,'/bin/true',['true']); os.write(f,b'b'); os.close(f)";
    let began = Instant::now();
    let writer = Command::new("python3")
        .args(["-c", code])
        .arg(mount.path("f"))
        .status();
    assert!(writer.expect("python3 can be run").success());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(mount.values("f"), ["ab"]);
}

#[test]
fn what_is_staged_outlives_the_worker_that_took_over() {
    let mount = Mount::new();
    mount.emulator.set_secret("a", "before");
    let mut file = std::fs::File::create(mount.path("a")).expect("it opens");
    file.write_all(b"first ").expect("it is staged");
    let first = mount.worker();
    let serving = |restarts: u32| {
        wait_until("the next worker serves", || {
            let status = mount.sh("cat $M/.keyvaultfs/status");
            status
                .ok()
                .contains(&format!("\"worker_restarts\": {restarts}"))
        });
    };
    mount.signal(Signal::SIGHUP);
    serving(1);
    let mut workers = mount.workers();
    workers.retain(|worker| *worker != first);
    assert_eq!(workers.len(), 1);
    kill(workers[0], Signal::SIGKILL).expect("it is there");
    serving(2);
    assert!(mount.workers().contains(&first), "it still has the bytes");
    file.write_all(b"last").expect("it is staged");
    nix::unistd::close(file.into_raw_fd()).expect("it is set");
    assert_eq!(mount.sh("cat $M/a").ok(), "first last");
}
