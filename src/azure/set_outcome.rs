//! Whether a set that got no clear answer was carried out, judged by the version that is current
//! now.
//!
//! Pure, because both errors are costly: to repeat a set that was carried out makes two versions,
//! to call one done that was not loses a write.

#![forbid(unsafe_code)]

use crate::secrets::SecretVersion;

/// How far the vault's clocks may disagree, in seconds: `created` comes from where secrets are
/// kept, `Date` from the front end, both in whole seconds.
const CLOCK_TOLERANCE: i64 = 5;

/// The version that is current after the set, as far as it matters.
#[derive(Debug, Clone)]
pub(super) struct Current {
    /// Its identifier.
    pub version: SecretVersion,
    /// When it was made, by the vault's clock.
    pub created: Option<i64>,
    /// Whether value and encoding are those of the set.
    pub same: bool,
}

/// What became of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was carried out: the current version is its work.
    Done,
    /// It was not, and may be tried again.
    NotTaken,
    /// Nobody can say; it must not be repeated.
    Unknown,
}

/// Judges a set whose secret's current version is now `current` (`None`: there is no such secret).
/// `previous` was current before, where known; `started` is when the set was first sent, in
/// seconds by the vault's clock, where known.
pub(super) fn judge(
    current: Option<&Current>,
    previous: Option<&SecretVersion>,
    started: Option<i64>,
) -> Outcome {
    let Some(current) = current else {
        return Outcome::NotTaken;
    };
    if previous == Some(&current.version) {
        return Outcome::NotTaken;
    }
    let times = current.created.zip(started);
    let older = times.map(|(created, started)| created < started - CLOCK_TOLERANCE);
    match (older, current.same, previous) {
        // Ours would be newer, and so would be current.
        (Some(true), _, _) => Outcome::NotTaken,
        (Some(false), true, _) | (None, true, Some(_)) => Outcome::Done,
        // Another writer's version may lie over ours.
        (_, false, _) | (None, true, None) => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(digit: char) -> SecretVersion {
        SecretVersion::parse(&digit.to_string().repeat(32)).unwrap()
    }

    fn current(digit: char, created: Option<i64>, same: bool) -> Current {
        let version = version(digit);
        Current {
            version,
            created,
            same,
        }
    }

    #[test]
    fn the_previous_version_still_current_means_it_was_not_taken() {
        let now = current('a', Some(100), true);
        assert_eq!(
            judge(Some(&now), Some(&version('a')), Some(100)),
            Outcome::NotTaken
        );
    }

    #[test]
    fn no_secret_at_all_means_it_was_not_taken() {
        assert_eq!(judge(None, None, Some(100)), Outcome::NotTaken);
        assert_eq!(judge(None, Some(&version('a')), None), Outcome::NotTaken);
    }

    #[test]
    fn a_new_version_with_our_value_is_our_work() {
        let now = current('b', Some(101), true);
        assert_eq!(
            judge(Some(&now), Some(&version('a')), Some(100)),
            Outcome::Done
        );
        assert_eq!(judge(Some(&now), Some(&version('a')), None), Outcome::Done);
        assert_eq!(judge(Some(&now), None, Some(100)), Outcome::Done);
    }

    #[test]
    fn our_value_made_long_before_we_began_is_not_our_work() {
        let now = current('b', Some(90), true);
        assert_eq!(judge(Some(&now), None, Some(100)), Outcome::NotTaken);
        assert_eq!(
            judge(Some(&now), Some(&version('a')), Some(100)),
            Outcome::NotTaken
        );
    }

    #[test]
    fn another_value_made_since_leaves_it_unknown() {
        let now = current('b', Some(100), false);
        assert_eq!(
            judge(Some(&now), Some(&version('a')), Some(100)),
            Outcome::Unknown
        );
        assert_eq!(judge(Some(&now), None, Some(100)), Outcome::Unknown);
        assert_eq!(judge(Some(&now), None, None), Outcome::Unknown);
    }

    #[test]
    fn without_times_and_without_a_previous_version_nothing_is_claimed() {
        let now = current('b', None, true);
        assert_eq!(judge(Some(&now), None, Some(100)), Outcome::Unknown);
        assert_eq!(judge(Some(&now), None, None), Outcome::Unknown);
    }

    #[test]
    fn clocks_that_differ_by_seconds_never_cause_a_second_version() {
        for created in 95..=105 {
            let ours = current('b', Some(created), true);
            assert_eq!(
                judge(Some(&ours), None, Some(100)),
                Outcome::Done,
                "{created}"
            );
        }
    }
}
