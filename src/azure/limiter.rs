//! How fast a vault that throttles is asked: all requests of a mount keep to one pace, so that a
//! crowd of readers, each with its own retries, does not make a storm of a 429.
//!
//! Pure: it is told the time. There is no limit until the vault throttles. Then the pace is half
//! of what it was, and less with each second that brings another 429; it rises again by a tenth a
//! second, and the limit goes when the vault has not throttled for half a minute.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// What a 429 leaves of the pace.
const DECREASE: f64 = 0.5;

/// How much the pace rises with an answer, in requests a second: a tenth each second, at full pace.
const INCREASE: f64 = 0.1;

/// The slowest pace that a first 429 leaves, in requests a second: a mount that asks for little
/// causes no storm.
const SLOWEST_AT_FIRST: f64 = 10.0;

/// The slowest pace of all: to notice that the vault answers again, it must be asked.
const SLOWEST: f64 = 4.0;

/// The requests of one moment fail together: they count as one sign, not as many.
const SIGN: Duration = Duration::from_secs(1);

/// How long after the last 429 the limit goes.
const QUIET: Duration = Duration::from_secs(30);

/// How long requests are counted to measure the pace.
const WINDOW: Duration = Duration::from_millis(500);

/// The pace of one vault's requests.
#[derive(Debug)]
pub(super) struct Limiter {
    measured: Measured,
    limit: Option<Limit>,
}

/// How fast requests were sent of late.
#[derive(Debug)]
struct Measured {
    window: Instant,
    sent: f64,
    rate: f64,
}

/// A limit while there is one.
#[derive(Debug)]
struct Limit {
    /// Requests a second.
    rate: f64,
    /// When the next request may be sent.
    next: Instant,
    lowered: Instant,
    throttled: Instant,
}

impl Limiter {
    /// No limit.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            measured: Measured {
                window: now,
                sent: 0.0,
                rate: 0.0,
            },
            limit: None,
        }
    }

    /// How long the next request must wait; `None` if it could not be sent within `left`. It
    /// counts as sent then.
    pub(super) fn admit(&mut self, now: Instant, left: Duration) -> Option<Duration> {
        if let Some(limit) = &self.limit
            && now >= limit.throttled + QUIET
        {
            self.limit = None;
        }
        let mut wait = Duration::ZERO;
        if let Some(limit) = &mut self.limit {
            let slot = limit.next.max(now);
            wait = slot - now;
            if wait > left {
                return None;
            }
            limit.next = slot + Duration::from_secs_f64(1.0 / limit.rate);
        }
        self.measured.count(now);
        Some(wait)
    }

    /// The vault throttled a request.
    pub(super) fn throttled(&mut self, now: Instant) {
        match &mut self.limit {
            Some(limit) => {
                limit.throttled = now;
                if now >= limit.lowered + SIGN {
                    limit.lowered = now;
                    limit.rate = (limit.rate * DECREASE).max(SLOWEST);
                }
            }
            None => {
                let rate = (self.measured.rate_at(now) * DECREASE).max(SLOWEST_AT_FIRST);
                tracing::warn!("the vault throttles: at most {rate:.0} requests a second from now");
                self.limit = Some(Limit {
                    rate,
                    next: now,
                    lowered: now,
                    throttled: now,
                });
            }
        }
    }

    /// The vault answered a request.
    pub(super) fn answered(&mut self) {
        if let Some(limit) = &mut self.limit {
            limit.rate += INCREASE;
        }
    }
}

impl Measured {
    fn count(&mut self, now: Instant) {
        self.turn(now);
        self.sent += 1.0;
    }

    /// The rate, at least that of the window that has just begun.
    fn rate_at(&mut self, now: Instant) -> f64 {
        self.turn(now);
        self.rate.max(self.sent / WINDOW.as_secs_f64())
    }

