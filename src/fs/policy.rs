//! What the vault's policy was lately seen to allow: memory with an end, and no request.
//!
//! Remembering a refusal spares a request and a wait, and answers a write before close(2);
//! remembering it briefly lets an administrator's fix be seen.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::secrets::SecretName;

/// How long a refusal is remembered.
const REFUSED: Duration = Duration::from_secs(10);
/// How many names' values must be refused, with none allowed ever, before it is taken for the
/// mount's policy and others are not asked for.
const REFUSED_NAMES: usize = 3;
/// How long a name that may be set is not asked about again.
const SETTABLE: Duration = Duration::from_secs(600);
/// How many names of a drop box a thread may find to exist, in [`SEARCH_WINDOW`]. Whoever asks
/// for more is looking for a name that does not exist (mkstemp, vim's 4913), and would for ever.
const SEARCH_LIMIT: usize = 16;
const SEARCH_WINDOW: Duration = Duration::from_secs(1);

/// Whether a name may be set, as far as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MaySet {
    Yes,
    No,
    Unknown,
}

/// What was lately allowed and refused.
#[derive(Default)]
pub(super) struct Policy {
    /// Guards it all: a handful of small maps.
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    settable: HashMap<SecretName, (bool, Instant)>,
    /// Names whose value was refused, with when.
    ungettable: HashMap<SecretName, Instant>,
    /// Whether the vault has answered a get other than with a refusal. From then on a refusal is
    /// that name's own (permissions can be given per secret), not the mount's.
    get_works: bool,
    searches: HashMap<u32, (Instant, HashSet<SecretName>)>,
}

impl Policy {
    /// The vault answered a get of some name.
    pub(super) fn get_allowed(&self) {
        self.memory.lock().get_works = true;
    }

    /// The vault refused a get of `name`; true if that is news worth a log line.
    pub(super) fn get_refused(&self, name: &SecretName, now: Instant) -> bool {
        let mut memory = self.memory.lock();
        memory.ungettable.retain(|_, since| now < *since + REFUSED);
        let news = !memory.ungettable.contains_key(name);
        memory.ungettable.insert(name.clone(), now);
        news
    }

    /// Whether getting `name` is known to be refused.
    pub(super) fn get_is_refused(&self, name: &SecretName, now: Instant) -> bool {
        let memory = self.memory.lock();
        let lately = |since: &Instant| now < *since + REFUSED;
        memory.ungettable.get(name).is_some_and(lately)
            || (!memory.get_works
                && memory
                    .ungettable
                    .values()
                    .filter(|since| lately(since))
                    .count()
                    >= REFUSED_NAMES)
    }

    /// Counts a name of a drop box that thread `tid` finds to exist; true if it is searching.
    pub(super) fn is_searching(&self, tid: u32, name: &SecretName, now: Instant) -> bool {
        let mut memory = self.memory.lock();
        memory
            .searches
            .retain(|_, (since, _)| now < *since + SEARCH_WINDOW);
        let fresh = || (now, HashSet::new());
        let (_, names) = memory.searches.entry(tid).or_insert_with(fresh);
        names.insert(name.clone());
        names.len() > SEARCH_LIMIT
    }

    /// Whether `name` may be set.
    pub(super) fn may_set(&self, name: &SecretName, now: Instant) -> MaySet {
        match self.memory.lock().settable.get(name) {
            Some((true, since)) if now < *since + SETTABLE => MaySet::Yes,
            Some((false, since)) if now < *since + REFUSED => MaySet::No,
            _ => MaySet::Unknown,
        }
    }

    /// Remembers whether `name` may be set.
    pub(super) fn set_was(&self, allowed: bool, name: &SecretName, now: Instant) {
        let mut memory = self.memory.lock();
        memory
            .settable
            .retain(|_, (_, since)| now < *since + SETTABLE);
        memory.settable.insert(name.clone(), (allowed, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SecretName {
        SecretName::parse(text).unwrap()
    }

    #[test]
    fn a_refused_get_is_the_mounts_until_some_get_works() {
        let (policy, now) = (Policy::default(), Instant::now());
        assert!(policy.get_refused(&name("a"), now));
        assert!(!policy.get_refused(&name("A"), now));
        assert!(policy.get_is_refused(&name("a"), now));
        assert!(
            !policy.get_is_refused(&name("b"), now),
            "it may be that name's own"
        );
        policy.get_refused(&name("c"), now);
        policy.get_refused(&name("d"), now);
        assert!(policy.get_is_refused(&name("b"), now));
        policy.get_allowed();
        assert!(!policy.get_is_refused(&name("b"), now));
        assert!(policy.get_is_refused(&name("a"), now));
        assert!(!policy.get_is_refused(&name("a"), now + REFUSED));
    }

    #[test]
    fn a_refused_set_is_asked_again_after_10_s_and_an_allowed_one_after_10_min() {
        let (policy, now) = (Policy::default(), Instant::now());
        assert_eq!(policy.may_set(&name("a"), now), MaySet::Unknown);
        policy.set_was(false, &name("a"), now);
        assert_eq!(policy.may_set(&name("A"), now), MaySet::No);
        assert_eq!(policy.may_set(&name("a"), now + REFUSED), MaySet::Unknown);
        policy.set_was(true, &name("a"), now);
        assert_eq!(policy.may_set(&name("a"), now + REFUSED), MaySet::Yes);
        assert_eq!(policy.may_set(&name("a"), now + SETTABLE), MaySet::Unknown);
    }

    #[test]
    fn more_than_16_names_in_a_second_are_a_search() {
        let (policy, now) = (Policy::default(), Instant::now());
        let numbered = |number| name(&format!("tmp{number}"));
        for number in (0..16).chain(0..16) {
            assert!(!policy.is_searching(7, &numbered(number), now));
        }
        assert!(policy.is_searching(7, &numbered(16), now));
        assert!(!policy.is_searching(8, &numbered(16), now));
        assert!(!policy.is_searching(7, &numbered(16), now + SEARCH_WINDOW));
    }
}
