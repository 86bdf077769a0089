//! When to start the next worker: at once after one that was of use, later and later after some
//! that were not. Time is handed in.

use std::time::{Duration, Instant};

/// The pause after the first worker that was of no use; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After this many, requests fail instead of waiting for the next.
const HOPELESS: u32 = 6;

/// What a worker that ended had been good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It had answered requests.
    Useful,
    /// It was killed, which says nothing about the next one.
    Killed,
    /// It ended by itself before it had answered any.
    Useless,
}

/// The plan.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// Workers of no use, one after another.
    useless: u32,
    due: Option<Instant>,
}

impl Restarts {
    /// A worker ended.
    pub(super) fn lost(&mut self, fate: Fate, now: Instant) {
        let pause = match fate {
            Fate::Useful => {
                self.useless = 0;
                Duration::ZERO
            }
            Fate::Killed => Duration::ZERO,
            Fate::Useless => {
                self.useless = self.useless.saturating_add(1);
                let doublings = (self.useless - 1).min(16);
                (FIRST_PAUSE * 2u32.pow(doublings)).min(LONGEST_PAUSE)
            }
        };
        self.due = Some(now + pause);
    }

    /// Whether so many were of no use that the next is not worth waiting for.
    pub(super) fn is_hopeless(&self) -> bool {
        self.useless >= HOPELESS
    }

    /// When the next one is to be started.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the next one is to be started now. True once.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_was_of_use_or_killed_is_replaced_at_once() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for fate in [Fate::Useful, Fate::Killed] {
            for _ in 0..=HOPELESS {
                restarts.lost(fate, now);
                assert!(restarts.take_due(now));
                assert!(!restarts.take_due(now));
                assert!(!restarts.is_hopeless());
            }
        }
    }

    #[test]
    fn workers_of_no_use_are_replaced_ever_later() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        let mut before = Duration::ZERO;
        for count in 1..=40 {
            restarts.lost(Fate::Useless, now);
            let pause = restarts.due().unwrap() - now;
            assert!(pause > before || pause == LONGEST_PAUSE, "{count}");
            assert_eq!(restarts.is_hopeless(), count >= HOPELESS);
            assert!(!restarts.take_due(now));
            before = pause;
        }
    }
}
