//! What the relay's threads have to say to the supervising one, which sleeps in poll(2).
//!
//! Rare things only: a request and its reply pass without an event.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The kernel began to speak: its INIT request.
    Init(Vec<u8>),
    /// The kernel passes on that the waiter of this request got a signal.
    Interrupted(u64),
    /// The kernel speaks no more: the file system is unmounted, or its connection aborted.
    Unmounted,
    /// A worker answered INIT with this.
    Initialised { worker: u32, reply: Vec<u8> },
    /// A worker said that it cannot start.
    Failed { worker: u32, text: String },
    /// A worker does not take messages as fast as they come.
    Congested,
    /// A request was answered that others waited behind, lest they fail for it.
    Acquitted,
    /// A worker answered a probe.
    Alive { worker: u32 },
    /// A worker's socket is closed and all it sent has been passed on.
    Gone { worker: u32 },
}

/// Where threads put events. Cheap to clone.
#[derive(Clone)]
pub(super) struct Events {
    sender: Sender<Event>,
    wake: Arc<EventFd>,
}

/// Where the supervising thread finds them.
pub(super) struct Inbox {
    receiver: Receiver<Event>,
    wake: Arc<EventFd>,
}

/// Both ends.
pub(super) fn channel() -> nix::Result<(Events, Inbox)> {
    let wake = Arc::new(EventFd::from_flags(
        EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
    )?);
    let (sender, receiver) = mpsc::channel();
    let events = Events {
        sender,
        wake: Arc::clone(&wake),
    };
    Ok((events, Inbox { receiver, wake }))
}

impl Events {
    /// Puts in an event and wakes the supervising thread.
    pub(super) fn put(&self, event: Event) {
        // Fails only when the supervisor has ended, and the process with it.
        let _ = self.sender.send(event);
        let _ = self.wake.write(1);
    }
}

impl Inbox {
    /// The next event, if there is one.
    pub(super) fn next(&self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }

    /// Forgets wake-ups so far; to be called before [`Inbox::next`].
    pub(super) fn clear(&self) {
        let _ = self.wake.read();
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
