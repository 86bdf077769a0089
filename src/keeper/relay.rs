//! Passes whole messages between the kernel and workers.
//!
//! One thread does, so that a message wakes as few as can be: a second one for the replies cost
//! a reader more than all else here. It waits for nobody but whom it polls. Notifications can
//! block behind a pending request and have a thread of their own. Who is the worker, and when to
//! stop waiting for it, is decided in `supervise`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::{read, write};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::events::{Event, Events};
use super::gate::Gate;
use super::in_flight::{InFlight, InFlightState, Pending, Settled};
use super::line::{Line, Received, Sent};
use super::notes::{Notes, NotesState};
use super::notifications::Notifications;
use super::patience::Patience;
use super::protocol::{self, InHeader, Opcode, OutHeader};
use crate::link::NoteFrame;

/// Room for the largest request: 64 KiB of a WRITE or of an extended attribute, its name, headers.
/// A BATCH_FORGET is as long as the room the kernel finds, so that is kept to what a worker's
/// socket takes in one message.
const REQUEST: usize = (1 << 17) + (1 << 13);
/// The room in a socket where nobody has changed the system's defaults; socket(7), unix(7).
const _: () = assert!(REQUEST <= 212_992 - 32);

/// Room for the largest reply: the kernel's limit of 1 MiB, and headers.
const REPLY: usize = (1 << 20) + (1 << 13);

/// What the threads share.
pub(super) struct Relay {
    device: OwnedFd,
    /// Where threads are held.
    pub(super) gate: Gate,
    /// Guards which worker has which request: a request is admitted and given a worker at once.
    pub(super) traffic: Mutex<Traffic>,
    /// Locked after `traffic` where both are.
    pub(super) notes: Mutex<Notes>,
    events: Events,
    pub(super) notifications: Notifications,
    /// Workers that the thread does not hear yet, and how it is woken for them.
    arrivals: Mutex<Vec<Heard>>,
    wake: EventFd,
    sequence: AtomicU64,
}

/// A worker that is heard, and what to do when it has said its last.
struct Heard {
    line: Arc<Line>,
    ended: Box<dyn FnOnce() + Send>,
}

/// A relay's memory, as one program leaves it to the next.
#[derive(Serialize, Deserialize)]
pub(super) struct RelayState {
    in_flight: InFlightState,
    notes: NotesState,
    sequence: u64,
}

/// What is on its way, and through whom.
#[derive(Default)]
pub(super) struct Traffic {
    pub(super) in_flight: InFlight,
    /// The worker that gets requests. Without one they wait.
    pub(super) current: Option<Arc<Line>>,
    /// Its predecessor, which still serves the handles it made.
    pub(super) retiring: Option<Arc<Line>>,
    /// There will be no worker: requests fail at once, with this.
    pub(super) down: Option<Errno>,
}

impl Relay {
    /// A relay for the mount that `device` serves.
    pub(super) fn new(device: OwnedFd, events: Events) -> io::Result<Self> {
        // What there is to read is asked of poll(2), together with the workers' sockets.
        fcntl(&device, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self {
            notifications: Notifications::start(&device)?,
            device,
            gate: Gate::default(),
            traffic: Mutex::default(),
            notes: Mutex::default(),
            events,
            arrivals: Mutex::default(),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            sequence: AtomicU64::new(0),
        })
    }

    /// What a relay after this one has to know, while all threads are held.
    pub(super) fn state(&self) -> RelayState {
        RelayState {
            in_flight: self.traffic.lock().in_flight.state(),
            notes: self.notes.lock().state(),
            sequence: self.sequence.load(Ordering::Relaxed),
        }
    }

    /// Goes on where another left off.
    pub(super) fn restore(&self, state: RelayState) {
        self.traffic.lock().in_flight = InFlight::restored(state.in_flight);
        *self.notes.lock() = Notes::restored(state.notes);
        self.sequence.store(state.sequence, Ordering::Relaxed);
    }

    /// The descriptor of /dev/fuse.
    pub(super) fn device(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// Whether the kernel still has the file system, mounted somewhere or in use.
    pub(super) fn is_connected(&self) -> bool {
        let mut descriptors = [PollFd::new(self.device.as_fd(), PollFlags::empty())];
        let polled = poll(&mut descriptors, PollTimeout::ZERO);
        let events = descriptors[0].revents().unwrap_or(PollFlags::POLLERR);
        polled.is_ok() && !events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP)
    }

    /// Hears a worker from now on. When it is gone and all it sent has been passed on, `ended` is
    /// called, which must not wait.
    pub(super) fn hear(&self, line: &Arc<Line>, ended: impl FnOnce() + Send + 'static) {
        let line = Arc::clone(line);
        let ended = Box::new(ended);
        self.arrivals.lock().push(Heard { line, ended });
        let _ = self.wake.write(1);
    }

