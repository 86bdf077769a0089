//! The vault's policy decides, and a refusal is seen where programs look.

use keyvaultfs::emulator::{Operation, Permission};

use crate::harness::{Mount, Setup};

/// Writers whose failure must show, shell builtins above all: they ignore the error of close.
const WRITERS: [&str; 6] = [
    "echo x > $M/NAME",
    "printf x > $M/NAME",
    "echo x | tee $M/NAME",
    "echo x > x && cp x $M/NAME",
    "echo x >> $M/NAME",
    "python3 -c 'import os; f=open(os.environ[\"M\"]+\"/NAME\",\"w\"); f.write(\"x\"); f.close()'",
];

#[test]
fn without_set_every_write_fails_and_says_permission_denied() {
    let mount = Mount::new();
    mount.emulator.set_policy([Permission::Get]);
    mount.emulator.set_secret("old", "1");
    for (index, writer) in WRITERS.iter().enumerate() {
        let new = writer.replace("NAME", &format!("new{index}"));
        mount.sh(&new).fails_with("Permission denied");
        let old = writer.replace("NAME", "old");
        mount.sh(&old).fails_with("Permission denied");
    }
    // dash has one text for every error of a builtin's write.
    mount
        .sh("dash -c 'echo x > $M/new'")
        .fails_with("I/O error");
    assert_eq!(mount.values("old"), ["1"]);
    assert_eq!(mount.emulator.secret_names(), ["old"]);
    assert_eq!(mount.sh("cat $M/old").ok(), "1");
}

#[test]
fn with_set_alone_writing_works_and_reading_is_denied() {
    let mount = Mount::new();
    mount.emulator.set_policy([Permission::Set]);
    mount.emulator.set_secret("old", "1");
    for name in ["old", "new"] {
        mount.sh(&format!("printf v > $M/{name}")).ok();
        assert_eq!(mount.values(name).last().map(String::as_str), Some("v"));
        mount
            .sh(&format!("cat $M/{name}"))
            .fails_with("Permission denied");
        mount
            .sh(&format!("head -c 1 < $M/{name}"))
            .fails_with("Permission denied");
    }
    assert_eq!(mount.sh("stat -c '%a %s' $M/old").ok(), "200 0\n");
}

#[test]
fn with_nothing_granted_nothing_works() {
    let mount = Mount::new();
    mount.emulator.set_policy([]);
    mount.emulator.set_secret("a", "1");
    mount.sh("cat $M/a").fails_with("Permission denied");
    mount.sh("echo x > $M/a").fails_with("Permission denied");
    assert_eq!(mount.values("a"), ["1"]);
}

#[test]
fn the_question_before_the_first_write_stores_nothing_and_is_remembered() {
    let mount = Mount::new();
    mount.sh("printf 1 > $M/a").ok();
    assert_eq!(mount.count(Operation::Set), 2, "the question, then the set");
    assert_eq!(mount.values("a"), ["1"]);
    mount.sh("printf 2 > $M/a").ok();
    assert_eq!(mount.count(Operation::Set), 3, "asked once");
    assert_eq!(mount.values("a"), ["1", "2"]);
}

#[test]
fn without_the_question_the_error_comes_at_close() {
    let mount = Setup::new().argument("--no-set-check").mount();
    mount.sh("printf 1 > $M/a").ok();
    assert_eq!(mount.count(Operation::Set), 1);
    mount.emulator.set_policy([Permission::Get]);
    mount
        .sh("echo x | tee $M/a")
        .fails_with("Permission denied");
    assert_eq!(mount.values("a"), ["1"]);
}

#[test]
fn a_read_only_mount_refuses_without_a_request() {
    let mount = Setup::new().argument("--read-only").mount();
    mount.emulator.set_secret("a", "1");
    assert_eq!(mount.sh("stat -c %a $M/a").ok(), "400\n");
    assert_eq!(mount.sh("stat -c %a $M").ok(), "100\n");
    mount
        .sh("echo x > $M/a")
        .fails_with("Read-only file system");
    mount
        .sh("echo x > $M/new")
        .fails_with("Read-only file system");
    assert_eq!(mount.count(Operation::Set), 0);
}
