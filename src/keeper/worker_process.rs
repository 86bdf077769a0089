//! A worker as its keeper knows it: a process, two sockets, and how it is doing.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, setsockopt, shutdown, socketpair, sockopt,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::events::{Event, Events};
use super::line::Line;
use super::questions;
use super::relay::Relay;
use crate::config::environment::{Process, is_kept};
use crate::link::{Handover, News, ToWorker};
use crate::sys::descriptors::{inherited, memory_file};
use crate::sys::process::{Identity, Start};

/// The hidden argument that makes the program a worker.
const ARGUMENT: &str = "@worker";

/// How long a worker may take from closing its socket to its end.
const ENDING_LIMIT: Duration = Duration::from_millis(50);

/// Room in a worker's socket, in bytes: some thousands of requests, or some dozens of the longest.
const SOCKET_BUFFER: usize = 4 << 20;

/// A worker, alive until the keeper has reaped it.
pub(super) struct Worker {
    /// Which worker of this mount it is.
    pub(super) generation: u32,
    pub(super) line: Arc<Line>,
    pub(super) stage: Stage,
    pub(super) started: Instant,
    /// When it was asked for a sign of life that has not come yet.
    pub(super) probed: Option<Instant>,
    /// How many requests it had answered when one overran last.
    pub(super) answered: u64,
    /// How often in a row requests overran with none answered between.
    pub(super) strikes: u8,
    /// Why it cannot start, in its own words.
    pub(super) failure: Option<String>,
    pid: Pid,
    questions: Arc<OwnedFd>,
}

/// A worker that serves, as one program leaves it to the next.
#[derive(Serialize, Deserialize)]
pub(super) struct WorkerState {
    generation: u32,
    pid: i32,
    messages: RawFd,
    questions: RawFd,
    previous: usize,
}

/// What a worker is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not answered INIT yet.
    Starting,
    /// It has answered INIT, and waits until the worker that serves has no temporary files.
    Ready,
    /// It gets the requests.
    Serving,
    /// It serves the handles it made until it has finished with them, at most until then.
    Retiring(Instant),
    /// It was told to end, by then.
    Ending(Instant),
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ending {
    /// By itself.
    #[error("exit status {0}")]
    Exited(i32),
    /// By SIGKILL, which is somebody else's doing.
    #[error("killed")]
    Killed,
    /// By another signal, which is its own doing.
    #[error("{0}")]
    Signalled(Signal),
    /// There is no telling.
    #[error("an unknown end")]
    Unknown,
}

/// What all workers of a mount have in common.
pub(super) struct Workers {
    /// Whom they run as; as the keeper does if `None`.
    pub(super) identity: Option<Identity>,
    /// The mount's device, as mountinfo names it.
    pub(super) device: String,
    /// What /proc shows behind the program's name.
    pub(super) shown: [PathBuf; 2],
}

impl Workers {
    /// Starts a worker from `program`, with the threads that hear it. It waits for INIT. To be
    /// called by the thread that lives as long as the keeper: the worker dies with it.
    pub(super) fn start(
        &self,
        program: &Path,
        handover: &Handover,
        sockets: Sockets,
        relay: &Arc<Relay>,
        events: &Events,
    ) -> io::Result<Worker> {
        let generation = handover.generation;
        let record = memory_file("handover", &serde_json::to_vec(handover)?)?;
        let mut child = Start {
            program,
            arguments: &[
                OsStr::new("keyvaultfs"),
                OsStr::new(ARGUMENT),
                self.shown[0].as_os_str(),
                self.shown[1].as_os_str(),
            ],
            descriptors: &[
                sockets.their_messages.as_fd(),
                sockets.their_questions.as_fd(),
                record.as_fd(),
            ],
            environment: &|name| is_kept(name, Process::Worker, handover.config.identity.kind),
            identity: self.identity,
            own_session: false,
            dependent: true,
            shares_stderr: handover.foreground,
        }
        .spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let line = Arc::new(Line::new(generation, sockets.our_messages));
        let worker = Worker {
            generation,
            line: Arc::clone(&line),
            stage: Stage::Starting,
            started: Instant::now(),
            probed: None,
            answered: 0,
            strikes: 0,
            failure: None,
            pid,
            questions: Arc::clone(&sockets.our_questions),
        };
        if let Err(error) = worker.listen(relay, &self.device, events) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        Ok(worker)
    }
}

/// The sockets between keeper and a worker.
pub(super) struct Sockets {
    our_messages: OwnedFd,
    their_messages: OwnedFd,
    /// The keeper's end of questions and news.
    pub(super) our_questions: Arc<OwnedFd>,
    their_questions: OwnedFd,
}

