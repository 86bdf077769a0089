//! From a LOOKUP to the OPEN or GETATTR that the same thread sends next.
//!
//! The kernel resolves a name before it opens or stats it, and with a timeout of zero it asks
//! each time. The pull that answered the LOOKUP is kept for that next request, so that `cat`
//! costs one request and `stat` one. An OPEN takes it; a GETATTR only looks.
//!
//! Also remembers failures: the kernel sends a LOOKUP that failed on a name it knew a second
//! time at once, and that one shall not wait anew.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::inodes::NodeName;
use crate::secrets::{Failure, Pull};

/// How long after the answer a pull may serve the request it is for. The kernel sends that one
/// within microseconds; the rest is for a machine under load.
const LIFE: Duration = Duration::from_secs(1);

/// How long a failed LOOKUP answers the kernel's second one.
const FAILURE_LIFE: Duration = Duration::from_millis(100);

struct HandOff {
    pull: Pull,
    /// Since when its outcome has been there to be fetched.
    since: Instant,
}

/// Pulls on their way to the request they were made for, by inode and thread. Where thread ids
/// cannot be seen they are all 0, and it is by inode alone.
#[derive(Default)]
pub(super) struct HandOffs {
    /// Guards the pulls; values do not outlive [`LIFE`] in here.
    pulls: Arc<Mutex<HashMap<(u64, u32), HandOff>>>,
    /// Guards the failures lately told.
    failures: Mutex<HashMap<(NodeName, u32), (Failure, Instant)>>,
}

impl HandOffs {
    /// Keeps `pull` for the next request of thread `tid` for inode `ino`.
    pub(super) fn offer(&self, ino: u64, tid: u32, pull: Pull) {
        let mut pulls = self.pulls.lock();
        if pulls.is_empty() {
            tokio::spawn(sweep(Arc::clone(&self.pulls)));
        }
        let since = Instant::now();
        pulls.insert((ino, tid), HandOff { pull, since });
    }

    /// Whether another thread than `tid` has looked the inode up and may be about to use it.
    pub(super) fn has_others(&self, ino: u64, tid: u32) -> bool {
        let pulls = self.pulls.lock();
        pulls.keys().any(|&(of, by)| of == ino && by != tid)
    }

    /// Takes the pull that the LOOKUP just before made.
    pub(super) fn take(&self, ino: u64, tid: u32) -> Option<Pull> {
        let hand_off = self.pulls.lock().remove(&(ino, tid))?;
        hand_off.is_fresh().then_some(hand_off.pull)
    }

    /// The pull that the LOOKUP just before made, left there for an OPEN.
    pub(super) fn peek(&self, ino: u64, tid: u32) -> Option<Pull> {
        let pulls = self.pulls.lock();
        let hand_off = pulls.get(&(ino, tid))?;
        hand_off.is_fresh().then(|| hand_off.pull.clone())
    }

    /// Remembers that thread `tid` was just told that `name` failed so.
    pub(super) fn failed(&self, name: &NodeName, tid: u32, failure: Failure) {
        let now = Instant::now();
        let mut failures = self.failures.lock();
        failures.retain(|_, (_, told)| now < *told + FAILURE_LIFE);
        failures.insert((name.clone(), tid), (failure, now));
    }

    /// What thread `tid` was just told of `name`.
    pub(super) fn failure(&self, name: &NodeName, tid: u32) -> Option<Failure> {
        let failures = self.failures.lock();
        let (failure, told) = failures.get(&(name.clone(), tid))?;
        (Instant::now() < *told + FAILURE_LIFE).then_some(*failure)
    }

    /// Forgets everything about a name that has just changed.
    pub(super) fn outdate(&self, ino: u64, name: &NodeName) {
        self.pulls.lock().retain(|(other, _), _| *other != ino);
        self.failures.lock().retain(|(other, _), _| other != name);
    }
}

impl HandOff {
    fn is_fresh(&self) -> bool {
        self.pull.outcome().is_none() || Instant::now() < self.since + LIFE
    }
}

/// Drops what nobody came for, until nothing is left; a pull still under way gets its full life
/// from the first look that finds it done.
async fn sweep(pulls: Arc<Mutex<HashMap<(u64, u32), HandOff>>>) {
    loop {
        sleep(LIFE / 2).await;
        let mut pulls = pulls.lock();
        let now = Instant::now();
        pulls.retain(|_, hand_off| {
            if hand_off.pull.outcome().is_none() {
                hand_off.since = now;
            }
            now < hand_off.since + LIFE
        });
        if pulls.is_empty() {
            pulls.shrink_to_fit();
            return;
        }
    }
}
