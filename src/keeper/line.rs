//! The socket on which one worker gets requests.
//!
//! Never waits: a worker that is stopped must not stop what reads /dev/fuse. What does not fit
//! the socket queues here until the supervisor finds room. Leaves no written value in a worker's
//! receive buffer longer than till the next message, which is padded over it.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send, sendmsg};
use parking_lot::Mutex;
use zeroize::Zeroizing;

const FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

/// The way to one worker.
pub(super) struct Line {
    /// Which worker.
    pub(super) generation: u32,
    socket: OwnedFd,
    /// Keeps messages, and what they are padded to, in order.
    sending: Mutex<Sending>,
    answered: AtomicU64,
    initialised: AtomicBool,
}

#[derive(Default)]
struct Sending {
    /// The length of the message before, whose bytes are still in the worker's buffer.
    previous: usize,
    /// As many zeros as were ever needed.
    zeros: Vec<u8>,
    backlog: VecDeque<Zeroizing<Vec<u8>>>,
}

/// What a worker sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    /// This.
    Message(&'a mut [u8]),
    /// Nothing yet.
    Nothing,
    /// Nothing any more: it is gone.
    End,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Sent {
    /// The worker has it, or is gone, which will be noticed where its replies are read.
    Away,
    /// The first to wait for room in the socket.
    Congested,
}

impl Line {
    /// A line to the worker of this generation, over the keeper's end of a SOCK_SEQPACKET pair.
    pub(super) fn new(generation: u32, socket: OwnedFd) -> Self {
        Self {
            generation,
            socket,
            sending: Mutex::default(),
            answered: AtomicU64::new(0),
            initialised: AtomicBool::new(false),
        }
    }

    /// The line to a worker that has been served before, with `previous` bytes last.
    pub(super) fn resumed(generation: u32, socket: OwnedFd, previous: usize) -> Self {
        let line = Self::new(generation, socket);
        line.sending.lock().previous = previous;
        line.initialised.store(true, Ordering::Relaxed);
        line
    }

    /// Sends a request, behind all that were sent before.
    pub(super) fn send(&self, message: &[u8]) -> Sent {
        let mut sending = self.sending.lock();
        if sending.backlog.is_empty() && sending.now(&self.socket, message) {
            return Sent::Away;
        }
        let first = sending.backlog.is_empty();
        sending.backlog.push_back(Zeroizing::new(message.to_vec()));
        if first { Sent::Congested } else { Sent::Away }
    }

    /// Sends what waited for room. Returns whether some still waits.
    pub(super) fn drain(&self) -> bool {
        let mut sending = self.sending.lock();
        while let Some(message) = sending.backlog.pop_front() {
            if !sending.now(&self.socket, &message) {
                sending.backlog.push_front(message);
                return true;
            }
        }
        false
    }

    /// Whether messages wait for room.
    pub(super) fn is_congested(&self) -> bool {
        !self.sending.lock().backlog.is_empty()
    }

    /// The worker's next message, if it has come.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> Received<'a> {
        match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => Received::End,
            Ok(length) => Received::Message(&mut buffer[..length]),
            // The last is said once when a worker died with messages unread; its own come after.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNRESET) => Received::Nothing,
            Err(_) => Received::End,
        }
    }

    /// What the worker's buffer still holds of, for a line to the same worker after this one.
    pub(super) fn previous(&self) -> usize {
        self.sending.lock().previous
    }

    /// Counts a request that the worker answered. Called by the one thread that reads replies.
    pub(super) fn count_answer(&self) {
        let answered = self.answered.load(Ordering::Relaxed);
        self.answered.store(answered + 1, Ordering::Relaxed);
    }

    /// How many requests the worker has answered.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether the next reply is the one to INIT. True once.
    pub(super) fn expects_init_reply(&self) -> bool {
        !self.initialised.swap(true, Ordering::Relaxed)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Sending {
    /// Whether the message is away.
    fn now(&mut self, socket: &OwnedFd, message: &[u8]) -> bool {
        let padding = self.previous.saturating_sub(message.len());
        let sent = if padding == 0 {
            send(socket.as_raw_fd(), message, FLAGS)
        } else {
            if self.zeros.len() < padding {
                self.zeros.resize(padding, 0);
            }
            let parts = [IoSlice::new(message), IoSlice::new(&self.zeros[..padding])];
            sendmsg::<()>(socket.as_raw_fd(), &parts, &[], FLAGS, None)
        };
        match sent {
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => return false,
            Err(error @ (Errno::EMSGSIZE | Errno::EINVAL)) => {
                tracing::error!(%error, length = message.len(), "a request does not fit the worker's socket");
                // It is in no buffer: padded to its length, the next would not fit either.
                return true;
            }
            Ok(_) | Err(_) => {}
        }
        self.previous = message.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    fn line() -> (Line, OwnedFd) {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        (Line::new(1, ours), theirs)
    }

    #[test]
    fn a_message_wipes_the_one_before_from_the_workers_buffer() {
        let (line, worker) = line();
        let mut buffer = [0xffu8; 64];
        assert_eq!(line.send(b"a written value"), Sent::Away);
        assert_eq!(line.send(b"next"), Sent::Away);
        assert_eq!(line.send(b"last"), Sent::Away);
        for (length, begins) in [(15, &b"a written value"[..]), (15, b"next"), (4, b"last")] {
            let received = recv(worker.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
            assert_eq!(received, length);
            assert!(buffer.starts_with(begins));
        }
        assert_eq!(&buffer[..16], b"last\0\0\0\0\0\0\0\0\0\0\0\xff");
    }

    #[test]
    fn a_stopped_worker_holds_nobody_up_and_loses_nothing() {
        let (line, worker) = line();
        let mut congested = 0;
        for number in 0..2000u32 {
            let mut message = [0; 1024];
            message[..4].copy_from_slice(&number.to_ne_bytes());
            congested += u32::from(line.send(&message) == Sent::Congested);
        }
        assert_eq!(congested, 1);
        let mut buffer = [0; 2048];
        for number in 0..2000u32 {
            let length = recv(worker.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
            assert_eq!((length, &buffer[..4]), (1024, &number.to_ne_bytes()[..]));
            line.drain();
        }
        assert!(!line.is_congested());
    }

    #[test]
    fn a_message_too_long_for_the_socket_takes_no_other_along() {
        let (line, worker) = line();
        assert_eq!(line.send(&vec![0; 64 << 20]), Sent::Away);
        assert_eq!(line.send(b"next"), Sent::Away);
        let mut buffer = [0; 64];
        let length = recv(worker.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
        assert_eq!(&buffer[..length], b"next");
    }

    #[test]
    fn what_a_worker_sent_before_it_died_is_received() {
        let (line, worker) = line();
        assert_eq!(line.send(b"unread"), Sent::Away);
        send(worker.as_raw_fd(), b"reply", MsgFlags::empty()).unwrap();
        drop(worker);
        let mut buffer = [0; 64];
        assert_eq!(line.receive(&mut buffer), Received::Nothing);
        let mut reply = *b"reply";
        assert_eq!(line.receive(&mut buffer), Received::Message(&mut reply));
        assert_eq!(line.receive(&mut buffer), Received::End);
        assert_eq!(line.send(b"nobody"), Sent::Away);
    }
}
