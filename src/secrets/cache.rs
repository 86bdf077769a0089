//! What was pulled and may serve again. Empty, and never asked, unless the mount was told to
//! keep values; what can serve nobody any more is wiped within a second.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::freshness::{Kind, is_silent};
use super::{Failure, Pulled, Secret, SecretName, SecretVersion, StoreError};
use crate::config::Freshness;
use crate::metrics::METRICS;

/// How often what is over is looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// How long use keeps a version fresh. It never changes, but it may be disabled, and the right to
/// get it taken away.
const VERSION_LIMIT: Duration = Duration::from_secs(3600);

pub(super) type Key = (SecretName, Option<SecretVersion>);

/// Pulled values, by name and version.
pub(super) struct Cache {
    freshness: Freshness,
    /// Guards the values.
    kept: Arc<Mutex<HashMap<Key, Kept>>>,
}

struct Kept {
    /// `None`: the vault has none of this name.
    secret: Option<Arc<Secret>>,
    /// When it was pulled.
    pulled: Instant,
    /// Since when it counts as fresh.
    since: Instant,
}

impl Kept {
    fn kind(&self, key: &Key) -> Kind {
        match (&self.secret, &key.1) {
            (None, _) => Kind::Missing,
            (Some(_), Some(_)) => Kind::Version,
            (Some(_), None) => Kind::Current,
        }
    }
}

impl Cache {
    pub(super) fn new(freshness: Freshness) -> Self {
        Self {
            freshness,
            kept: Arc::default(),
        }
    }

    /// What serves an open that begins now without a request.
    pub(super) fn fresh(&self, key: &Key) -> Option<Pulled> {
        let mut kept = self.kept.lock();
        let entry = kept.get_mut(key)?;
        let now = Instant::now();
        let kind = entry.kind(key);
        if !self
            .freshness
            .is_fresh(kind, now.duration_since(entry.since))
        {
            return None;
        }
        if kind == Kind::Version && now.duration_since(entry.pulled) < VERSION_LIMIT {
            entry.since = now;
        }
        METRICS.cache_hit();
        Some(entry.secret.clone().ok_or_else(|| {
            let context = format!("GET secret {}: not there a moment ago", key.0);
            StoreError::new(Failure::NotFound, context)
        }))
    }

    /// Keeps the outcome of a fetch that began at `began`, or puts what is kept in its place if
    /// the vault could not be asked.
    pub(super) fn settle(&self, key: &Key, pulled: Pulled, began: Instant) -> Pulled {
        if !self.freshness.keeps_anything() {
            return pulled;
        }
        let mut kept = self.kept.lock();
        match &pulled {
            Ok(secret) => self.keep(&mut kept, key, Some(Arc::clone(secret)), began),
            Err(error) if error.failure == Failure::NotFound => {
                self.keep(&mut kept, key, None, began);
            }
            Err(error) => {
                let Some(entry) = kept.get(key) else {
                    return pulled;
                };
                let age = entry.since.elapsed();
                let kind = entry.kind(key);
                if self.freshness.serves_despite(error.failure, kind, age)
                    && let Some(secret) = &entry.secret
                {
                    tracing::warn!(
                        secret = %key.0, cause = %error, ?age,
                        "the vault could not be asked; serving the value of before"
                    );
                    return Ok(Arc::clone(secret));
                }
                if !is_silent(error.failure) {
                    // The vault's word against what is kept: a later fault must not revive it.
                    kept.remove(key);
                }
            }
        }
        pulled
    }

    /// Puts what was just set in place of what was kept.
    pub(super) fn replace(&self, name: &SecretName, secret: Secret) {
        let mut kept = self.kept.lock();
        let key = (name.clone(), None);
        kept.remove(&key);
        if self.freshness.keeps_anything() {
            self.keep(&mut kept, &key, Some(Arc::new(secret)), Instant::now());
        }
    }

    fn keep(
        &self,
        kept: &mut HashMap<Key, Kept>,
        key: &Key,
        secret: Option<Arc<Secret>>,
        pulled: Instant,
    ) {
        if kept.is_empty() {
            tokio::spawn(sweep(Arc::clone(&self.kept), self.freshness));
        }
        let since = pulled;
        kept.insert(
            key.clone(),
            Kept {
                secret,
                pulled,
                since,
            },
        );
    }
}

async fn sweep(kept: Arc<Mutex<HashMap<Key, Kept>>>, freshness: Freshness) {
    loop {
        sleep(SWEEP).await;
        let mut kept = kept.lock();
        kept.retain(|key, entry| !freshness.is_over(entry.kind(key), entry.since.elapsed()));
        if kept.is_empty() {
            kept.shrink_to_fit();
            return;
        }
    }
}
