//! Which worker serves: the first, the one after one that died, and the one that takes over from
//! one that lives, when the program on disk is a new one.
//!
//! A worker that is taken over from keeps the requests and the handles it has until it has
//! finished with them; everything new goes to its successor.

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::deadlines::GRACE;
use super::error::MountError;
use super::line::Line;
use super::protocol::{self, OutHeader};
use super::questions::Messenger;
use super::relay::Relay;
use super::renewal::Renewal;
use super::restarts::Fate;
use super::supervise::{End, Supervisor};
use super::worker_process::{Ending, Sockets, Stage, Worker};
use crate::link::Handover;

/// The program that runs, whatever became of its file.
const SELF: &str = "/proc/self/exe";

/// How long a worker that was taken over from may keep what writers have staged with it. What is
/// not closed by then is lost, with an error at close.
const RETIREMENT: Duration = Duration::from_secs(600);

/// How long a worker that is ready waits for the one that serves to have no temporary files: an
/// editor may keep one open for hours.
const TEMPORARY: Duration = Duration::from_secs(60);

/// How often is looked whether one has finished, or may take over.
pub(super) const PERIOD: Duration = Duration::from_millis(20);

/// How far the change to the program on disk has come.
#[derive(Debug, Default)]
pub(super) enum HandOver {
    /// There is none.
    #[default]
    None,
    /// A worker from this program is being started, or the one before it is still finishing.
    Running(OwnedFd),
    /// The same, and another change has been asked for meanwhile.
    Again,
}

/// A worker that is ready to take over.
pub(super) struct Heir {
    generation: u32,
    /// How long it waits for a better moment.
    until: Instant,
    /// Whether the log says that it waits.
    told: bool,
}

