//! A mount to test: an emulator, the program that mounts it, and a shell to use it with.
//!
//! Whatever a test does, nothing is left behind: dropping a [`Mount`] releases what hangs, ends
//! the program and unmounts by force if it must; a watchdog does so when a test itself hangs.

mod machine;
mod outcome;

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use keyvaultfs::emulator::{Emulator, Operation, Options, Service};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tempfile::TempDir;

pub(crate) use self::machine::{
    errno, is_mounted, mount_line, on_a_machine_of_its_own, processes_of, wait_until,
};
use self::machine::{pause, unmount_by_force, watch};
pub(crate) use self::outcome::Outcome;

/// How long what should be quick may take on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Tests that measure time run alone, the others side by side.
static TURNS: RwLock<()> = RwLock::new(());

/// A test's turn, kept while its mount is there.
enum Turn {
    Shared {
        _guard: RwLockReadGuard<'static, ()>,
    },
    Alone {
        _guard: RwLockWriteGuard<'static, ()>,
    },
}

/// What a test wants mounted, and how.
pub(crate) struct Setup {
    options: Options,
    arguments: Vec<String>,
    identity: Vec<String>,
    user: Option<&'static str>,
    alone: bool,
}

impl Setup {
    /// The emulator's defaults, tokens from IMDS.
    pub(crate) fn new() -> Self {
        Self {
            options: Options::default(),
            arguments: Vec::new(),
            identity: vec![
                "--identity=imds".to_owned(),
                "--identity-endpoint=IMDS".to_owned(),
            ],
            user: None,
            alone: false,
        }
    }

    /// With these options of the emulator.
    pub(crate) fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// With this argument to the program; `RESOURCE_MANAGER` in it stands for the emulator's.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// With these arguments about the identity; `IMDS` and `VM_EXTENSION` in them stand for the
    /// emulator's endpoints.
    pub(crate) fn identity<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.identity = arguments.map(str::to_owned).into();
        self
    }

    /// Mounted and used by this user.
    pub(crate) fn user(mut self, user: &'static str) -> Self {
        self.user = Some(user);
        self
    }

    /// While no other test runs, since it measures time.
    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Starts the emulator, but mounts nothing.
    pub(crate) fn prepare(self) -> Mount {
        let turn = match self.alone {
            true => Turn::Alone {
                _guard: TURNS.write(),
            },
            false => Turn::Shared {
                _guard: TURNS.read(),
            },
        };
        let emulator = Emulator::start(self.options).expect("an emulator starts");
        let directory = TempDir::new().expect("there is a temporary directory");
        let mountpoint = directory.path().join("secrets");
        let scratch = directory.path().join("scratch");
        for path in [&mountpoint, &scratch] {
            std::fs::create_dir(path).expect("a directory can be made");
            // For other users' mounts the directory must be theirs; sharing it is as good.
            let open = Permissions::from_mode(0o777);
            std::fs::set_permissions(path, open).expect("permissions can be changed");
        }
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755))
            .expect("permissions can be changed");
        if let Some(user) = self.user {
            run_to_end(Command::new("chown").arg(user).arg(&mountpoint));
        }
        Mount {
            watchdog: watch(&mountpoint),
            vault: emulator.endpoints().vault.clone(),
            emulator,
            mountpoint,
            scratch,
            directory,
            arguments: self.arguments,
            identity: self.identity,
            environment: Vec::new(),
            user: self.user,
            daemon: None,
            _turn: turn,
        }
    }

    /// Starts the emulator and mounts it, in the foreground.
    pub(crate) fn mount(self) -> Mount {
        let mut mount = self.prepare();
        mount.start();
        mount
    }
}

/// A mount under test.
pub(crate) struct Mount {
    pub(crate) emulator: Emulator,
    /// Where the secrets are.
    pub(crate) mountpoint: PathBuf,
    /// A directory for a test's own files.
    pub(crate) scratch: PathBuf,
    directory: TempDir,
    arguments: Vec<String>,
    identity: Vec<String>,
    vault: String,
    environment: Vec<(String, String)>,
    user: Option<&'static str>,
    daemon: Option<Child>,
    /// Dropping it calls the watchdog off.
    watchdog: Option<Sender<()>>,
    _turn: Turn,
}

impl Mount {
    /// The defaults, mounted.
    pub(crate) fn new() -> Self {
        Setup::new().mount()
    }

