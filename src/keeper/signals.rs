//! The signals a keeper listens to, as data instead of interruptions.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM, SIGINT, SIGQUIT, or the hang-up of the keeper's own terminal: unmount and end.
    End,
    /// SIGHUP: hand over to the program on disk.
    HandOver,
    /// SIGUSR1: open log files anew.
    ReopenLogs,
}

/// The signals that have come.
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Listens from now on. To be called before there are other threads, which inherit that
    /// these signals do not interrupt them.
    pub(super) fn listen() -> nix::Result<Self> {
        let mut set = SigSet::empty();
        for number in [
            Number::SIGTERM,
            Number::SIGINT,
            Number::SIGQUIT,
            Number::SIGHUP,
            Number::SIGUSR1,
        ] {
            set.add(number);
        }
        set.thread_block()?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self)
    }

    /// The next signal, if one has come.
    pub(super) fn next(&self) -> Option<Signal> {
        while let Ok(Some(info)) = self.0.read_signal() {
            let number = Number::try_from(info.ssi_signo.cast_signed());
            match number {
                Ok(Number::SIGTERM | Number::SIGINT | Number::SIGQUIT) => return Some(Signal::End),
                // From the kernel: the terminal is gone.
                Ok(Number::SIGHUP) if info.ssi_code == libc::SI_KERNEL => return Some(Signal::End),
                Ok(Number::SIGHUP) => return Some(Signal::HandOver),
                Ok(Number::SIGUSR1) => return Some(Signal::ReopenLogs),
                _ => {}
            }
        }
        None
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
