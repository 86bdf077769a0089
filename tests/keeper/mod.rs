//! Mounts of the fixture, cleared away when a test ends, also when it fails.

// Each test program uses its own part of this.
#![allow(dead_code)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Beside the test programs, which cargo puts into `deps`.
pub(crate) fn fixture() -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    Command::new(path.join("examples/keeper_fixture"))
}

/// A mount of the fixture by a background keeper.
pub(crate) struct Mount {
    directory: TempDir,
    program: PathBuf,
    mountpoint: PathBuf,
    keeper: Option<Pid>,
}

impl Mount {
    /// With a limit for every operation that no test reaches by chance.
    pub(crate) fn new() -> Self {
        Self::named("m", 10_000)
    }

    /// The limit is in milliseconds; some names make workers fail.
    pub(crate) fn named(name: &str, limit: u64) -> Self {
        Self::unmounted(name).mounted(limit)
    }

    /// Mounted by a copy of the program that can be replaced.
    pub(crate) fn from_copy() -> Self {
        let mut mount = Self::unmounted("m");
        mount.program = mount.directory.path().join("program");
        mount.copy_program();
        mount.mounted(10_000)
    }

    /// Only the directory.
    pub(crate) fn unmounted(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mountpoint = directory.path().join(name);
        fs::create_dir(&mountpoint).unwrap();
        Self {
            directory,
            program: fixture().get_program().into(),
            mountpoint,
            keeper: None,
        }
    }

    pub(crate) fn mount(&self, limit: u64) -> Output {
        Command::new(&self.program)
            .args(["mount", self.path(), &limit.to_string()])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Installs the program anew, as a package manager does. By another process: children that
    /// other tests start would hold this one's descriptor, and the program be busy.
    pub(crate) fn copy_program(&self) {
        let beside = self.program.with_extension("new");
        let copied = Command::new("cp")
            .arg(fixture().get_program())
            .arg(&beside)
            .status();
        assert!(copied.unwrap().success());
        fs::rename(beside, &self.program).unwrap();
    }

    fn mounted(mut self, limit: u64) -> Self {
        let output = self.mount(limit);
        assert!(output.status.success(), "{output:?}");
        self.keeper = Some(self.processes().0.expect("a keeper"));
        self
    }

    pub(crate) fn path(&self) -> &str {
        self.mountpoint.to_str().unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.mountpoint.join(name)
    }

    pub(crate) fn keeper(&self) -> Pid {
        self.keeper.expect("mounted")
    }

    /// The process that serves now.
    pub(crate) fn worker(&self) -> Pid {
        let said = fs::read_to_string(self.file("worker")).unwrap();
        Pid::from_raw(said.split(' ').next().unwrap().parse().unwrap())
    }

    /// How many workers there have been.
    pub(crate) fn generation(&self) -> u32 {
        let said = fs::read_to_string(self.file("worker")).unwrap();
        said.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The keeper and the workers of this mount.
    pub(crate) fn processes(&self) -> (Option<Pid>, Vec<Pid>) {
        let mut keeper = None;
        let mut workers = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
                continue;
            };
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let arguments: Vec<_> = command.split(|&byte| byte == 0).collect();
            if !arguments.contains(&self.path().as_bytes()) {
                continue;
            }
            match arguments.get(1) {
                Some(&b"@keeper") => keeper = Some(Pid::from_raw(pid)),
                Some(&b"@worker") => workers.push(Pid::from_raw(pid)),
                _ => {}
            }
        }
        (keeper, workers)
    }

    pub(crate) fn is_mounted(&self) -> bool {
        is_mounted(&self.mountpoint)
    }

    /// Waits until no process of the mount is left; panics if some stays.
    pub(crate) fn assert_ends(&self) {
        wait_for("the end of all processes", || {
            self.processes() == (None, Vec::new())
        });
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let (keeper, workers) = self.processes();
        for process in keeper.into_iter().chain(workers) {
            let _ = kill(process, Signal::SIGKILL);
        }
        while is_mounted(&self.mountpoint)
            && umount2(&self.mountpoint, MntFlags::MNT_DETACH).is_ok()
        {}
    }
}

/// A program in the background, killed when the test ends.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn new(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stderr(Stdio::piped());
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }

    /// Waits for its end. It must not print more than a pipe holds.
    pub(crate) fn output(mut self) -> Output {
        let status = self.0.wait().unwrap();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut stdout)
            .unwrap();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_end(&mut stderr)
            .unwrap();
        Output {
            status,
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = path.to_str().unwrap();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(path))
}

/// Sets a flag when it goes, also by panic: what waits for the flag must not wait for ever.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits until something is so; panics after ten seconds.
pub(crate) fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < limit, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
