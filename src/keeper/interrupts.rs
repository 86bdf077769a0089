//! Tells the signals that are meant to end a waiting program from those that are not.
//!
//! The kernel says only that *a* signal came, once a request. A Go program gets SIGURG all the
//! time, a shell SIGCHLD: an open that failed for those would be a defect of ours. So the waiting
//! thread's pending signals are looked at, and again until the request ends.

use std::fs;
use std::time::Duration;

use super::protocol::Opcode;

/// How long after one look comes the next.
pub(super) const PERIOD: Duration = Duration::from_millis(20);

/// Signals that are meant to end a program even if it catches them: a Ctrl-C must be heard.
const ENDING: u64 =
    bit(libc::SIGKILL) | bit(libc::SIGINT) | bit(libc::SIGTERM) | bit(libc::SIGQUIT);

/// Signals whose default is to be ignored, or to stop the program or let it go on; signal(7).
const HARMLESS: u64 = bit(libc::SIGCHLD)
    | bit(libc::SIGURG)
    | bit(libc::SIGWINCH)
    | bit(libc::SIGCONT)
    | bit(libc::SIGSTOP)
    | bit(libc::SIGTSTP)
    | bit(libc::SIGTTIN)
    | bit(libc::SIGTTOU);

/// Whether the request that `thread` waits for is to fail with EINTR, since a signal came.
/// Where the thread cannot be seen (zero: another pid namespace) any signal ends it.
pub(super) fn ends(thread: u32, opcode: Opcode) -> bool {
    if thread == 0 {
        return true;
    }
    match fs::read_to_string(format!("/proc/{thread}/status")) {
        Ok(status) => Signals::parse(&status).is_none_or(|signals| signals.end(opcode)),
        // The thread is gone, or hidden from us.
        Err(_) => true,
    }
}

/// The masks of proc_pid_status(5).
#[derive(Debug, Clone, Copy)]
struct Signals {
    pending: u64,
    blocked: u64,
    ignored: u64,
    caught: u64,
}

impl Signals {
    fn parse(status: &str) -> Option<Self> {
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        Some(Self {
            pending: mask("SigPnd:")? | mask("ShdPnd:")?,
            blocked: mask("SigBlk:")?,
            ignored: mask("SigIgn:")?,
            caught: mask("SigCgt:")?,
        })
    }

    fn end(self, opcode: Opcode) -> bool {
        let arrived = self.pending & !self.blocked & !self.ignored;
        let fatal = arrived & !self.caught & !HARMLESS;
        // A program that catches the signal goes on, and tries again a write that was
        // interrupted: appended bytes would be there twice. Only death interrupts a write.
        let asked = match opcode {
            Opcode::WRITE => 0,
            _ => arrived & ENDING,
        };
        fatal | asked != 0
    }
}

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals(pending: i32, caught: u64, blocked: u64, ignored: u64) -> Signals {
        Signals {
            pending: bit(pending),
            blocked,
            ignored,
            caught,
        }
    }

    #[test]
    fn signals_meant_to_end_a_program_do_even_if_caught() {
        for signal in [libc::SIGKILL, libc::SIGINT, libc::SIGTERM, libc::SIGQUIT] {
            assert!(signals(signal, 0, 0, 0).end(Opcode::OPEN));
            assert!(signals(signal, bit(signal), 0, 0).end(Opcode::OPEN));
        }
        assert!(signals(libc::SIGHUP, 0, 0, 0).end(Opcode::READ));
        assert!(signals(libc::SIGALRM, 0, 0, 0).end(Opcode::READ));
    }

    #[test]
    fn harmless_caught_blocked_and_ignored_signals_do_not() {
        for signal in [libc::SIGCHLD, libc::SIGURG, libc::SIGWINCH, libc::SIGTSTP] {
            assert!(!signals(signal, 0, 0, 0).end(Opcode::OPEN));
            assert!(!signals(signal, bit(signal), 0, 0).end(Opcode::OPEN));
        }
        for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGALRM] {
            assert!(!signals(signal, bit(signal), 0, 0).end(Opcode::OPEN));
        }
        assert!(!signals(libc::SIGINT, 0, bit(libc::SIGINT), 0).end(Opcode::OPEN));
        assert!(!signals(libc::SIGINT, 0, 0, bit(libc::SIGINT)).end(Opcode::OPEN));
    }

    #[test]
    fn a_write_is_interrupted_by_death_alone() {
        assert!(!signals(libc::SIGINT, bit(libc::SIGINT), 0, 0).end(Opcode::WRITE));
        assert!(signals(libc::SIGINT, 0, 0, 0).end(Opcode::WRITE));
        assert!(signals(libc::SIGKILL, 0, 0, 0).end(Opcode::WRITE));
    }

    #[test]
    fn a_status_file_is_read() {
        let status = "Name:\tcat\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000002\n\
                      SigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000000\n";
        assert!(Signals::parse(status).unwrap().end(Opcode::OPEN));
        assert!(Signals::parse("Name:\tcat\n").is_none());
        assert!(ends(0, Opcode::OPEN));
        assert!(!ends(std::process::id(), Opcode::OPEN));
    }
}
