//! The end of a mount: what a worker still owes the vault is given time, nothing else is.

use std::os::fd::AsFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::deadlines::GRACE;
use super::events::Event;
use super::renewal::HALT;
use super::signals::Signal;
use super::supervise::Supervisor;

impl Supervisor<'_> {
    /// Ends all workers at once.
    pub(super) fn abort(&mut self) {
        for worker in self.workers.drain(..) {
            worker.kill();
            worker.reap();
        }
    }

    /// Tells workers to end, and waits for them to have done what may not be lost, at most as
    /// long as any operation may take; or until told to end once more.
    pub(super) fn finish(&mut self) {
        let limit = Instant::now() + self.config.timeout + GRACE;
        // An ending worker reads no more. What comes now, through files still open, gets to hear
        // what the kernel will say once this process has ended.
        {
            let mut traffic = self.relay.traffic.lock();
            traffic.current = None;
            traffic.retiring = None;
        }
        self.relay.fail_unassigned(Errno::ENOTCONN);
        // What was just being passed on is to reach its worker before the word to end does.
        if self.relay.gate.close(Instant::now() + HALT) {
            self.relay.gate.open();
        }
        for worker in &mut self.workers {
            worker.end(&self.relay, limit);
        }
        while !self.workers.is_empty() && Instant::now() < limit && self.wait_until(limit).is_ok() {
            self.inbox.clear();
            while let Some(event) = self.inbox.next() {
                if let Event::Gone { worker } = event
                    && let Some(worker) = self.take_worker(worker)
                {
                    worker.reap();
                }
            }
            if let Some(Signal::End) = self.signals.next() {
                break;
            }
        }
        self.abort();
    }

    fn wait_until(&self, until: Instant) -> nix::Result<()> {
        let timeout = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut descriptors = [
            PollFd::new(self.inbox.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
