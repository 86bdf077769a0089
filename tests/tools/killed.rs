//! "A writer killed by a signal sets nothing", nor does one that had nothing to write.

use crate::harness::Mount;

/// Scripts in which somebody is killed who has written half a value to `$M/f`.
#[rustfmt::skip]
const KILLED: &[&str] = &[
    "(printf half; kill -KILL $BASHPID) > $M/f",
    "(printf half; kill -TERM $BASHPID) > $M/f",
    "env --default-signal=INT sh -c 'printf half; kill -INT $$' > $M/f",
    "(trap - HUP; printf half; kill -HUP $BASHPID) > $M/f",
    "(printf half; kill -ABRT $BASHPID) > $M/f",
    "(printf half; kill -PIPE $BASHPID) > $M/f",
    "(printf half; sleep 1) | timeout -s KILL 0.3 cat > $M/f",
    "(printf half; sleep 1) | timeout -s TERM 0.3 cat > $M/f",
    "(printf half; sleep 1) | env --default-signal=INT timeout -s INT 0.3 tee $M/f > out",
    "(printf half; sleep 1) | timeout 0.3 dd of=$M/f bs=4 status=none",
    "timeout -s KILL 0.5 sh -c 'printf half; sleep 30' > $M/f",
    "python3 -c 'import os, sys, signal; f = open(os.environ[\"M\"] + \"/f\", \"wb\", 0); f.write(b\"half\"); os.kill(os.getpid(), signal.SIGTERM)'",
    "python3 -c 'import os, threading, time; f = open(os.environ[\"M\"] + \"/f\", \"wb\", 0); threading.Thread(target=lambda: (f.write(b\"half\"), os.kill(os.getpid(), 9))).start(); time.sleep(9)'",
    "ulimit -c 0; perl -e 'open F, \">\", \"$ENV{M}/f\"; syswrite F, \"half\"; dump' 2> err",
    // A descriptor survives elsewhere, and is closed in peace.
    "exec 3>$M/f; (printf half >&3; kill -KILL $BASHPID); exec 3>&-",
    "{ (printf half; kill -KILL $BASHPID); sleep 0.1; } > $M/f",
    "{ sh -c 'printf half; kill -KILL $$'; } > $M/f",
];

/// Scripts whose producer fails before its first byte.
#[rustfmt::skip]
const FAILED: &[&str] = &[
    "false > $M/f",
    "cat missing > $M/f",
    "(exit 1) | tee $M/f",
    "(exit 1) | cat > $M/f",
    "curl -sS -o $M/f file:///missing",
    "openssl rsa -in missing -out $M/f",
    "cp missing $M/f",
    "dd if=missing of=$M/f",
    "sort -o $M/f missing",
    "no-such-program > $M/f",
    "echo a | no-such-program > $M/f",
    "(kill -KILL $BASHPID) > $M/f",
];

#[test]
fn a_writer_killed_by_a_signal_sets_nothing_also_if_a_duplicate_survives() {
    let mount = Mount::new();
    for before in [&[][..], &["whole"]] {
        for value in before {
            mount.emulator.set_secret("f", value);
        }
        for script in KILLED {
            mount.sh(script);
            assert_eq!(mount.values("f"), before, "{script}");
        }
    }
    assert_eq!(mount.sh("cat $M/f").ok(), "whole");
}

#[test]
fn who_goes_on_writing_where_another_was_killed_is_told() {
    let mount = Mount::new();
    mount
        .sh("exec 3>$M/f; (printf half >&3; kill -KILL $BASHPID); /bin/echo rest >&3")
        .fails_with("Input/output error");
    assert!(mount.values("f").is_empty());
}

#[test]
fn a_program_that_survives_a_signal_sets_what_it_wrote() {
    let mount = Mount::new();
    mount
        .sh("(trap 'printf b' TERM; printf a; kill -TERM $BASHPID; printf c) > $M/f")
        .ok();
    assert_eq!(mount.values("f"), ["abc"]);
}

#[test]
fn a_child_that_is_killed_without_having_the_file_open_harms_nothing() {
    let mount = Mount::new();
    mount
        .sh("{ printf a; sh -c 'kill -KILL $$' > out; printf b; } > $M/f; true")
        .ok();
    assert_eq!(mount.values("f"), ["ab"]);
}

#[test]
fn a_producer_that_fails_before_its_first_byte_sets_nothing() {
    let mount = Mount::new();
    for before in [&[][..], &["whole"]] {
        for value in before {
            mount.emulator.set_secret("f", value);
        }
        for script in FAILED {
            mount.sh(script);
            assert_eq!(mount.values("f"), before, "{script}");
        }
    }
}
