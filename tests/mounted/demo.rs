//! `scripts/demo`: the walk, without a terminal and at one.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Outcome, is_mounted, processes_of, wait_until};

fn demo(mountpoint: &Path) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/demo");
    let mut command = Command::new(script);
    command
        .arg(mountpoint)
        .env("KEYVAULTFS", env!("CARGO_BIN_EXE_keyvaultfs"));
    command
}

#[test]
fn without_a_terminal_it_walks_ends_well_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("there is a temporary directory");
    let mountpoint = directory.path().join("secrets");
    let outcome = Outcome::of(demo(&mountpoint).stdin(Stdio::null()), "scripts/demo");
    let said = outcome.ok();
    for shown in [
        "cat ",
        "SQLPasswd",
        "Helloworld",
        "Permission denied",
        "No such file or directory",
        "curl ",
        "openssl ",
    ] {
        assert!(said.contains(shown), "{shown}: {said}");
    }
    assert!(!is_mounted(&mountpoint));
    assert!(processes_of(&mountpoint).is_empty());
    assert!(!mountpoint.exists(), "the directory it made is gone");
}

#[test]
fn at_a_terminal_it_stays_until_ctrl_c() {
    let directory = tempfile::tempdir().expect("there is a temporary directory");
    let mountpoint = directory.path().join("secrets");
    let status = directory.path().join("status");
    let script = demo(&mountpoint);
    // script(1) is a terminal to its child; what it reads is what is typed. Its own exit status
    // is not the child's if it sees the terminal close before it hears of the child's end. A
    // shell cannot trap what was ignored when it started, as in the background of a script.
    let mut terminal = Command::new("env")
        .args(["--default-signal=INT", "script", "-qfc"])
        .arg(format!(
            "trap : INT; {} {}; echo $? > {}",
            script.get_program().display(),
            mountpoint.display(),
            status.display()
        ))
        .arg("/dev/null")
        .env("SHELL", "/bin/sh")
        .env("KEYVAULTFS", env!("CARGO_BIN_EXE_keyvaultfs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script can be run");
    let mut typed = terminal.stdin.take().expect("it is piped");
    let mut screen = terminal.stdout.take().expect("it is piped");
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.contains("Ctrl-C") {
        let count = screen.read(&mut buffer).expect("the screen can be read");
        assert!(count > 0, "it ended by itself: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(is_mounted(&mountpoint));
    let read = std::fs::read(mountpoint.join("MySecret")).expect("it can be read");
    assert_eq!(read, b"Helloworld");
    typed.write_all(b"\x03").expect("it can be typed");
    let mut rest = String::new();
    screen
        .read_to_string(&mut rest)
        .expect("the screen can be read");
    terminal.wait().expect("script ends");
    let status = std::fs::read_to_string(status).expect("the demo's status is there");
    assert_eq!(status, "0\n", "{seen}{rest}");
    assert!(!is_mounted(&mountpoint));
    wait_until("no process is left", || {
        processes_of(&mountpoint).is_empty()
    });
}
