//! Failures that come again and again: logged once a minute, with how many there were.
//!
//! A program that retries in a loop would drown what else the log says.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::secrets::Failure;

/// How long the same failure is not logged again.
const QUIET: Duration = Duration::from_secs(60);

/// What makes two failures the same for a reader of the log.
type Kind = (&'static str, String, Failure);

/// The failures of the last minute.
#[derive(Default)]
pub(super) struct Repeats {
    /// Guards when each was logged, and how many came since.
    logged: Mutex<HashMap<Kind, (Instant, u64)>>,
}

impl Repeats {
    /// Counts a failure. `Some`: it is to be logged, after so many of its kind that were not.
    pub(super) fn count(
        &self,
        operation: &'static str,
        name: String,
        failure: Failure,
        now: Instant,
    ) -> Option<u64> {
        let mut logged = self.logged.lock();
        // Those with a count are kept until they can be told.
        logged.retain(|_, (at, unlogged)| *unlogged > 0 || now < *at + QUIET);
        let kind = (operation, name, failure);
        let Some((at, unlogged)) = logged.get_mut(&kind) else {
            logged.insert(kind, (now, 0));
            return Some(0);
        };
        if now < *at + QUIET {
            *unlogged += 1;
            return None;
        }
        *at = now;
        Some(std::mem::take(unlogged))
    }

    /// The failures that came and were not logged, and have not come for a minute.
    pub(super) fn overdue(&self, now: Instant) -> Vec<(Kind, u64)> {
        let mut overdue = Vec::new();
        self.logged.lock().retain(|kind, (at, unlogged)| {
            let over = now >= *at + QUIET;
            if over && *unlogged > 0 {
                overdue.push((kind.clone(), *unlogged));
            }
            !over
        });
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(repeats: &Repeats, name: &str, now: Instant) -> Option<u64> {
        repeats.count("open", name.into(), Failure::Throttled, now)
    }

    #[test]
    fn a_failure_that_repeats_is_logged_once_a_minute_with_its_count() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        assert_eq!(count(&repeats, "a", now), Some(0));
        assert_eq!(count(&repeats, "a", now), None);
        assert_eq!(count(&repeats, "b", now), Some(0));
        assert_eq!(count(&repeats, "a", now + QUIET / 2), None);
        assert_eq!(count(&repeats, "a", now + QUIET), Some(2));
        assert_eq!(count(&repeats, "a", now + QUIET), None);
    }

    #[test]
    fn another_failure_of_the_same_file_is_logged_at_once() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        assert_eq!(count(&repeats, "a", now), Some(0));
        let other = repeats.count("open", "a".into(), Failure::TimedOut, now);
        assert_eq!(other, Some(0));
    }

    #[test]
    fn what_stopped_repeating_is_told_in_the_end() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        count(&repeats, "a", now);
        count(&repeats, "a", now);
        count(&repeats, "b", now);
        assert!(repeats.overdue(now + QUIET / 2).is_empty());
        let overdue = repeats.overdue(now + QUIET);
        assert_eq!(overdue, [(("open", "a".into(), Failure::Throttled), 1)]);
        assert!(repeats.overdue(now + QUIET * 2).is_empty());
    }
}
