//! What the machine knows: mounts, processes, and waiting for either to change.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{PATIENCE, TURNS};

/// How long a test may take before its mount is torn from under it.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Whether something is mounted there.
pub(crate) fn is_mounted(mountpoint: &Path) -> bool {
    mount_line(mountpoint).is_some()
}

/// The line of /proc/self/mounts about a mountpoint.
pub(crate) fn mount_line(mountpoint: &Path) -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    let wanted = mountpoint.to_str().expect("the path is text");
    let found = mounts
        .lines()
        .find(|line| line.split(' ').nth(1) == Some(wanted))?;
    Some(found.to_owned())
}

/// The processes, other than this one, whose command line mentions the path.
pub(crate) fn processes_of(mountpoint: &Path) -> Vec<i32> {
    let wanted = mountpoint.to_str().expect("the path is text");
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            // It may end while we look.
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(wanted)
        })
        .collect()
}

/// Waits until something holds. Panics if it takes too long.
#[track_caller]
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        pause();
    }
}

/// Runs the body of the test of that name again, in a process with a network and mounts of its own:
/// there are no interfaces but `lo`, so no metadata service and no resolver, and what is mounted
/// over the system's files is seen by nobody else.
#[track_caller]
pub(crate) fn on_a_machine_of_its_own(test: &str, body: impl FnOnce()) {
    const INSIDE: &str = "KEYVAULTFS_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.expect("ip can be run").success());
        return body();
    }
    let _turn = TURNS.read();
    let this = std::env::current_exe().expect("a test is a program");
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "unshare", "--net", "--mount"])
        .arg(this)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{errors}"
    );
}

/// The errno of an operation, or success.
pub(crate) fn errno<T>(result: std::io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
}

/// Unmounts, whoever uses or awaits what is mounted there.
pub(super) fn unmount_by_force(mountpoint: &Path) {
    // More than once: a test may have mounted twice.
    for _ in 0..4 {
        if !is_mounted(mountpoint) {
            return;
        }
        // `-f` aborts the connection, which frees whoever waits for it, and then fails if they do.
        for option in ["-f", "-l"] {
            let _ = Command::new("umount")
                .arg(option)
                .arg(mountpoint)
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// Tears the mount down if the test is not done with it in time: a read from a mount that
/// never answers cannot be ended in any other way.
pub(super) fn watch(mountpoint: &Path) -> Option<Sender<()>> {
    let (done, over) = std::sync::mpsc::channel::<()>();
    let mountpoint = mountpoint.to_owned();
    std::thread::spawn(move || {
        if over.recv_timeout(WATCHDOG) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{} is torn down: the test hangs", mountpoint.display());
            unmount_by_force(&mountpoint);
        }
    });
    Some(done)
}

/// Between two looks at something that will change soon.
pub(super) fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}
