//! When a failed attempt is tried again, and after how long.
//!
//! Pure: exponential back-off with full jitter from 200 ms, the service's own wish honoured, never
//! past the time that is left. Sleeping, and knowing what may be repeated, is the callers' business.

#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The first back-off; each next one may be twice as long.
const BASE: Duration = Duration::from_millis(200);

/// The longest back-off that is our own idea.
const CAP: Duration = Duration::from_secs(5);

/// Attempts against a service that answers, but not usefully.
const ANSWERED_ATTEMPTS: u32 = 5;

/// Attempts against one that does not: a person who waits for a dead port is told soon.
const UNANSWERED_ATTEMPTS: u32 = 3;

/// What an attempt came to, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The service answered that it cannot now.
    Answered,
    /// A connection was lost: the service may have closed it while it was idle, so that the first
    /// new attempt need not wait.
    ConnectionLost,
    /// No connection, or an answer that could not be read.
    Unanswered,
}

/// The attempts of one call so far.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    answered: u32,
    unanswered: u32,
}

impl Attempts {
    /// Counts a failed attempt and says how long to wait before the next; `None`: give up.
    ///
    /// `left` is the time until the call's deadline, `jitter` a random number in `0.0..1.0`.
    pub(super) fn next(
        &mut self,
        cause: Cause,
        retry_after: Option<Duration>,
        left: Duration,
        jitter: f64,
    ) -> Option<Duration> {
        let (failed, allowed) = match cause {
            Cause::Answered => (&mut self.answered, ANSWERED_ATTEMPTS),
            Cause::ConnectionLost | Cause::Unanswered => {
                (&mut self.unanswered, UNANSWERED_ATTEMPTS)
            }
        };
        *failed += 1;
        if *failed >= allowed {
            return None;
        }
        let own = match (cause, *failed) {
            (Cause::ConnectionLost, 1) => Duration::ZERO,
            (_, failed) => back_off(failed, jitter),
        };
        let wait = own.max(retry_after.unwrap_or_default());
        (wait < left).then_some(wait)
    }
}

/// The wait after the `failed`th failure (from 1), with full jitter.
fn back_off(failed: u32, jitter: f64) -> Duration {
    let doublings = failed.saturating_sub(1).min(16);
    let longest = BASE.saturating_mul(1 << doublings).min(CAP);
    longest.mul_f64(jitter.clamp(0.0, 1.0))
}

/// Whether a status means that the same request may succeed soon.
pub(super) fn is_transient(status: u16) -> bool {
    // 501 and 505 will not change. Source: azure-core's retry policy.
    matches!(status, 408 | 429 | 500 | 502..=504 | 506..=599)
}

/// How long the service asks to wait: `retry-after-ms`, `x-ms-retry-after-ms`, or `Retry-After` in
/// seconds or as a date, which is read against the service's own clock.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let milliseconds = |name: &str| text(name)?.parse().ok().map(Duration::from_millis);
    if let Some(wait) =
        milliseconds("retry-after-ms").or_else(|| milliseconds("x-ms-retry-after-ms"))
    {
        return Some(wait);
    }
    let wish = text(RETRY_AFTER.as_str())?;
    if let Ok(seconds) = wish.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = httpdate::parse_http_date(wish).ok()?;
    let now = date(headers).unwrap_or(now);
    Some(then.duration_since(now).unwrap_or_default())
}

/// The service's clock, in whole seconds.
pub(super) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    let text = headers.get(DATE)?.to_str().ok()?;
    httpdate::parse_http_date(text).ok()
}