    /// A secret's path.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.mountpoint.join(name)
    }

    /// Runs a script in bash, with `$M` the mountpoint and `$D` the scratch directory.
    pub(crate) fn sh(&self, script: &str) -> Outcome {
        let seconds = PATIENCE.as_secs().to_string();
        let mut command = self.command_as_user("timeout");
        command
            .args(["--kill-after=5", &seconds, "bash", "-c", script])
            .env("M", &self.mountpoint)
            .env("D", &self.scratch)
            .env("LC_ALL", "C")
            .current_dir(&self.scratch)
            .stdin(Stdio::null());
        Outcome::of(&mut command, script)
    }

    /// Runs the program with exactly these arguments, until it ends by itself.
    pub(crate) fn program(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.command_as_user("timeout");
        let seconds = PATIENCE.as_secs().to_string();
        command
            .args(["--kill-after=5", &seconds])
            .arg(self.executable())
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        Outcome::of(&mut command, &arguments.join(" "))
    }

    /// The options and operands that mount this test's vault on its mountpoint.
    pub(crate) fn mount_arguments(&self) -> Vec<String> {
        let endpoints = self.emulator.endpoints();
        let mut arguments: Vec<String> = Vec::new();
        arguments.extend(self.identity.iter().map(|one| self.with_endpoints(one)));
        arguments.push(format!("--resource={}", endpoints.resource));
        arguments.push(format!("--ca-cert={}", endpoints.ca_cert.display()));
        arguments.extend(self.arguments.iter().map(|one| self.with_endpoints(one)));
        arguments.push(self.vault.clone());
        arguments.push(self.mountpoint.display().to_string());
        arguments
    }

    /// Replaces the arguments about the identity, before the start.
    pub(crate) fn set_identity(&mut self, arguments: &[&str]) {
        self.identity = arguments.iter().map(|&one| one.to_owned()).collect();
    }

    /// Replaces the vault, before the start.
    pub(crate) fn set_vault(&mut self, vault: &str) {
        self.vault = vault.to_owned();
    }

    /// Puts a variable into the environment of programs, before the start.
    pub(crate) fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Mounts in the foreground; returns when the mount is there.
    pub(crate) fn start(&mut self) {
        let log = File::create(self.log_path()).expect("a log can be made");
        let mut command = self.command_as_user(self.executable());
        command
            .arg("--foreground")
            .args(self.mount_arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0);
        let mut daemon = command.spawn().expect("the program can be run");
        let started = Instant::now();
        while !is_mounted(&self.mountpoint) {
            if let Ok(Some(status)) = daemon.try_wait() {
                panic!("it ended before it mounted: {status}\n{}", self.log_text());
            }
            if started.elapsed() > PATIENCE {
                self.daemon = Some(daemon);
                panic!("it did not mount");
            }
            pause();
        }
        self.daemon = Some(daemon);
        // It is mounted before it serves; this waits for the first answer.
        self.sh("stat $M").ok();
    }

    /// Sends the program in the foreground a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let daemon = self.daemon.as_ref().expect("the program was started");
        kill(pid(daemon), signal).expect("it is there to get a signal");
    }

    /// The process that talks to the vault.
    pub(crate) fn worker(&self) -> Pid {
        *self.workers().first().expect("there is a worker")
    }

    /// The same, and who is about to take its place.
    pub(crate) fn workers(&self) -> Vec<Pid> {
        let mut processes = processes_of(&self.mountpoint);
        processes.retain(|process| {
            let line = std::fs::read_to_string(format!("/proc/{process}/cmdline"));
            line.unwrap_or_default().contains("@worker")
        });
        processes.into_iter().map(Pid::from_raw).collect()
    }

    /// Waits until the program in the foreground has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let daemon = self.daemon.as_mut().expect("the program was started");
        let status = wait_for(daemon).expect("the program ends in good time");
        self.daemon = None;
        status
    }

    /// What the program wrote to stderr.
    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The vault's requests so far, as `GET /secrets/a 200`; 0 stands for no answer.
    pub(crate) fn vault_requests(&self) -> Vec<String> {
        let log = self.emulator.log().into_iter();
        log.filter(|entry| entry.service == Service::KeyVault)
            .map(|entry| {
                let path = entry.path.trim_end_matches('/');
                format!("{} {path} {}", entry.method, entry.status.unwrap_or(0))
            })
            .collect()
    }

    /// How many requests asked for that.
    pub(crate) fn count(&self, operation: Operation) -> usize {
        self.emulator.count(operation)
    }

    /// The values of all versions of a secret, oldest first.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let versions = self.emulator.versions(name).into_iter();
        versions.map(|version| version.value).collect()
    }

    fn with_endpoints(&self, text: &str) -> String {
        let endpoints = self.emulator.endpoints();
        text.replace("VM_EXTENSION", &endpoints.vm_extension)
            .replace("RESOURCE_MANAGER", &endpoints.resource_manager)
            .replace("IMDS", &endpoints.imds)
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The program, where the test's user can run it.
    fn executable(&self) -> PathBuf {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_keyvaultfs"));
        if self.user.is_none() {
            return built;
        }
        let copy = self.directory.path().join("keyvaultfs");
        if !copy.exists() {
            std::fs::copy(built, &copy).expect("the program can be copied");
        }
        copy
    }

    /// A command that the test's user runs, and that is told to end if this process is killed
    /// before it can take the mount down.
    fn command_as_user(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]);
        if let Some(user) = self.user {
            command.args(["--reuid", user, "--regid", "nogroup", "--clear-groups"]);
        }
        command.arg(program.as_ref());
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env_remove(proxy);
        }
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    fn take_down(&mut self) {
        self.emulator.clear_faults();
        let Some(mut daemon) = self.daemon.take() else {
            return unmount_by_force(&self.mountpoint);
        };
        // It may be gone already; then there is nobody to tell.
        let _ = kill(pid(&daemon), Signal::SIGTERM);
        let ended = wait_for(&mut daemon);
        unmount_by_force(&self.mountpoint);
        if ended.is_none() {
            eprintln!("the program did not end on SIGTERM and was killed");
        }
        // Its children too, had it any left.
        let _ = killpg(pid(&daemon), Signal::SIGKILL);
        let _ = daemon.wait();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- requests\n{}", self.vault_requests().join("\n"));
            eprintln!("--- log of the program\n{}", self.log_text());
        }
        self.take_down();
        drop(self.watchdog.take());
    }
}

fn wait_for(daemon: &mut Child) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Ok(Some(status)) = daemon.try_wait() {
            return Some(status);
        }
        if started.elapsed() > PATIENCE {
            return None;
        }
        pause();
    }
}

fn run_to_end(command: &mut Command) {
    let status = command.status().expect("the command can be run");
    assert!(status.success(), "{command:?}: {status}");
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("process ids are small"))
}