    /// Begins a new window if the last has passed.
    fn turn(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.window);
        if elapsed >= WINDOW {
            // A window long ago says nothing of now.
            self.rate = self.sent / elapsed.as_secs_f64();
            self.window = now;
            self.sent = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    struct Bench {
        now: Instant,
        limiter: Limiter,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            let limiter = Limiter::new(now);
            Self { now, limiter }
        }

        fn pass(&mut self, milliseconds: u64) {
            self.now += Duration::from_millis(milliseconds);
        }

        fn admit(&mut self) -> Duration {
            self.limiter.admit(self.now, LONG).unwrap()
        }

        /// Sends at this rate for a second.
        fn send_at(&mut self, rate: u64) {
            for _ in 0..rate {
                assert_eq!(self.admit(), Duration::ZERO);
                self.pass(1000 / rate);
            }
        }

        fn throttle(&mut self) {
            self.limiter.throttled(self.now);
        }

        fn rate(&self) -> f64 {
            self.limiter
                .limit
                .as_ref()
                .map_or(f64::INFINITY, |limit| limit.rate)
        }
    }

    #[test]
    fn a_vault_that_does_not_throttle_is_asked_at_any_pace() {
        let mut bench = Bench::new();
        for _ in 0..10_000 {
            assert_eq!(bench.admit(), Duration::ZERO);
            bench.limiter.answered();
        }
    }

    #[test]
    fn a_429_halves_the_pace_that_was() {
        let mut bench = Bench::new();
        bench.send_at(100);
        bench.throttle();
        assert!((40.0..60.0).contains(&bench.rate()), "{}", bench.rate());
        // And from then on requests are sent one after the other.
        let waits: Vec<_> = (0..3).map(|_| bench.admit().as_millis()).collect();
        assert_eq!(waits[0], 0);
        assert!(
            (16..=25).contains(&waits[1]) && waits[2] >= 2 * waits[1] - 1,
            "{waits:?}"
        );
    }

    #[test]
    fn the_429s_of_one_moment_count_as_one_and_those_of_the_next_halve_again() {
        let mut bench = Bench::new();
        bench.send_at(100);
        (0..50).for_each(|_| bench.throttle());
        let once = bench.rate();
        assert!(once > 40.0);
        bench.pass(1000);
        bench.throttle();
        assert!((bench.rate() - once / 2.0).abs() < 0.1);
    }

    #[test]
    fn however_often_it_throttles_the_vault_is_asked_four_times_a_second() {
        let mut bench = Bench::new();
        for _ in 0..100 {
            bench.throttle();
            bench.pass(1000);
        }
        assert!((bench.rate() - SLOWEST).abs() < 0.01);
        assert_eq!(bench.admit(), Duration::ZERO);
        assert_eq!(bench.admit(), Duration::from_millis(250));
    }

    #[test]
    fn who_could_not_be_served_in_time_is_told_at_once_and_takes_no_turn() {
        let mut bench = Bench::new();
        bench.throttle();
        assert_eq!(bench.rate(), SLOWEST_AT_FIRST);
        let patience = Duration::from_millis(250);
        let admitted = |bench: &mut Bench| bench.limiter.admit(bench.now, patience).is_some();
        // Now, and after a tenth of a second, and after two.
        assert!((0..3).all(|_| admitted(&mut bench)));
        assert!(!admitted(&mut bench));
        bench.pass(100);
        assert!(admitted(&mut bench));
        assert!(!admitted(&mut bench));
    }

    #[test]
    fn the_pace_rises_with_the_answers_and_the_limit_goes_after_half_a_minute() {
        let mut bench = Bench::new();
        bench.throttle();
        let before = bench.rate();
        (0..10).for_each(|_| bench.limiter.answered());
        assert!((bench.rate() - before - 1.0).abs() < 0.01);
        bench.pass(29_999);
        bench.admit();
        assert!(bench.rate().is_finite());
        bench.pass(1);
        bench.admit();
        assert!(bench.rate().is_infinite());
    }
}
