//! How a mount begins and ends: nothing is left behind, and every error arrives.

#[path = "keeper/mod.rs"]
mod keeper;

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keeper::{Mount, Running, fixture, wait_for};
use nix::sys::signal::{Signal, kill};

#[test]
fn a_background_mount_is_there_when_the_command_returns() {
    let mount = Mount::new();
    assert!(mount.is_mounted());
    assert_eq!(fs::read(mount.file("value")).unwrap().len(), 64);
    assert_eq!(mount.processes().1, [mount.worker()]);
}

#[test]
fn the_processes_hold_no_terminal_and_no_descriptor_of_the_callers() {
    let mount = Mount::new();
    for process in [mount.keeper(), mount.worker()] {
        for standard in 0..3 {
            let target = fs::read_link(format!("/proc/{process}/fd/{standard}")).unwrap();
            assert_eq!(target.to_str(), Some("/dev/null"), "{process} {standard}");
        }
    }
    let inherited = fs::read_dir(format!("/proc/{}/fd", mount.worker())).unwrap();
    for descriptor in inherited.flatten() {
        let target = fs::read_link(descriptor.path()).unwrap_or_default();
        assert!(!target.starts_with("/dev/fuse"), "the worker has the mount");
    }
}

#[test]
fn the_worker_has_no_privileges() {
    let mount = Mount::new();
    let status = fs::read_to_string(format!("/proc/{}/status", mount.worker())).unwrap();
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    assert_eq!(field("Uid:"), vec![nobody.uid.to_string(); 4]);
    assert_eq!(field("Gid:"), vec![nobody.gid.to_string(); 4]);
    assert!(field("Groups:").is_empty());
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), ["1"]);
}

#[test]
fn the_keeper_keeps_only_the_capabilities_it_needs() {
    let mount = Mount::new();
    let status = fs::read_to_string(format!("/proc/{}/status", mount.keeper())).unwrap();
    // DAC_READ_SEARCH, KILL, SETGID, SETUID, IPC_LOCK, SYS_PTRACE and SYS_ADMIN of capability.h.
    let needed: u64 = [2, 5, 6, 7, 14, 19, 21].iter().map(|bit| 1 << bit).sum();
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(set))
            .unwrap();
        let held = u64::from_str_radix(line.trim(), 16).unwrap();
        assert_eq!(held, needed, "{set} {held:x}");
    }
}

#[test]
fn umount_ends_everything() {
    let mount = Mount::new();
    assert!(
        Command::new("umount")
            .arg(mount.path())
            .status()
            .unwrap()
            .success()
    );
    mount.assert_ends();
    assert!(!mount.is_mounted());
}

#[test]
fn fusermount3_ends_everything() {
    let mount = Mount::new();
    let unmounted = Command::new("fusermount3")
        .args(["-u", mount.path()])
        .status();
    assert!(unmounted.unwrap().success());
    mount.assert_ends();
    assert!(!mount.is_mounted());
}

#[test]
fn sigterm_ends_everything_even_with_open_files() {
    let mount = Mount::new();
    let open = fs::File::open(mount.file("value")).unwrap();
    kill(mount.keeper(), Signal::SIGTERM).unwrap();
    mount.assert_ends();
    assert!(!mount.is_mounted());
    drop(open);
}

#[test]
fn while_a_mount_ends_what_is_still_open_fails_at_once() {
    let mount = Mount::named("lingers", 5_000);
    let open = fs::File::open(mount.file("value")).unwrap();
    kill(mount.keeper(), Signal::SIGTERM).unwrap();
    let begin = Instant::now();
    let mut content = [0; 64];
    // One that was read before the keeper took notice is answered.
    let error = loop {
        if let Err(error) = open.read_at(&mut content, 0) {
            break error;
        }
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert_eq!(
        mount.processes().0,
        Some(mount.keeper()),
        "it waits for its worker"
    );
    mount.assert_ends();
}

#[test]
fn a_killed_keeper_takes_its_worker_along_and_the_next_mount_clears_up() {
    let mount = Mount::new();
    kill(mount.keeper(), Signal::SIGKILL).unwrap();
    mount.assert_ends();
    wait_for("ENOTCONN", || {
        let error = fs::read(mount.file("value")).unwrap_err();
        error.raw_os_error() == Some(libc::ENOTCONN)
    });
    let output = mount.mount(10_000);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(mount.file("value")).unwrap().len(), 64);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(mounts.matches(mount.path()).count(), 1);
}

#[test]
fn a_foreground_mount_lasts_until_it_is_told_to_end() {
    let mount = Mount::unmounted("m");
    let mut foreground = Running::new(fixture().args(["foreground", mount.path()]));
    wait_for("the mount", || fs::read(mount.file("value")).is_ok());
    kill(foreground.pid(), Signal::SIGINT).unwrap();
    assert!(foreground.0.wait().unwrap().success());
    mount.assert_ends();
    assert!(!mount.is_mounted());
}

