//! Holds the relay's threads between two messages, so that a new program can take over from this
//! one with none of them half-way.
//!
//! The threads sleep in system calls that a signal interrupts, and pass here after each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::{Pid, gettid};
use parking_lot::{Condvar, Mutex};

use crate::sys::process::interrupt_thread;

/// How often a thread that is not held yet is interrupted: it may have been about to sleep.
const PERIOD: Duration = Duration::from_millis(1);

/// Where threads pass.
#[derive(Default)]
pub(super) struct Gate {
    closed: AtomicBool,
    threads: Mutex<Vec<Thread>>,
    changed: Condvar,
}

struct Thread {
    id: Pid,
    held: bool,
}

/// A thread that promises to pass, until this is dropped.
pub(super) struct Passer<'a>(&'a Gate);

impl Gate {
    /// The calling thread will pass after every message and every interruption.
    pub(super) fn passer(&self) -> Passer<'_> {
        self.threads.lock().push(Thread {
            id: gettid(),
            held: false,
        });
        Passer(self)
    }

    /// Holds all threads that promised to pass. Returns whether all are held; if not all are by
    /// `limit`, none is.
    pub(super) fn close(&self, limit: Instant) -> bool {
        self.closed.store(true, Ordering::SeqCst);
        let mut threads = self.threads.lock();
        while !threads.iter().all(|thread| thread.held) {
            if Instant::now() >= limit {
                drop(threads);
                self.open();
                return false;
            }
            for thread in threads.iter().filter(|thread| !thread.held) {
                interrupt_thread(thread.id);
            }
            self.changed.wait_for(&mut threads, PERIOD);
        }
        true
    }

    /// Lets them go on.
    pub(super) fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
        // With the lock, or a thread about to wait would miss it.
        let _threads = self.threads.lock();
        self.changed.notify_all();
    }
}

impl Passer<'_> {
    /// Returns at once, unless threads are held.
    pub(super) fn pass(&self) {
        if !self.0.closed.load(Ordering::SeqCst) {
            return;
        }
        let id = gettid();
        let mut threads = self.0.threads.lock();
        while self.0.closed.load(Ordering::SeqCst) {
            set_held(&mut threads, id, true);
            self.0.changed.notify_all();
            self.0.changed.wait(&mut threads);
        }
        set_held(&mut threads, id, false);
    }
}

impl Drop for Passer<'_> {
    fn drop(&mut self) {
        let id = gettid();
        self.0.threads.lock().retain(|thread| thread.id != id);
        self.0.changed.notify_all();
    }
}

fn set_held(threads: &mut [Thread], id: Pid, held: bool) {
    for thread in threads.iter_mut().filter(|thread| thread.id == id) {
        thread.held = held;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use nix::unistd::{pipe, read, write};

    use super::*;
    use crate::sys::process::make_interruptible;

    #[test]
    fn threads_that_sleep_in_a_system_call_are_held_between_two() {
        make_interruptible().unwrap();
        let gate = Gate::default();
        let count = AtomicU32::new(0);
        let pipes = [pipe().unwrap(), pipe().unwrap()];
        thread::scope(|scope| {
            for (reader, _) in &pipes {
                let (gate, count) = (&gate, &count);
                scope.spawn(move || {
                    let passer = gate.passer();
                    loop {
                        passer.pass();
                        match read(reader.as_fd(), &mut [0; 8]) {
                            Ok(8) => return,
                            Ok(_) => drop(count.fetch_add(1, Ordering::SeqCst)),
                            Err(error) => assert_eq!(error, nix::errno::Errno::EINTR),
                        }
                    }
                });
            }
            let in_ten_seconds = || Instant::now() + Duration::from_secs(10);
            while gate.threads.lock().len() < 2 {
                thread::yield_now();
            }
            assert!(gate.close(in_ten_seconds()));
            for (_, writer) in &pipes {
                write(writer, &[0]).unwrap();
            }
            // Held threads do nothing, however long one waits.
            thread::sleep(Duration::from_millis(20));
            assert_eq!(count.load(Ordering::SeqCst), 0);
            gate.open();
            while count.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
            for (_, writer) in &pipes {
                write(writer, &[0; 8]).unwrap();
            }
        });
        // Threads that have ended are not waited for.
        assert!(gate.close(Instant::now()));
    }

    #[test]
    fn a_thread_that_does_not_come_lets_all_go_on() {
        make_interruptible().unwrap();
        let gate = Gate::default();
        let busy = gate.passer();
        assert!(!gate.close(Instant::now() + Duration::from_millis(5)));
        busy.pass();
    }
}