impl Sockets {
    /// Fresh ones.
    pub(super) fn new() -> io::Result<Self> {
        let pair = || {
            socketpair(
                AddressFamily::Unix,
                SockType::SeqPacket,
                None,
                SockFlag::SOCK_CLOEXEC,
            )
        };
        let (our_messages, their_messages) = pair()?;
        let (our_questions, their_questions) = pair()?;
        for end in [&our_messages, &their_messages] {
            // As far as the system's limit goes.
            let _ = setsockopt(end, sockopt::SndBuf, &SOCKET_BUFFER);
        }
        Ok(Self {
            our_messages,
            their_messages,
            our_questions: Arc::new(our_questions),
            their_questions,
        })
    }
}

impl Worker {
    /// Ends it at once. What it sent is still read; then comes [`Event::Gone`].
    pub(super) fn kill(&self) {
        let _ = kill(self.pid, Signal::SIGKILL);
    }

    /// Waits for its end and says what it was. A worker whose socket is closed is ending by
    /// itself; one that is not after [`ENDING_LIMIT`] is killed.
    pub(super) fn reap(&self) -> Ending {
        let limit = Instant::now() + ENDING_LIMIT;
        loop {
            let patient = Instant::now() < limit;
            if !patient {
                self.kill();
            }
            let flags = patient.then_some(WaitPidFlag::WNOHANG);
            return match waitpid(self.pid, flags) {
                Ok(WaitStatus::StillAlive) => {
                    thread::sleep(Duration::from_micros(200));
                    continue;
                }
                Err(Errno::EINTR) => continue,
                Ok(WaitStatus::Exited(_, status)) => Ending::Exited(status),
                Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)) => Ending::Killed,
                Ok(WaitStatus::Signaled(_, signal, _)) => Ending::Signalled(signal),
                Ok(_) | Err(_) => Ending::Unknown,
            };
        }
    }

    /// The same worker, as a keeper before this one left it in this process.
    pub(super) fn resumed(
        state: WorkerState,
        device: &str,
        relay: &Arc<Relay>,
        events: &Events,
    ) -> io::Result<Self> {
        let messages = inherited(state.messages)?;
        let line = Line::resumed(state.generation, messages, state.previous);
        let worker = Self {
            generation: state.generation,
            line: Arc::new(line),
            stage: Stage::Serving,
            started: Instant::now(),
            probed: None,
            answered: 0,
            strikes: 0,
            failure: None,
            pid: Pid::from_raw(state.pid),
            questions: Arc::new(inherited(state.questions)?),
        };
        worker.listen(relay, device, events)?;
        Ok(worker)
    }

    /// What a keeper after this one has to know of it.
    pub(super) fn state(&self) -> WorkerState {
        let [messages, questions] = self.sockets();
        WorkerState {
            generation: self.generation,
            pid: self.pid.as_raw(),
            messages: messages.as_raw_fd(),
            questions: questions.as_raw_fd(),
            previous: self.line.previous(),
        }
    }

    /// The keeper's ends of messages and questions.
    pub(super) fn sockets(&self) -> [BorrowedFd<'_>; 2] {
        [self.line.as_fd(), self.questions.as_fd()]
    }

    /// Tells it something.
    pub(super) fn tell(&self, news: News) {
        questions::tell_now(&self.questions, &ToWorker::News(news));
    }

    /// Has what the worker sends heard: its messages by the relay, its questions by a thread of
    /// their own, which puts [`Event::Gone`] when all of both has been passed on.
    fn listen(&self, relay: &Arc<Relay>, device: &str, events: &Events) -> io::Result<()> {
        let generation = self.generation;
        let (questions, device) = (Arc::clone(&self.questions), device.to_owned());
        let (events, asked) = (events.clone(), Arc::clone(relay));
        let (hang_up, hung_up) = mpsc::channel();
        thread::Builder::new()
            .name(format!("questions-{generation}"))
            .spawn(move || {
                {
                    let passer = asked.gate.passer();
                    questions::answer(generation, &questions, &device, &events, &passer);
                }
                // Fails, too, only when the relay has let go of it.
                let _ = hung_up.recv();
                events.put(Event::Gone { worker: generation });
            })?;
        let questions = Arc::clone(&self.questions);
        relay.hear(&self.line, move || {
            // It asks nothing more, but may have said before why it ends.
            let _ = shutdown(questions.as_raw_fd(), Shutdown::Read);
            let _ = hang_up.send(());
        });
        Ok(())
    }
}
