//! Single-flight: readers that want the same secret at the same time share one request.
//!
//! A pull is a fetch that began, or was already under way, when its reader asked. It runs as a
//! task of its own, so that a reader who gives up does not end it for the others.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::cache::{Cache, Key};
use super::{
    CertificateForm, Failure, NoForm, Secret, SecretName, SecretStore, SecretVersion, StoreError,
};
use crate::config::Freshness;
use crate::metrics::METRICS;
use crate::secret_bytes::wipe_stack;

/// What a pull ends with. Sharing an [`Arc`] keeps one copy of the value, however many read it.
pub type Pulled = Result<Arc<Secret>, StoreError>;

/// What a reader wants to see.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Whose value.
    pub name: SecretName,
    /// Which version of it; the current one if `None`.
    pub version: Option<SecretVersion>,
    /// The value in this form; as it is if `None`.
    pub form: Option<CertificateForm>,
}

type Flights = Mutex<HashMap<Wanted, watch::Receiver<Option<Pulled>>>>;

/// The pulls under way in front of a store.
pub struct Pulls<S> {
    store: Arc<S>,
    /// Guards which fetches are under way; held for a look-up or an insertion only.
    flights: Arc<Flights>,
    cache: Arc<Cache>,
}

impl<S: SecretStore> Pulls<S> {
    /// Pulls go to `store`, but for what `freshness` lets serve again.
    pub fn new(store: Arc<S>, freshness: Freshness) -> Self {
        Self {
            store,
            flights: Arc::default(),
            cache: Arc::new(Cache::new(freshness)),
        }
    }

    /// Joins the fetch of this secret that is under way, or begins one that ends by `deadline`;
    /// neither, if what was pulled before may serve. A form of a secret is made of a pull of the
    /// secret itself. Must be called within a tokio runtime.
    pub fn begin(&self, wanted: &Wanted, deadline: Instant) -> Pull {
        let pull = |outcome| Pull {
            wanted: wanted.clone(),
            deadline,
            outcome,
        };
        let key = wanted.key();
        if let Some(pulled) = key.as_ref().and_then(|key| self.cache.fresh(key)) {
            return pull(watch::channel(Some(pulled)).1);
        }
        let mut flights = self.flights.lock();
        if let Some(outcome) = flights.get(wanted) {
            METRICS.shared_pull();
            return pull(outcome.clone());
        }
        let (landed, outcome) = watch::channel(None);
        flights.insert(wanted.clone(), outcome.clone());
        let (pulls, wanted) = (self.clone(), wanted.clone());
        let this_flight = outcome.clone();
        let pull = pull(outcome);
        tokio::spawn(async move {
            let began = Instant::now();
            let mut pulled = match wanted.form {
                None => pulls.get(&wanted, deadline).await,
                Some(form) => pulls.formed(form, &wanted, deadline).await,
            };
            // Taken down before it lands: who asks from now on gets a fetch of his own.
            let mut flights = pulls.flights.lock();
            let this = |flight: &watch::Receiver<_>| flight.same_channel(&this_flight);
            if flights.get(&wanted).is_some_and(this) {
                flights.remove(&wanted);
                // Not if it is outdated: a set has succeeded since it began.
                if let Some(key) = &key {
                    pulled = pulls.cache.settle(key, pulled, began);
                }
            }
            drop(flights);
            landed.send_replace(Some(pulled));
        });
        pull
    }

    /// Pulls and waits until `deadline`.
    pub async fn pull(&self, wanted: &Wanted, deadline: Instant) -> Pulled {
        self.finish(self.begin(wanted, deadline)).await
    }

    /// Waits for a pull until its own deadline.
    pub async fn finish(&self, pull: Pull) -> Pulled {
        let deadline = pull.deadline;
        let (pull, pulled) = self.wait(pull, deadline).await;
        pulled.unwrap_or_else(|| {
            let context = format!("GET secret {}: no answer in time", pull.wanted.name);
            Err(StoreError::new(Failure::TimedOut, context))
        })
    }

