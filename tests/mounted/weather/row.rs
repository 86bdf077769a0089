//! One row: what fails, and how an operation ends.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::ops::RangeInclusive;
use std::os::fd::IntoRawFd;
use std::time::Instant;

use keyvaultfs::emulator::{Fault, Operation, Service};
use nix::errno::Errno;

use super::{SLACK, TIMEOUT};
use crate::harness::{Mount, Setup, errno};

/// The value that the secret has when a row begins.
const OLD: &str = "the right value";
/// The value that a set gives it.
const NEW: &str = "the new value";

/// A scripted failure and what comes of it.
pub(super) struct Row {
    /// What happens, for the README.
    weather: &'static str,
    /// What is done.
    act: Act,
    /// What fails.
    script: Box<dyn Fn(&Mount) + Send + Sync>,
    /// Whether it fails from the start, when there is no token yet.
    no_token: bool,
    /// How it ends.
    end: Result<(), Errno>,
    /// How many requests the vault got for it.
    vault: RangeInclusive<usize>,
    /// How many requests for tokens there were.
    tokens: RangeInclusive<usize>,
    /// Whether the set became a version although it failed.
    carried_out: bool,
    argument: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Read,
    Set,
}

impl Row {
    /// A read that succeeds with one request, where nothing fails.
    pub(super) fn read(weather: &'static str) -> Self {
        Self {
            weather,
            act: Act::Read,
            script: Box::new(|_| {}),
            no_token: false,
            end: Ok(()),
            vault: 1..=1,
            tokens: 0..=0,
            carried_out: false,
            argument: None,
        }
    }

    /// A set that succeeds with two requests, the second of them the PUT, where nothing fails.
    pub(super) fn set(weather: &'static str) -> Self {
        Self {
            act: Act::Set,
            // Its requests are counted without the question whether it may be made.
            argument: Some("--no-set-check"),
            vault: 2..=2,
            ..Self::read(weather)
        }
    }

    /// It can be asked beforehand whether the set may be made.
    pub(super) fn asked_first(mut self) -> Self {
        self.argument = None;
        self
    }

    /// With this done before the operation.
    pub(super) fn script(mut self, script: impl Fn(&Mount) + Send + Sync + 'static) -> Self {
        self.script = Box::new(script);
        self
    }

    /// With this fault.
    pub(super) fn fault(self, fault: Fault) -> Self {
        self.script(move |mount| {
            mount.emulator.add_fault(fault.clone());
        })
    }

    /// It fails from the start, when there is no token; one is asked for so often.
    pub(super) fn without_token(mut self, tokens: RangeInclusive<usize>) -> Self {
        self.no_token = true;
        self.tokens = tokens;
        self
    }

    /// It ends in this errno.
    pub(super) fn fails(mut self, errno: Errno) -> Self {
        self.end = Err(errno);
        self
    }

    /// It costs so many requests to the vault.
    pub(super) fn requests(mut self, vault: RangeInclusive<usize>) -> Self {
        self.vault = vault;
        self
    }

    /// It costs so many requests for tokens.
    pub(super) fn tokens(mut self, tokens: RangeInclusive<usize>) -> Self {
        self.tokens = tokens;
        self
    }

    /// It is carried out all the same.
    pub(super) fn carried_out(mut self) -> Self {
        self.carried_out = true;
        self
    }

    /// Mounts, fails as scripted, does it, and compares. The error says what was different.
    pub(super) fn try_out(&self) -> Result<(), String> {
        let mut setup = Setup::new().argument(&format!("--timeout={}s", TIMEOUT.as_secs()));
        if let Some(argument) = self.argument {
            setup = setup.argument(argument);
        }
        let mut mount = setup.prepare();
        mount.emulator.set_clock_skew(-3600);
        mount.emulator.set_secret("a", OLD);
        mount.emulator.set_secret("b", "another value");
        mount.emulator.set_clock_skew(0);
        if self.no_token {
            (self.script)(&mount);
            mount.start();
        } else {
            mount.start();
            mount.sh("cat $M/b").ok();
            mount.emulator.clear_log();
            (self.script)(&mount);
        }
        let began = Instant::now();
        let end = self.act(&mount);
        let took = began.elapsed();

        let mut wrong = Vec::new();
        if end != self.end {
            wrong.push(format!("ended {end:?}, not {:?}", self.end));
        }
        if took > TIMEOUT + SLACK {
            wrong.push(format!("took {took:?}"));
        }
        let requests = mount.vault_requests();
        if !self.vault.contains(&requests.len()) {
            wrong.push(format!("made {requests:?}, not {:?}", self.vault));
        }
        let tokens = mount.count(Operation::Token);
        if !self.tokens.contains(&tokens) {
            wrong.push(format!("asked for {tokens} tokens, not {:?}", self.tokens));
        }
        let set = self.act == Act::Set && (self.end.is_ok() || self.carried_out);
        let versions: &[&str] = if set { &[OLD, NEW] } else { &[OLD] };
        if mount.values("a") != versions {
            wrong.push(format!("left the versions {:?}", mount.values("a")));
        }
        // What hangs is let go, so that the unmount need not wait for it.
        mount.emulator.clear_faults();
        let _ = mount.emulator.resume(Service::KeyVault);
        if wrong.is_empty() {
            return Ok(());
        }
        let log = mount.log_text();
        Err(format!("{}: {}\n{log}", self.weather, wrong.join(", ")))
    }

    fn act(&self, mount: &Mount) -> Result<(), Errno> {
        let path = mount.path("a");
        match self.act {
            // In a thread of its own: the first one's lookup may have failed just now.
            Act::Read => {
                let reader = std::thread::spawn(|| errno(std::fs::read(path)));
                let value = reader.join().expect("the reader does not panic")?;
                assert_eq!(
                    String::from_utf8(value).as_deref(),
                    Ok(OLD),
                    "{}",
                    self.weather
                );
                Ok(())
            }
            Act::Set => {
                let mut file = errno(File::create(path))?;
                errno(file.write_all(NEW.as_bytes()))?;
                // Dropping a file hides what close(2) says.
                nix::unistd::close(file.into_raw_fd())
            }
        }
    }
}

/// The row of the README's table.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match (self.act, self.end) {
            (Act::Read, Ok(())) => "the value".to_owned(),
            (Act::Set, Ok(())) => "success, one version".to_owned(),
            (_, Err(errno)) => format!("{errno:?}"),
        };
        let (least, most) = (self.vault.start(), self.vault.end());
        let requests = if least == most {
            least.to_string()
        } else {
            format!("{least} to {most}")
        };
        write!(f, "| {} | {end} | {requests} |", self.weather)
    }
}
