//! How long the relay's thread looks for the next message before it sleeps.
//!
//! Each message makes the next one likely: a request its reply, a reply the reader's next
//! request, within microseconds. To sleep and be woken by another processor takes longer than
//! that, on a virtual machine ten times as long, and a reader waits for it twice a request. So
//! the thread looks again for a while: for [`LONGEST`] where that was worth it lately, and for
//! half as long each time that it was not.

use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// The longest it looks in vain, about twice what being woken costs.
const LONGEST: Duration = Duration::from_micros(50);

/// What is not worth looking.
const SHORTEST: Duration = Duration::from_micros(5);

/// What it has learned. Times are given, not looked up.
#[derive(Debug)]
pub(super) struct Patience {
    longest: Duration,
    span: Duration,
    /// Since when nothing has come.
    idle: Option<Instant>,
    slept: bool,
}

impl Patience {
    /// None at all where looking would keep the only processor from who is to send.
    pub(super) fn new() -> Self {
        let alone = available_parallelism().is_ok_and(|processors| processors.get() == 1);
        Self::of(if alone { Duration::ZERO } else { LONGEST })
    }

    fn of(longest: Duration) -> Self {
        Self {
            longest,
            span: longest,
            idle: None,
            slept: false,
        }
    }

    /// A message came.
    pub(super) fn reward(&mut self, now: Instant) {
        let waited = self
            .idle
            .take()
            .map(|since| now.saturating_duration_since(since));
        if waited.is_some_and(|waited| waited < self.longest) {
            self.span = self.longest;
        }
        self.slept = false;
    }

    /// None came. Returns whether to sleep now.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let since = *self.idle.get_or_insert(now);
        if now.saturating_duration_since(since) < self.span {
            return false;
        }
        if !self.slept {
            self.slept = true;
            self.span /= 2;
            if self.span < SHORTEST {
                self.span = Duration::ZERO;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_micros(1);

    /// For how long it looks when nothing comes.
    fn look(patience: &mut Patience, from: Instant) -> Duration {
        let mut now = from;
        while !patience.is_over(now) {
            now += STEP;
        }
        now - from
    }

    #[test]
    fn looking_in_vain_gets_shorter_and_stops() {
        let mut patience = Patience::of(LONGEST);
        let mut now = Instant::now();
        let mut spans = Vec::new();
        for _ in 0..6 {
            spans.push(look(&mut patience, now).as_micros());
            now += Duration::from_secs(1);
            patience.reward(now);
        }
        assert_eq!(spans, [50, 25, 13, 7, 0, 0]);
    }

    #[test]
    fn what_comes_at_once_makes_it_patient_again() {
        let mut patience = Patience::of(LONGEST);
        let now = Instant::now();
        patience.span = Duration::ZERO;
        assert!(patience.is_over(now), "it sleeps at once");
        patience.reward(now + 40 * STEP);
        assert_eq!(look(&mut patience, now + 50 * STEP), LONGEST);
    }

    #[test]
    fn with_one_processor_it_sleeps_at_once_always() {
        let mut patience = Patience::of(Duration::ZERO);
        let now = Instant::now();
        for _ in 0..3 {
            assert!(patience.is_over(now));
            patience.reward(now);
        }
    }
}