impl Supervisor<'_> {
    /// Starts a worker for the requests that wait or come.
    pub(super) fn start_worker(&mut self) {
        if let Err(error) = self.start_worker_from(Path::new(SELF)) {
            self.worker_lost(Fate::Useless, format!("it cannot be started: {error}"));
        }
    }

    /// Starts a worker from the program on disk, to take over from the one that serves.
    pub(super) fn begin_hand_over(&mut self) {
        if !matches!(self.hand_over, HandOver::None) {
            self.hand_over = HandOver::Again;
            return;
        }
        tracing::info!(program = %self.binary.display(), "handing over");
        self.readiness.changing();
        self.renewal = None;
        // Opened here, since the worker's user may not reach the program by its path.
        let program = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(&self.binary);
        let started = program.and_then(|program| {
            let path = format!("/proc/self/fd/{}", program.as_raw_fd());
            self.start_worker_from(Path::new(&path))?;
            Ok(OwnedFd::from(program))
        });
        match started {
            Ok(program) => self.hand_over = HandOver::Running(program),
            Err(error) => self.hand_over_failed(&error.to_string()),
        }
    }

    /// A worker has answered INIT: it serves as soon as it may.
    pub(super) fn initialised(&mut self, generation: u32, reply: Vec<u8>) {
        let refused = OutHeader::parse(&reply).is_none_or(|header| header.error != 0);
        let differs = self
            .init_reply
            .as_ref()
            .is_some_and(|first| protocol::negotiated(first) != protocol::negotiated(&reply));
        let Some(worker) = self.worker(generation) else {
            return;
        };
        if refused || differs {
            let reason = if refused {
                "it refused the kernel's terms"
            } else {
                "its terms with the kernel are not those of the mount"
            };
            worker.failure.get_or_insert(reason.into());
            worker.kill();
            return;
        }
        worker.stage = Stage::Ready;
        if self.init_reply.is_none() {
            if let Err(error) = self.relay.write(&reply) {
                let text = format!("the kernel refused the worker's terms: {error}");
                self.end = Some(End::Failed(MountError::WorkerFailed(text)));
                return;
            }
            self.init_reply = Some(reply);
        }
        self.heir = Some(Heir {
            generation,
            until: Instant::now() + TEMPORARY,
            told: false,
        });
        self.take_over();
    }

    /// Lets the worker that is ready serve, if there is one and this is the moment: the temporary
    /// files of the one before it, which are in its memory alone, would be lost.
    pub(super) fn take_over(&mut self) {
        let Some(mut heir) = self.heir.take() else {
            return;
        };
        let generation = heir.generation;
        let Some(worker) = self.worker(generation) else {
            return;
        };
        let line = Arc::clone(&worker.line);
        let has_files = {
            // Until the change is made, or a file might be made between the two.
            let mut traffic = self.relay.traffic.lock();
            let has_files = traffic.current.as_ref().is_some_and(|current| {
                let owner = current.generation;
                traffic.in_flight.is_creating(owner) || self.relay.notes.lock().has_temporary(owner)
            });
            if has_files && Instant::now() < heir.until {
                drop(traffic);
                if !std::mem::replace(&mut heir.told, true) {
                    tracing::info!(generation, "a worker waits for temporary files to go");
                }
                self.heir = Some(heir);
                return;
            }
            traffic.down = None;
            // One that retires already goes on if its successor is the one that was lost.
            if let Some(before) = traffic.current.replace(line) {
                traffic.retiring = Some(before);
            }
            has_files
        };
        if has_files {
            tracing::warn!("handing over although there are temporary files: they are lost");
        }
        tracing::info!(generation, "a worker serves");
        let until = Instant::now() + RETIREMENT;
        for worker in &mut self.workers {
            if worker.generation == generation {
                worker.stage = Stage::Serving;
            } else if worker.stage == Stage::Serving {
                worker.stage = Stage::Retiring(until);
            }
        }
        self.readiness.ready();
    }

    /// A worker has ended: what it had goes to another, or fails.
    pub(super) fn gone(&mut self, generation: u32) {
        let Some(worker) = self.take_worker(generation) else {
            return;
        };
        let ending = worker.reap();
        let killed = worker.failure.is_none() && ending == Ending::Killed;
        let lost = {
            let mut traffic = self.relay.traffic.lock();
            let is_its = |line: &mut Arc<Line>| line.generation == generation;
            traffic.current.take_if(is_its);
            traffic.retiring.take_if(is_its);
            traffic.in_flight.orphan(generation, !killed)
        };
        self.relay.notes.lock().forget_temporary(generation);
        for (unique, pending) in lost {
            self.relay.fail_taken(unique, &pending, Errno::EIO);
        }
        let reason = worker.failure.clone().unwrap_or(ending.to_string());
        match worker.stage {
            Stage::Ending(_) => tracing::info!(generation, reason, "a worker has ended"),
            // Whoever serves goes on serving.
            Stage::Starting | Stage::Ready if self.has(|stage| stage == Stage::Serving) => {
                self.hand_over_failed(&reason);
            }
            Stage::Retiring(_) => tracing::warn!(generation, reason, "a worker was lost"),
            Stage::Starting | Stage::Ready | Stage::Serving => {
                let fate = match worker.line.answered() {
                    _ if killed => Fate::Killed,
                    0 => Fate::Useless,
                    _ => Fate::Useful,
                };
                self.worker_lost(fate, reason);
            }
        }
    }

    /// When it is to be looked whether a worker has finished.
    pub(super) fn next_retirement(&self, now: Instant) -> Option<Instant> {
        let retiring = |stage| matches!(stage, Stage::Retiring(_));
        self.has(retiring).then(|| now + PERIOD)
    }

    /// Ends the worker that was taken over from, if it has finished.
    pub(super) fn retire(&mut self) {
        let now = Instant::now();
        for worker in &mut self.workers {
            let Stage::Retiring(until) = worker.stage else {
                continue;
            };
            {
                // Together, or it might be given a write between the two.
                let mut traffic = self.relay.traffic.lock();
                let owes = traffic.in_flight.is_busy(worker.generation)
                    || self.relay.notes.lock().bind(worker.generation, now);
                if owes && now < until {
                    continue;
                }
                // From here on its handles are its successor's, by their notes.
                traffic.retiring = None;
            }
            worker.end(&self.relay, now + self.config.timeout + GRACE);
        }
        if self.has(|stage| stage != Stage::Serving) {
            return;
        }
        match std::mem::take(&mut self.hand_over) {
            HandOver::None => {}
            HandOver::Running(program) => self.renewal = Some(Renewal::to(program)),
            HandOver::Again => self.begin_hand_over(),
        }
    }

    fn hand_over_failed(&mut self, reason: &str) {
        tracing::error!(reason, "cannot hand over; going on as before");
        self.hand_over = HandOver::None;
        self.readiness.changed();
    }

    fn start_worker_from(&mut self, program: &Path) -> std::io::Result<()> {
        let Some(init) = &self.init else {
            return Ok(());
        };
        self.generation += 1;
        let sockets = Sockets::new()?;
        let heir = Messenger::to(self.generation, Arc::clone(&sockets.our_questions))?;
        let handover = Handover {
            config: self.config.clone(),
            generation: self.generation,
            foreground: self.foreground,
            notes: self.relay.notes.lock().bequeath(self.generation, heir),
        };
        let worker = self
            .common
            .start(program, &handover, sockets, &self.relay, &self.events)?;
        self.relay.send(&worker.line, init);
        self.workers.push(worker);
        Ok(())
    }

    /// Plans the next worker, unless one is being started already.
    fn worker_lost(&mut self, fate: Fate, reason: String) {
        if self.init_reply.is_none() {
            self.end = Some(End::Failed(MountError::WorkerFailed(reason)));
            return;
        }
        if self.has(|stage| matches!(stage, Stage::Starting | Stage::Ready | Stage::Serving)) {
            tracing::warn!(reason, "the worker is gone; another takes over");
            return;
        }
        self.restarts.lost(fate, Instant::now());
        if !self.restarts.is_hopeless() {
            tracing::warn!(reason, "the worker is gone; starting another");
            return;
        }
        tracing::error!(reason, "no worker stays alive; files fail until one does");
        self.relay.fail_unassigned(Errno::EIO);
    }

    /// Gives the requests that wait for a worker to the one that serves, if one does.
    pub(super) fn give_out_waiting(&mut self) {
        let (line, waiting) = {
            let mut traffic = self.relay.traffic.lock();
            let Some(line) = traffic.current.clone() else {
                return;
            };
            let waiting = traffic.in_flight.assign(line.generation);
            (line, waiting)
        };
        for request in waiting {
            self.relay.send(&line, &request);
        }
    }

    fn has(&self, stage: impl Fn(Stage) -> bool) -> bool {
        self.workers.iter().any(|worker| stage(worker.stage))
    }
}

impl Worker {
    /// Tells it to finish and end, which it has until `limit` to do.
    pub(super) fn end(&mut self, relay: &Relay, limit: Instant) {
        self.stage = Stage::Ending(limit);
        relay.send(&self.line, &protocol::destroy(relay.sequence()));
    }
}
