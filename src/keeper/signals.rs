//! The signals that a keeper and its launcher listen to, as data.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::sys::process::is_ignored;

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

/// The signals that are meant to end a launcher while it waits, unless whoever started it had
/// them ignored. Held back for the thread that listens until this is dropped.
pub(super) struct Interruptions {
    signals: SignalFd,
    before: SigSet,
}

impl Interruptions {
    /// Listens from now on. Other threads of the process must not be there to take the signals.
    pub(super) fn listen() -> nix::Result<Self> {
        let mut set = SigSet::empty();
        for number in [
            Number::SIGINT,
            Number::SIGTERM,
            Number::SIGQUIT,
            Number::SIGHUP,
        ] {
            if !is_ignored(number) {
                set.add(number);
            }
        }
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags)?;
        Ok(Self { signals, before })
    }

    /// Whether one has come since this was asked last.
    pub(super) fn have_come(&self) -> bool {
        let mut came = false;
        while let Ok(Some(_)) = self.signals.read_signal() {
            came = true;
        }
        came
    }
}

impl AsFd for Interruptions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

impl Drop for Interruptions {
    fn drop(&mut self) {
        // Those that came since are of the same mind as the one that was obeyed.
        self.have_come();
        let _ = self.before.thread_set_mask();
    }
}
