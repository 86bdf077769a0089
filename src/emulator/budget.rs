//! How many requests a second the vault answers before it throttles, as the real one does over
//! ten seconds.

use std::time::{Duration, Instant};

/// Without a limit until it is given one.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Requests a second.
    pub(super) limit: Option<u32>,
    second: Option<Instant>,
    spent: u32,
}

impl Budget {
    /// Counts a request; `false` if there are too many.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        let Some(limit) = self.limit else {
            return true;
        };
        if self
            .second
            .is_none_or(|second| now >= second + Duration::from_secs(1))
        {
            self.second = Some(now);
            self.spent = 0;
        }
        self.spent += 1;
        self.spent <= limit
    }
}