    /// Passes on what the kernel and the workers send, for as long as the process lives.
    pub(super) fn pump(&self) {
        let mut buffer = vec![0; REPLY.max(REQUEST)];
        let mut heard = Vec::new();
        let mut unmounted = false;
        let mut patience = Patience::new();
        let passer = self.gate.passer();
        loop {
            passer.pass();
            heard.append(&mut self.arrivals.lock());
            // Replies first: somebody waits for each, and a request may yet find its name known.
            let mut moved = self.take_replies(&mut heard, &mut buffer);
            if !unmounted {
                match self.take_request(&mut buffer[..REQUEST]) {
                    Some(taken) => moved |= taken,
                    None => unmounted = true,
                }
            }
            let now = Instant::now();
            if moved {
                patience.reward(now);
            } else if patience.is_over(now) {
                self.sleep(&heard, unmounted);
            } else {
                // The worker may wait for this very processor.
                thread::yield_now();
            }
        }
    }

    /// Whether there was one. `None` once the file system is unmounted.
    fn take_request(&self, buffer: &mut [u8]) -> Option<bool> {
        match read(&self.device, buffer) {
            Ok(length) => {
                self.request(&mut buffer[..length]);
                return Some(true);
            }
            // ENOENT: the request was interrupted before it could be read.
            Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOENT) => return Some(false),
            // The second: the connection was aborted, as by `umount -f`.
            Err(Errno::ENODEV | Errno::ECONNABORTED) => {}
            Err(error) => tracing::error!(%error, "/dev/fuse cannot be read"),
        }
        self.events.put(Event::Unmounted);
        None
    }

    /// At most one of each worker. Whether there were any.
    fn take_replies(&self, heard: &mut Vec<Heard>, buffer: &mut [u8]) -> bool {
        let mut moved = false;
        for worker in heard.extract_if(.., |worker| match worker.line.receive(buffer) {
            Received::Message(message) => {
                self.reply(&worker.line, message);
                // It may have been a value. Not optimised away: the buffer is read again.
                message.fill(0);
                moved = true;
                false
            }
            Received::Nothing => false,
            Received::End => true,
        }) {
            (worker.ended)();
        }
        moved
    }

    fn sleep(&self, heard: &[Heard], unmounted: bool) {
        let readable = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
        let mut descriptors = vec![readable(self.wake.as_fd())];
        descriptors.extend(heard.iter().map(|worker| readable(worker.line.as_fd())));
        descriptors.extend((!unmounted).then(|| readable(self.device.as_fd())));
        // It fails only when interrupted, which is why it is to be passed at the gate.
        let _ = poll(&mut descriptors, PollTimeout::NONE);
        let _ = self.wake.read();
    }

    /// Tells the kernel that a request failed, unless it has been answered. Returns whether it
    /// had not been.
    pub(super) fn fail(&self, unique: u64, errno: Errno) -> bool {
        let pending = self.traffic.lock().in_flight.abandon(unique);
        if let Some(pending) = &pending {
            self.fail_taken(unique, pending, errno);
        }
        pending.is_some()
    }

    /// From now on requests that no worker has fail, with `errno`.
    pub(super) fn fail_unassigned(&self, errno: Errno) {
        let waiting = {
            let mut traffic = self.traffic.lock();
            traffic.down = Some(errno);
            traffic.in_flight.unassigned()
        };
        for unique in waiting {
            self.fail(unique, errno);
        }
    }

    /// Tells the kernel that a request failed that has been taken out of those in flight.
    pub(super) fn fail_taken(&self, unique: u64, pending: &Pending, errno: Errno) {
        self.forget_handle(pending.worker, pending.opcode, &pending.message);
        self.reply_error(unique, errno);
    }

    /// Drops the notes of a handle that the kernel has released: it never names it again,
    /// whoever answered and whatever the answer was.
    fn forget_handle(&self, worker: Option<u32>, opcode: Opcode, message: &[u8]) {
        if opcode == Opcode::RELEASE
            && let Some(handle) = protocol::handle_of(opcode, message)
        {
            self.notes.lock().release(worker, handle);
        }
    }

    fn reply_error(&self, unique: u64, errno: Errno) {
        let _ = self.write(&protocol::error_reply(unique, errno as i32));
    }

    /// Writes to the kernel. `ENOENT` if it does not wait for this reply.
    pub(super) fn write(&self, message: &[u8]) -> Result<(), Errno> {
        write(&self.device, message).map(drop)
    }

    /// Sends a worker a message; the supervisor is called if there is no room for it now.
    pub(super) fn send(&self, line: &Line, message: &[u8]) {
        if line.send(message) == Sent::Congested {
            self.events.put(Event::Congested);
        }
    }

    /// Two fresh numbers for requests of the keeper's own; the first is returned.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence.fetch_add(2, Ordering::Relaxed)
    }

    fn request(&self, message: &mut [u8]) {
        protocol::dress_for_fuser(message);
        let Some(header) = InHeader::parse(message) else {
            tracing::error!(length = message.len(), "the kernel sent a cut request");
            return;
        };
        match header.opcode {
            Opcode::INIT => self.events.put(Event::Init(message.to_vec())),
            Opcode::INTERRUPT => {
                if let Some(unique) = protocol::interrupted_by(message) {
                    self.events.put(Event::Interrupted(unique));
                }
            }
            // The kernel is done; reading on says so. Sent for block devices only, so far.
            Opcode::DESTROY => {
                let _ = self.write(&protocol::error_reply(header.unique, 0));
            }
            _ => self.forward(&header, message),
        }
        if header.opcode.carries_payload() {
            message.fill(0);
        }
    }

    fn forward(&self, header: &InHeader, message: &[u8]) {
        let line = {
            let mut traffic = self.traffic.lock();
            let line = traffic.route(header.opcode, message);
            if !header.opcode.is_unanswered() {
                if line.is_none()
                    && let Some(errno) = traffic.down
                {
                    drop(traffic);
                    self.forget_handle(None, header.opcode, message);
                    return self.reply_error(header.unique, errno);
                }
                let worker = line.as_ref().map(|line| line.generation);
                traffic
                    .in_flight
                    .admit(header, message, Instant::now(), worker);
            }
            line
        };
        // Outside the lock: should the worker die before this, the request is in the table.
        if let Some(line) = line {
            self.send(&line, message);
        }
    }

    fn reply(&self, line: &Line, message: &[u8]) {
        let Some(header) = OutHeader::parse(message) else {
            tracing::error!(length = message.len(), "a worker sent a cut reply");
            return;
        };
        let worker = line.generation;
        if NoteFrame::is_header(header.unique, header.error) {
            return match NoteFrame::decode(message) {
                Some(note) => self.notes.lock().apply(worker, note),
                None => tracing::error!("a worker sent a cut note"),
            };
        }
        if header.unique == 0 {
            return self.notifications.put(message.to_vec());
        }
        if line.expects_init_reply() {
            let reply = message.to_vec();
            return self.events.put(Event::Initialised { worker, reply });
        }
        if protocol::is_own(header.unique) {
            return self.events.put(Event::Alive { worker });
        }
        let settled = self.traffic.lock().in_flight.settle(header.unique, worker);
        match settled {
            Settled::Awaited(pending) => {
                line.count_answer();
                if pending.is_on_trial() {
                    self.events.put(Event::Acquitted);
                }
                self.forget_handle(Some(worker), pending.opcode, &pending.message);
                let now = Instant::now();
                if pending.is_slow_lookup(now)
                    && let Some(nodeid) = protocol::found_by(message)
                {
                    // Before the kernel hears it, and sends the next.
                    let mut traffic = self.traffic.lock();
                    traffic.in_flight.looked_up(&pending, nodeid, now);
                }
                match self.write(message) {
                    // ENOENT: the kernel gave the request up. The others: it is unmounted.
                    Ok(()) | Err(Errno::ENODEV | Errno::EPERM) => {}
                    Err(Errno::ENOENT) => {
                        self.undo(line, pending.opcode, pending.nodeid, message);
                    }
                    Err(error) => {
                        tracing::error!(%error, opcode = ?pending.opcode, "the kernel refuses a reply");
                        self.reply_error(header.unique, Errno::EIO);
                    }
                }
            }
            Settled::Abandoned { opcode, nodeid } => self.undo(line, opcode, nodeid, message),
            Settled::Unknown => {}
        }
    }

    fn undo(&self, line: &Line, opcode: Opcode, nodeid: u64, reply: &[u8]) {
        for request in protocol::undo(opcode, nodeid, reply, self.sequence()) {
            if let Some(own) = InHeader::parse(&request) {
                self.forget_handle(Some(line.generation), own.opcode, &request);
            }
            self.send(line, &request);
        }
    }
}

impl Traffic {
    /// Whose a request is: the handle's maker's, while it lives, else the current worker's.
    fn route(&self, opcode: Opcode, message: &[u8]) -> Option<Arc<Line>> {
        if let Some(retiring) = &self.retiring
            && let Some(handle) = protocol::handle_of(opcode, message)
            && handle >> 32 == u64::from(retiring.generation)
        {
            return Some(Arc::clone(retiring));
        }
        self.current.clone()
    }
}
