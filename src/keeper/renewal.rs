//! The keeper makes way for a newer program, which goes on in this very process: the mount, the
//! worker and what is in flight are kept.
//!
//! The threads are held between two messages; what they know goes into a memory file; then the
//! process executes the program. If it cannot, everything goes on as before.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::launch::{ARGUMENT, Assignment};
use super::mounted::Mounted;
use super::relay::RelayState;
use super::supervise::Supervisor;
use super::worker_process::{Stage, WorkerState};
use crate::config::Config;
use crate::sys::descriptors::memory_file;
use crate::sys::process::{Start, replace};

/// How long the threads may take to come to a halt. Requests wait meanwhile.
pub(super) const HALT: Duration = Duration::from_millis(50);

/// How long the new program may take to say that it could go on.
const TRIAL: Duration = Duration::from_secs(1);

/// How long a moment is waited for at which the keeper can be replaced.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is tried.
pub(super) const PERIOD: Duration = Duration::from_millis(20);

/// What one program leaves to the next.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub(super) config: Config,
    pub(super) foreground: bool,
    pub(super) binary: PathBuf,
    pub(super) mounted: Mounted,
    /// The descriptor of /dev/fuse.
    pub(super) device: RawFd,
    pub(super) relay: RelayState,
    pub(super) worker: WorkerState,
    pub(super) generation: u32,
    pub(super) init: Vec<u8>,
    pub(super) init_reply: Vec<u8>,
    pub(super) watched: Vec<u64>,
}

/// A program that is to take over.
pub(super) struct Renewal {
    program: OwnedFd,
    until: Instant,
    tried: bool,
}

impl Renewal {
    /// The program may take over from now on.
    pub(super) fn to(program: OwnedFd) -> Self {
        Self {
            program,
            until: Instant::now() + PATIENCE,
            tried: false,
        }
    }

    /// Where it can be executed from, whoever may reach it by its own path.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.program.as_raw_fd()).into()
    }
}

impl Supervisor<'_> {
    /// Lets the program that is to take over do so, if there is one and this is the moment.
    /// Does not return then.
    pub(super) fn renew(&mut self) {
        let Some(mut renewal) = self.renewal.take() else {
            return;
        };
        if Instant::now() >= renewal.until {
            return self.renewal_failed("there was no moment for it");
        }
        let outcome = if renewal.tried {
            self.make_way(&renewal.path())
        } else {
            renewal.tried = true;
            self.try_out(&renewal.path())
        };
        match outcome {
            Ok(()) => self.renewal = Some(renewal),
            Err(error) => self.renewal_failed(&error.to_string()),
        }
    }

    fn renewal_failed(&mut self, reason: &str) {
        tracing::error!(reason, "cannot replace the keeper; the old one goes on");
        self.readiness.changed();
    }

    /// Asks the program whether it could go on from here.
    fn try_out(&self, program: &Path) -> io::Result<()> {
        let Some(state) = self.state() else {
            return Ok(());
        };
        let state = serde_json::to_vec(&Assignment::Try(Box::new(state)))?;
        let state = memory_file("state", &state)?;
        let mut trial = Start {
            program,
            arguments: &[OsStr::new("keyvaultfs"), OsStr::new(ARGUMENT)],
            descriptors: &[state.as_fd()],
            environment: &|_| true,
            identity: None,
            own_session: false,
            dependent: true,
            shares_stderr: false,
        }
        .spawn()?;
        let limit = Instant::now() + TRIAL;
        loop {
            match trial.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(io::Error::other(format!("the new one cannot: {status}")));
                }
                None if Instant::now() < limit => thread::sleep(Duration::from_millis(2)),
                None => {
                    let _ = trial.kill();
                    let _ = trial.wait();
                    return Err(io::Error::other("the new one does not answer"));
                }
            }
        }
    }

    /// Executes the program, if this is the moment; else returns and is to be called again.
    fn make_way(&mut self, program: &Path) -> io::Result<()> {
        if !self.is_settled() || !self.relay.gate.close(Instant::now() + HALT) {
            return Ok(());
        }
        let error = self.execute(program);
        self.relay.gate.open();
        error.map_or(Ok(()), Err)
    }

    /// With all threads held. `None` if this is not the moment after all.
    fn execute(&mut self, program: &Path) -> Option<io::Error> {
        // What the threads said last is to be heard first.
        if self.has_events() || !self.is_settled() {
            return None;
        }
        let state = self.state()?;
        let worker = self.workers.first()?;
        let state = serde_json::to_vec(&Assignment::Resume(Box::new(state)))
            .map_err(io::Error::from)
            .and_then(|state| memory_file("state", &state));
        let state = match state {
            Ok(state) => state,
            Err(error) => return Some(error),
        };
        let [source, mountpoint] = &self.common.shown;
        tracing::info!(program = %self.binary.display(), "replacing the keeper");
        let arguments = [
            OsStr::new("keyvaultfs"),
            OsStr::new(ARGUMENT),
            source.as_os_str(),
            mountpoint.as_os_str(),
        ];
        let [messages, questions] = worker.sockets();
        let kept = [self.relay.device(), messages, questions];
        Some(replace(program, &arguments, state.as_fd(), &kept))
    }

    /// Whether there is one worker, which serves, and nothing is half-way that cannot be told.
    fn is_settled(&self) -> bool {
        let [worker] = &self.workers[..] else {
            return false;
        };
        worker.stage == Stage::Serving
            && !worker.line.is_congested()
            && self.relay.notifications.are_done()
            && self.relay.notes.lock().are_told()
            // What was written is not to leave this process.
            && !self.relay.traffic.lock().in_flight.carries_payload()
    }

    fn state(&self) -> Option<State> {
        Some(State {
            config: self.config.clone(),
            foreground: self.foreground,
            binary: self.binary.clone(),
            mounted: self.mounted.clone(),
            device: self.relay.device().as_raw_fd(),
            relay: self.relay.state(),
            worker: self.workers.first()?.state(),
            generation: self.generation,
            init: self.init.clone()?,
            init_reply: self.init_reply.clone()?,
            watched: self.watched.clone(),
        })
    }
}