#[test]
fn the_service_manager_hears_how_it_goes() {
    let mount = Mount::from_copy();
    kill(mount.keeper(), Signal::SIGTERM).unwrap();
    mount.assert_ends();
    let path = mount.program().with_file_name("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    // Signs of life come between everything else.
    let heard_but_watchdog = || loop {
        let text = heard();
        if !text.contains("WATCHDOG=1") {
            return text;
        }
    };
    let mut service = Running::new(
        Command::new(mount.program())
            .args(["foreground", mount.path()])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "100000"),
    );
    let ready = heard_but_watchdog();
    assert!(ready.contains("READY=1"), "{ready}");
    assert!(
        ready.contains(&format!("MAINPID={}", service.pid())),
        "{ready}"
    );
    assert!(mount.is_mounted());
    for _ in 0..3 {
        wait_for("a sign of life", || heard().contains("WATCHDOG=1"));
    }
    kill(service.pid(), Signal::SIGHUP).unwrap();
    let changing = heard_but_watchdog();
    assert!(
        changing.contains("RELOADING=1\nMONOTONIC_USEC="),
        "{changing}"
    );
    let changed = heard_but_watchdog();
    assert!(changed.contains("READY=1"), "{changed}");
    assert_eq!(mount.generation(), 2);
    wait_for("a sign of life", || heard().contains("WATCHDOG=1"));
    kill(service.pid(), Signal::SIGTERM).unwrap();
    let stopping = heard_but_watchdog();
    assert!(stopping.contains("STOPPING=1"), "{stopping}");
    assert!(service.0.wait().unwrap().success());
}

#[test]
fn sigusr1_reopens_logs_and_disturbs_nothing() {
    let mount = Mount::new();
    let worker = mount.worker();
    for process in [mount.keeper(), mount.keeper()] {
        kill(process, Signal::SIGUSR1).unwrap();
    }
    assert_eq!(fs::read(mount.file("value")).unwrap().len(), 64);
    assert_eq!(mount.worker(), worker);
}

#[test]
fn a_worker_that_cannot_start_says_why_and_nothing_stays_mounted() {
    for (name, expected) in [
        ("fails", "the fixture was told to fail"),
        ("dies", "exit status 1"),
    ] {
        let mount = Mount::unmounted(name);
        let output = mount.mount(10_000);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(said.contains(expected), "{said}");
        mount.assert_ends();
        assert!(!mount.is_mounted());
    }
}

#[test]
fn an_interrupted_mount_command_undoes_the_mount() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mount = Mount::unmounted("tarries");
        // Signals that are ignored when a program starts are none of its business.
        let launcher = Running::new(
            Command::new("env")
                .arg("--default-signal=INT,TERM,HUP")
                .arg(mount.program())
                .args(["mount", mount.path()]),
        );
        wait_for("the worker", || mount.processes().1.len() == 1);
        assert!(mount.is_mounted());
        kill(launcher.pid(), signal).unwrap();
        let output = launcher.output();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{signal} {output:?}");
        assert!(said.starts_with("interrupted"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!mount.is_mounted());
        assert_eq!(mount.processes(), (None, Vec::new()));
    }
}

#[test]
fn a_mountpoint_is_mounted_on_once() {
    let mount = Mount::new();
    let output = mount.mount(10_000);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("already"), "{said}");
    assert_eq!(fs::read(mount.file("value")).unwrap().len(), 64);
}

/// In a mount namespace of its own, where /dev/fuse is open to all as most systems have it.
#[test]
fn an_ordinary_user_mounts_with_fusermount3() {
    let mount = Mount::unmounted("m");
    let script = r#"
        set -e
        mknod "$1/fuse" c 10 229 && chmod 666 "$1/fuse" && mount --bind "$1/fuse" /dev/fuse
        # The program may lie where another user cannot go.
        cp "$2" "$1/program" && chown nobody "$1" "$1/m"
        as_user="setpriv --reuid=nobody --regid=nogroup --clear-groups --"
        $as_user "$1/program" mount "$1/m"
        $as_user cat "$1/m/value"
        pkill -TERM -f "^keyvaultfs @keeper fixture $1/m"
        timeout 10 sh -c 'while grep -q "$1/m" /proc/self/mounts; do sleep 0.01; done' - "$1"
    "#;
    let directory = std::path::Path::new(mount.path()).parent().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "-"])
        .arg(directory)
        .arg(fixture().get_program())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout.len(), 64, "{output:?}");
    mount.assert_ends();
}

#[test]
fn a_mount_somebody_put_over_ours_is_left_alone() {
    let mount = Mount::new();
    let over = Command::new("mount")
        .args(["-t", "tmpfs", "over", mount.path()])
        .status();
    assert!(over.unwrap().success());
    kill(mount.keeper(), Signal::SIGTERM).unwrap();
    mount.assert_ends();
    fs::write(mount.file("new"), "theirs").unwrap();
    assert_eq!(fs::read(mount.file("new")).unwrap(), b"theirs");
}
