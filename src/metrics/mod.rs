//! What this process has done, in numbers: counted by whoever does it, shown under `.keyvaultfs/`.
//!
//! One worker serves one mount, so the numbers are the process's own ([`METRICS`]) and need not be
//! handed through every call. Names of secrets, values and sizes are never told to them.

#![forbid(unsafe_code)]

mod prometheus;
mod status;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use parking_lot::Mutex;

pub use status::Subject;

/// This process's numbers.
pub static METRICS: Metrics = Metrics::new();

/// Upper bounds of the histogram's buckets, in milliseconds.
const BUCKETS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// Numbers that only grow, and the few facts beside them.
#[derive(Debug)]
pub struct Metrics {
    /// Guards the maps together; each is as small as there are kinds of things.
    counted: Mutex<Counted>,
    retries: AtomicU64,
    cache_hits: AtomicU64,
    shared_pulls: AtomicU64,
}

#[derive(Debug)]
struct Counted {
    /// File operations, by kind and errno; 0 for success.
    operations: BTreeMap<(&'static str, i32), u64>,
    /// Requests sent, by service, method and status; none if there was no answer.
    requests: BTreeMap<(Service, Method, Option<u16>), u64>,
    durations: BTreeMap<Service, Histogram>,
    token: Option<TokenFacts>,
    /// The last of each kind of error.
    errors: BTreeMap<String, LastError>,
}

/// A name that a request goes by. Short texts of our own, never of an answer.
type Method = &'static str;

/// Who is sent requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Key Vault.
    Vault,
    /// Azure Resource Manager.
    ResourceManager,
    /// Whoever hands out tokens.
    Identity,
}

impl Service {
    fn label(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::ResourceManager => "resource-manager",
            Self::Identity => "identity",
        }
    }
}

#[derive(Debug, Default)]
struct Histogram {
    /// How many were in each bucket, not cumulated; the last has no bound.
    counts: [u64; BUCKETS.len() + 1],
    sum: Duration,
}

#[derive(Debug, Clone)]
struct TokenFacts {
    object_id: Option<String>,
    expires: SystemTime,
}

#[derive(Debug, Clone)]
struct LastError {
    errno: Errno,
    operation: &'static str,
    at: SystemTime,
    count: u64,
}

impl Metrics {
    /// Nothing done yet.
    pub const fn new() -> Self {
        Self {
            counted: Mutex::new(Counted {
                operations: BTreeMap::new(),
                requests: BTreeMap::new(),
                durations: BTreeMap::new(),
                token: None,
                errors: BTreeMap::new(),
            }),
            retries: AtomicU64::new(0),
            cache_hits: AtomicU64::new(0),
            shared_pulls: AtomicU64::new(0),
        }
    }

    /// A file operation ended.
    pub fn operation(&self, kind: &'static str, outcome: Result<(), Errno>) {
        let errno = outcome.err().map_or(0, |errno| errno as i32);
        *self
            .counted
            .lock()
            .operations
            .entry((kind, errno))
            .or_default() += 1;
    }

    /// A request was sent and answered with `status`, or not at all, after `elapsed`.
    pub fn request(
        &self,
        service: Service,
        method: &'static str,
        status: Option<u16>,
        elapsed: Duration,
    ) {
        let mut counted = self.counted.lock();
        *counted
            .requests
            .entry((service, method, status))
            .or_default() += 1;
        counted
            .durations
            .entry(service)
            .or_default()
            .observe(elapsed);
    }

    /// A request is about to be sent again.
    pub fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A value that was kept served an open.
    pub fn cache_hit(&self) {
        self.cache_hits.fetch_add(1, Ordering::Relaxed);
    }

    /// A reader joined a request that was under way.
    pub fn shared_pull(&self) {
        self.shared_pulls.fetch_add(1, Ordering::Relaxed);
    }

    /// There is a token for the vault, good for `lifetime`.
    pub fn token(&self, object_id: Option<&str>, lifetime: Duration) {
        let now = SystemTime::now();
        let expires = now.checked_add(lifetime).unwrap_or(now);
        let object_id = object_id.map(str::to_owned);
        self.counted.lock().token = Some(TokenFacts { object_id, expires });
    }

    /// An operation failed, for a reason of this kind.
    pub fn error(&self, kind: impl std::fmt::Debug, operation: &'static str, errno: Errno) {
        let mut counted = self.counted.lock();
        let entry = counted.errors.entry(format!("{kind:?}"));
        let last = entry.or_insert(LastError {
            errno,
            operation,
            at: SystemTime::now(),
            count: 0,
        });
        *last = LastError {
            errno,
            operation,
            at: SystemTime::now(),
            count: last.count + 1,
        };
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    fn observe(&mut self, elapsed: Duration) {
        let within = |bound: &u64| elapsed <= Duration::from_millis(*bound);
        let bucket = BUCKETS.iter().position(within).unwrap_or(BUCKETS.len());
        self.counts[bucket] += 1;
        self.sum += elapsed;
    }
}

/// Seconds since 1970, UTC.
fn epoch(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
