//! The keeper's main thread: keeps a worker alive behind the mount, and the mount's promises
//! where workers do not.
//!
//! Everything it waits for comes through one poll(2), here. What it does then: who serves is in
//! `succession`, when waiting ends in `deadlines`, how all ends in `ending`. Messages themselves
//! pass in `relay`, without it.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::MountError;
use super::events::{Event, Events, Inbox};
use super::mounted::Mounted;
use super::readiness::Readiness;
use super::relay::Relay;
use super::renewal::{self, Renewal};
use super::restarts::Restarts;
use super::signals::{Signal, Signals};
use super::succession::{self, HandOver, Heir};
use super::worker_process::{Worker, Workers};
use crate::config::Config;
use crate::link::News;
use crate::log;

/// Everything the main thread knows.
pub(super) struct Supervisor<'a> {
    pub(super) config: Config,
    pub(super) foreground: bool,
    /// Where the program lies on disk, maybe in a newer version than this process runs.
    pub(super) binary: PathBuf,
    pub(super) mounted: Mounted,
    pub(super) relay: Arc<Relay>,
    pub(super) events: Events,
    pub(super) inbox: Inbox,
    pub(super) signals: Signals,
    pub(super) readiness: &'a mut Readiness,
    pub(super) common: Workers,
    pub(super) workers: Vec<Worker>,
    /// The last worker's generation.
    pub(super) generation: u32,
    /// The kernel's INIT request, once it came.
    pub(super) init: Option<Vec<u8>>,
    /// The first worker's reply to it, which every later one's must equal.
    pub(super) init_reply: Option<Vec<u8>>,
    pub(super) restarts: Restarts,
    pub(super) hand_over: HandOver,
    /// The worker that is ready to take over, once there is a moment.
    pub(super) heir: Option<Heir>,
    /// The program that is to replace this one, once there is a moment.
    pub(super) renewal: Option<Renewal>,
    /// An event that was found when there was no time for it.
    pub(super) postponed: Option<Event>,
    /// Requests whose waiters got a signal that may have been harmless.
    pub(super) watched: Vec<u64>,
    /// Why the mount is to end, once it is.
    pub(super) end: Option<End>,
}

/// Why a mount ends.
pub(super) enum End {
    /// It was unmounted, or this process was told to end.
    Told,
    /// It never became one.
    Failed(MountError),
}

impl Supervisor<'_> {
    /// Serves until the mount ends, and cleans up after it.
    pub(super) fn run(mut self) -> Result<(), MountError> {
        let end = loop {
            if let Some(end) = self.end.take() {
                break end;
            }
            if let Err(error) = self.wait() {
                tracing::error!(%error, "the keeper cannot wait for events");
                break End::Told;
            }
            self.step();
        };
        self.readiness.stopping();
        // Once it is unmounted its path and even its device number may be somebody else's.
        if self.relay.is_connected() {
            self.mounted.unmount();
        }
        match end {
            End::Failed(error) => {
                self.abort();
                Err(error)
            }
            End::Told if self.init_reply.is_none() => {
                self.abort();
                let text = "it was unmounted or told to end before it was ready";
                Err(MountError::KeeperFailed(text.into()))
            }
            End::Told => {
                self.finish();
                Ok(())
            }
        }
    }

    /// The worker of a generation, while it lives.
    pub(super) fn worker(&mut self, generation: u32) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|w| w.generation == generation)
    }

    /// The worker of a generation, which is not counted among the living any more.
    pub(super) fn take_worker(&mut self, generation: u32) -> Option<Worker> {
        let mut living = self.workers.iter();
        let index = living.position(|w| w.generation == generation)?;
        Some(self.workers.swap_remove(index))
    }

    fn wait(&self) -> io::Result<()> {
        let now = Instant::now();
        let others = [
            self.restarts.due(),
            self.readiness.watchdog_due(),
            self.next_retirement(now),
            self.heir.as_ref().map(|_| now + succession::PERIOD),
            self.renewal.as_ref().map(|_| now + renewal::PERIOD),
        ];
        let others = others.into_iter().flatten();
        let until = others.fold(self.next_deadline(now), Instant::min);
        // Rounded up, or the last millisecond is spun away.
        let timeout = until.saturating_duration_since(now) + Duration::from_millis(1);
        let mut descriptors = vec![
            PollFd::new(self.inbox.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        let congested = self.workers.iter().filter(|w| w.line.is_congested());
        descriptors.extend(congested.map(|w| PollFd::new(w.line.as_fd(), PollFlags::POLLOUT)));
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn step(&mut self) {
        for worker in &self.workers {
            worker.line.drain();
        }
        while let Some(signal) = self.signals.next() {
            self.on_signal(signal);
        }
        self.inbox.clear();
        while let Some(event) = self.next_event() {
            self.on_event(event);
        }
        self.look_at_signals();
        self.enforce_deadlines();
        if self.restarts.take_due(Instant::now()) {
            self.start_worker();
        }
        self.take_over();
        self.retire();
        self.give_out_waiting();
        // What it has been told already would be lost with this program.
        if self.end.is_none() {
            self.renew();
        }
        self.readiness.feed_watchdog();
    }

    /// Whether something has happened that has not been dealt with.
    pub(super) fn has_events(&mut self) -> bool {
        self.postponed = self.inbox.next();
        self.postponed.is_some()
    }

    fn next_event(&mut self) -> Option<Event> {
        self.postponed.take().or_else(|| self.inbox.next())
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::End => {
                tracing::info!("told to end");
                self.end = Some(End::Told);
            }
            Signal::HandOver => self.begin_hand_over(),
            Signal::ReopenLogs => {
                log::reopen();
                for worker in &self.workers {
                    worker.tell(News::ReopenLogs);
                }
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Init(request) => {
                self.init = Some(request);
                self.start_worker();
            }
            Event::Interrupted(unique) => self.watched.push(unique),
            Event::Unmounted => {
                tracing::info!("unmounted");
                self.end.get_or_insert(End::Told);
            }
            Event::Initialised { worker, reply } => self.initialised(worker, reply),
            Event::Failed { worker, text } => {
                if let Some(worker) = self.worker(worker) {
                    worker.failure.get_or_insert(text);
                    worker.kill();
                }
            }
            Event::Alive { worker } => {
                if let Some(worker) = self.worker(worker) {
                    worker.probed = None;
                }
            }
            // `step` drains lines, and `wait` waits for room; `step` gives out what waits.
            Event::Congested | Event::Acquitted => {}
            Event::Gone { worker } => self.gone(worker),
        }
    }
}