    /// Waits for a pull until `limit`, and no longer than until its own deadline. If it joined a
    /// fetch that ran into an earlier one, it is begun anew. Returns what is to be waited for
    /// further, and the outcome if it came.
    pub async fn wait(&self, mut pull: Pull, limit: Instant) -> (Pull, Option<Pulled>) {
        let deadline = pull.deadline;
        loop {
            match pull.wait(limit.min(deadline)).await {
                Some(Err(error))
                    if error.failure == Failure::TimedOut && Instant::now() < deadline =>
                {
                    pull = self.begin(&pull.wanted, deadline);
                }
                outcome => return (pull, outcome),
            }
        }
    }

    /// `name` was just set to `secret`: nobody joins the fetch of it that is under way, which may
    /// have been answered before.
    pub fn replace(&self, name: &SecretName, secret: Secret) {
        let mut flights = self.flights.lock();
        flights.retain(|wanted, _| wanted.name != *name || wanted.version.is_some());
        drop(flights);
        self.cache.replace(name, secret);
    }

    async fn get(&self, wanted: &Wanted, deadline: Instant) -> Pulled {
        let version = wanted.version.as_ref();
        let got = self.store.get(&wanted.name, version, deadline.into_std());
        got.await.map(Arc::new)
    }

    /// Pulls a secret and makes the form that is wanted of it, on a thread of its own: it may
    /// take a key derivation, and no request waits for another secret's.
    async fn formed(&self, form: CertificateForm, wanted: &Wanted, deadline: Instant) -> Pulled {
        let whole = Wanted {
            form: None,
            ..wanted.clone()
        };
        // A future that begins one of its own kind has to be boxed.
        let whole = Box::pin(self.pull(&whole, deadline)).await?;
        let properties = whole.properties.clone();
        let formed = tokio::task::spawn_blocking(move || {
            let formed = form.of(&whole);
            // The ciphers and the key's parser keep theirs in local variables.
            wipe_stack();
            formed
        })
        .await;
        let value = formed.unwrap_or(Err(NoForm::Damaged("it could not be looked at")));
        let value = value.map_err(|no_form| {
            let failure = match no_form {
                NoForm::NotACertificate => Failure::NotFound,
                NoForm::Damaged(_) => Failure::Undecodable,
            };
            let (name, extension) = (&wanted.name, form.extension());
            StoreError::new(failure, format!("secret {name} as {extension}: {no_form}"))
        })?;
        Ok(Arc::new(Secret { value, properties }))
    }
}

impl Wanted {
    /// What it is kept under; a form is not kept, but what it is made of.
    fn key(&self) -> Option<Key> {
        let whole = self.form.is_none();
        whole.then(|| (self.name.clone(), self.version.clone()))
    }
}

impl<S> Clone for Pulls<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            flights: Arc::clone(&self.flights),
            cache: Arc::clone(&self.cache),
        }
    }
}

/// A reader's share in a fetch under way or done.
#[derive(Clone)]
pub struct Pull {
    wanted: Wanted,
    /// When its reader gives up; the fetch may have begun earlier, and end earlier.
    deadline: Instant,
    outcome: watch::Receiver<Option<Pulled>>,
}

impl Pull {
    /// Waits until `deadline` for the outcome; `None` if it did not come by then.
    async fn wait(&self, deadline: Instant) -> Option<Pulled> {
        let mut outcome = self.outcome.clone();
        let landed = timeout_at(deadline, outcome.wait_for(Option::is_some))
            .await
            .ok()?;
        // A sender that is gone without an outcome was a task that panicked.
        landed.map_or_else(
            |_| {
                Some(Err(StoreError::new(
                    Failure::ServerError,
                    "the request was dropped",
                )))
            },
            |outcome| outcome.clone(),
        )
    }

    /// The outcome, if it is there.
    pub fn outcome(&self) -> Option<Pulled> {
        self.outcome.borrow().clone()
    }
}