/// A random number in `0.0..1.0`. Should the kernel have none, the middle does: jitter spreads
/// load, nothing secret depends on it.
pub(super) fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |random| {
        f64::from(random) / (f64::from(u32::MAX) + 1.0)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEFT: Duration = Duration::from_secs(10);

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            let name = reqwest::header::HeaderName::from_static(name);
            (name, value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn asked(pairs: &[(&'static str, &str)]) -> Option<Duration> {
        retry_after(&headers(pairs), SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn back_off_doubles_from_200_ms_and_stops_at_5_s() {
        let longest: Vec<_> = (1..8).map(|n| back_off(n, 1.0).as_millis()).collect();
        assert_eq!(longest, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(back_off(1, 0.0), Duration::ZERO);
        assert_eq!(back_off(2, 0.5), Duration::from_millis(200));
    }

    #[test]
    fn a_busy_service_is_asked_five_times_and_a_dead_port_three() {
        let count = |cause| {
            let mut attempts = Attempts::default();
            let mut made = 1;
            while attempts.next(cause, None, LEFT, 0.5).is_some() {
                made += 1;
            }
            made
        };
        assert_eq!(count(Cause::Answered), 5);
        assert_eq!(count(Cause::Unanswered), 3);
        assert_eq!(count(Cause::ConnectionLost), 3);
    }

    #[test]
    fn a_lost_connection_is_replaced_at_once_and_a_second_one_later() {
        let mut attempts = Attempts::default();
        let mut next = || attempts.next(Cause::ConnectionLost, None, LEFT, 1.0);
        assert_eq!(next(), Some(Duration::ZERO));
        assert_eq!(next(), Some(Duration::from_millis(400)));
    }

    #[test]
    fn a_wish_past_the_deadline_ends_the_call_at_once() {
        let next = |wish| Attempts::default().next(Cause::Answered, Some(wish), LEFT, 0.0);
        assert_eq!(next(Duration::from_secs(9)), Some(Duration::from_secs(9)));
        assert_eq!(next(LEFT), None);
    }

    #[test]
    fn a_wish_is_in_seconds_in_milliseconds_or_a_date() {
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(
            asked(&[("retry-after-ms", "30"), ("retry-after", "2")]),
            Some(Duration::from_millis(30))
        );
        assert_eq!(
            asked(&[("x-ms-retry-after-ms", "40")]),
            Some(Duration::from_millis(40))
        );
        let seven = Some(Duration::from_secs(7));
        assert_eq!(
            asked(&[("retry-after", "Thu, 01 Jan 1970 00:00:07 GMT")]),
            seven
        );
        assert_eq!(asked(&[("retry-after", "soon")]), None);
        assert_eq!(asked(&[("retry-after", "-1")]), None);
    }

    #[test]
    fn a_date_is_read_against_the_services_clock_not_ours() {
        let wish = [
            ("date", "Fri, 02 Jan 1970 00:00:00 GMT"),
            ("retry-after", "Fri, 02 Jan 1970 00:00:03 GMT"),
        ];
        assert_eq!(asked(&wish), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_date_that_has_passed_means_now() {
        let wish = [
            ("date", "Fri, 02 Jan 1970 00:00:09 GMT"),
            ("retry-after", "Fri, 02 Jan 1970 00:00:03 GMT"),
        ];
        assert_eq!(asked(&wish), Some(Duration::ZERO));
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(value in "[ -~]{0,40}") {
            for name in ["retry-after", "retry-after-ms", "x-ms-retry-after-ms"] {
                let _ = asked(&[(name, &value), ("date", &value)]);
            }
        }

        #[test]
        fn no_wait_reaches_the_deadline(
            causes in proptest::collection::vec(0..3, 1..9),
            wish in 0u64..20_000,
            left in 0u64..10_000,
            jitter in 0.0..1.0f64,
        ) {
            let mut attempts = Attempts::default();
            let left = Duration::from_millis(left);
            for cause in causes {
                let cause = match cause {
                    0 => Cause::Answered,
                    1 => Cause::ConnectionLost,
                    _ => Cause::Unanswered,
                };
                let wish = Some(Duration::from_millis(wish));
                if let Some(wait) = attempts.next(cause, wish, left, jitter) {
                    prop_assert!(wait < left);
                }
            }
        }
    }
}
