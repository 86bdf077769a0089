//! May what was pulled serve again? Pure decisions over ages; nothing here has a clock.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::Failure;
use crate::config::Freshness;

/// The longest that a name is remembered not to be there.
const MISSING: Duration = Duration::from_secs(5);

/// What was pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A secret's current version.
    Current,
    /// One version: it never changes, so that using it makes it as good as new.
    Version,
    /// The answer that there is none.
    Missing,
}

impl Freshness {
    /// Whether anything is kept at all.
    pub(super) fn keeps_anything(self) -> bool {
        self.longest() > Duration::ZERO
    }

    /// Whether what is `age` old serves without asking.
    pub(super) fn is_fresh(self, kind: Kind, age: Duration) -> bool {
        match kind {
            Kind::Current | Kind::Version => age < self.ttl,
            Kind::Missing => age < self.ttl.min(MISSING),
        }
    }

    /// Whether what is `age` old serves although asking ended with `failure`: only where the
    /// vault could not say anything about the secret, never against its word.
    pub(super) fn serves_despite(self, failure: Failure, kind: Kind, age: Duration) -> bool {
        is_silent(failure) && kind != Kind::Missing && age < self.longest()
    }

    /// Whether what is `age` old can serve nobody any more.
    pub(super) fn is_over(self, kind: Kind, age: Duration) -> bool {
        match kind {
            Kind::Current | Kind::Version => age >= self.longest(),
            Kind::Missing => age >= self.ttl.min(MISSING),
        }
    }

    fn longest(self) -> Duration {
        self.ttl.saturating_add(self.stale_if_error)
    }
}

/// Whether a failure says nothing about the secret: the vault could not be reached, or answered
/// 408, 429 or 5xx.
pub(super) fn is_silent(failure: Failure) -> bool {
    match failure {
        Failure::Unreachable | Failure::TimedOut | Failure::Throttled | Failure::ServerError => {
            true
        }
        Failure::NotFound
        | Failure::Forbidden
        | Failure::Disabled
        | Failure::Managed
        | Failure::ScopeLocked
        | Failure::DeletedButRecoverable
        | Failure::Busy
        | Failure::Unauthorized
        | Failure::IdentityRefused
        | Failure::SigningKeyUnresolved
        | Failure::Malformed
        | Failure::Undecodable
        | Failure::TooLarge
        | Failure::TooManyTags
        | Failure::Tls
        | Failure::Redirected
        | Failure::WrongChallenge => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const FRESHNESS: Freshness = Freshness {
        ttl: seconds(10),
        stale_if_error: seconds(50),
    };

    #[test]
    fn by_default_nothing_serves_twice() {
        let none = Freshness::default();
        assert!(!none.keeps_anything());
        assert!(!none.is_fresh(Kind::Current, Duration::ZERO));
        assert!(!none.serves_despite(Failure::Unreachable, Kind::Current, Duration::ZERO));
    }

    #[test]
    fn a_value_is_fresh_for_its_ttl_and_a_miss_for_five_seconds_at_most() {
        assert!(FRESHNESS.is_fresh(Kind::Current, seconds(9)));
        assert!(!FRESHNESS.is_fresh(Kind::Current, seconds(10)));
        assert!(FRESHNESS.is_fresh(Kind::Missing, seconds(4)));
        assert!(!FRESHNESS.is_fresh(Kind::Missing, seconds(5)));
        let short = Freshness {
            ttl: seconds(2),
            ..FRESHNESS
        };
        assert!(!short.is_fresh(Kind::Missing, seconds(2)));
    }

    #[test]
    fn a_stale_value_serves_only_when_the_vault_is_silent() {
        let serves = |failure, age| FRESHNESS.serves_despite(failure, Kind::Current, seconds(age));
        for failure in [
            Failure::Unreachable,
            Failure::TimedOut,
            Failure::Throttled,
            Failure::ServerError,
        ] {
            assert!(serves(failure, 59), "{failure:?}");
            assert!(!serves(failure, 60), "{failure:?}");
        }
        for failure in [
            Failure::Unauthorized,
            Failure::Forbidden,
            Failure::NotFound,
            Failure::Disabled,
            Failure::Tls,
            Failure::Redirected,
            Failure::WrongChallenge,
            Failure::IdentityRefused,
        ] {
            assert!(!serves(failure, 11), "{failure:?}");
        }
        assert!(!FRESHNESS.serves_despite(Failure::ServerError, Kind::Missing, seconds(1)));
    }

    #[test]
    fn what_can_serve_nobody_is_over() {
        assert!(!FRESHNESS.is_over(Kind::Current, seconds(59)));
        assert!(FRESHNESS.is_over(Kind::Current, seconds(60)));
        assert!(FRESHNESS.is_over(Kind::Missing, seconds(5)));
    }
}
