//! How long an identity service that fails is asked again.
//!
//! Pure. The rules are the Instance Metadata Service's own, and run longer than any file
//! operation waits: the service may be away for 70 seconds while it is updated.
//! Source: entra-docs `how-to-use-vm-token.md`, "Retry guidance".

#![forbid(unsafe_code)]

use std::time::Duration;

/// How long one attempt may take. Services need seconds when a machine has just started.
pub(super) const ATTEMPT: Duration = Duration::from_secs(15);

/// The first wait after an answer; a 5xx must not be repeated within a second.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(16);

/// The longest wait while the service is updated, so that its return is noticed.
const LONGEST_WHILE_GONE: Duration = Duration::from_secs(8);

/// How long a service that says 410 is awaited: it promises to be back in 70 seconds.
const GONE: Duration = Duration::from_secs(75);

/// Attempts against a service that answers.
const ANSWERED_ATTEMPTS: u32 = 6;

/// Attempts against one that does not: where there is none, people are to be told soon.
const UNANSWERED_ATTEMPTS: u32 = 3;

/// Why an attempt failed, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The answer will not change.
    Final,
    /// The service answered that it cannot now.
    Answered,
    /// The service is being updated (410).
    Gone,
    /// No connection, no answer, or none that could be read.
    Unanswered,
}

/// The attempts of one fetch so far.
#[derive(Debug, Default)]
pub(super) struct Patience {
    answered: u32,
    unanswered: u32,
}

impl Patience {
    /// Counts a failed attempt and says how long to wait before the next; `None`: give up.
    /// `elapsed` is the time since the first attempt, `jitter` a random number in `0.0..1.0`.
    pub(super) fn next(
        &mut self,
        cause: Cause,
        retry_after: Option<Duration>,
        elapsed: Duration,
        jitter: f64,
    ) -> Option<Duration> {
        let own = match cause {
            Cause::Final => return None,
            Cause::Unanswered => {
                self.unanswered += 1;
                if self.unanswered >= UNANSWERED_ATTEMPTS {
                    return None;
                }
                FIRST.mul_f64(0.2 * f64::from(self.unanswered) * (0.5 + jitter / 2.0))
            }
            Cause::Answered | Cause::Gone => {
                self.answered += 1;
                let longest = match cause {
                    Cause::Gone if elapsed < GONE => LONGEST_WHILE_GONE,
                    Cause::Answered if self.answered < ANSWERED_ATTEMPTS => LONGEST,
                    _ => return None,
                };
                let doublings = (self.answered - 1).min(8);
                (FIRST * (1 << doublings))
                    .min(longest)
                    .mul_f64(1.0 + jitter / 4.0)
            }
        };
        let wait = own.max(retry_after.unwrap_or_default());
        (wait <= GONE).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits, in seconds, until it gives up.
    fn waits(cause: Cause) -> Vec<f64> {
        let mut patience = Patience::default();
        let mut elapsed = Duration::ZERO;
        let mut waits = Vec::new();
        while let Some(wait) = patience.next(cause, None, elapsed, 0.0) {
            elapsed += wait;
            waits.push(wait.as_secs_f64());
        }
        waits
    }

    #[test]
    fn a_failing_service_is_asked_six_times_in_half_a_minute() {
        assert_eq!(waits(Cause::Answered), [1.0, 2.0, 4.0, 8.0, 16.0]);
    }

    #[test]
    fn a_service_being_updated_is_awaited_for_more_than_70_seconds() {
        let waits = waits(Cause::Gone);
        assert!(waits.iter().sum::<f64>() > 70.0, "{waits:?}");
        assert!(waits.iter().sum::<f64>() < 90.0, "{waits:?}");
    }

    #[test]
    fn a_service_that_is_not_there_is_given_up_soon() {
        assert_eq!(waits(Cause::Unanswered).len(), 2);
        assert!(waits(Cause::Unanswered).iter().sum::<f64>() < 1.0);
    }

    #[test]
    fn an_answer_that_will_not_change_is_final() {
        assert!(waits(Cause::Final).is_empty());
    }

    #[test]
    fn the_services_wish_is_granted_up_to_its_own_longest_absence() {
        let next = |wish| {
            let wish = Some(Duration::from_secs(wish));
            Patience::default().next(Cause::Answered, wish, Duration::ZERO, 0.0)
        };
        assert_eq!(next(30), Some(Duration::from_secs(30)));
        assert_eq!(next(0), Some(FIRST));
        assert_eq!(next(3600), None);
    }
}
