//! The one token that is held, and the one fetch under way.
//!
//! Everyone who needs a token while none is held waits for the same fetch, each until an own
//! deadline. The fetch itself goes on by the identity service's rules, which may take longer than
//! anyone waits: the next to ask finds its result. It ends when the cache is dropped.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::freshness::{Held, Step};
use super::patience::{ATTEMPT, Patience};
use super::response::{Granted, claims};
use super::{Token, TokenSource};
use crate::azure::http::Http;
use crate::azure::retry;
use crate::secrets::{Failure, StoreError};

/// Holds the token for one resource and identity.
pub(in crate::azure) struct TokenCache {
    shared: Arc<Shared>,
}

struct Shared {
    source: TokenSource,
    http: Http,
    /// Guards what is held and the fetch under way together, so that nobody starts a second one
    /// between its end and its result.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Held,
    flight: Option<Flight>,
    generation: u64,
    /// What the vault demands of the next token.
    claims: Option<String>,
}

/// A fetch under way.
struct Flight {
    progress: watch::Receiver<Progress>,
    task: AbortHandle,
}

/// How far a fetch has come.
#[derive(Debug, Clone)]
enum Progress {
    /// Asking for the first time.
    Asking,
    /// An attempt failed; the next is made at that time.
    Waiting(StoreError, Instant),
    /// Over.
    Done(Result<Arc<Token>, StoreError>),
}

impl TokenCache {
    /// Holds none yet; the first to ask makes it fetch one.
    pub(in crate::azure) fn new(source: TokenSource, http: Http) -> Self {
        Self {
            shared: Arc::new(Shared {
                source,
                http,
                state: Mutex::default(),
            }),
        }
    }

    /// Where tokens come from.
    pub(in crate::azure) fn source(&self) -> &TokenSource {
        &self.shared.source
    }

    /// A token that is good, fetched if need be, before `deadline`.
    pub(in crate::azure) async fn token(
        &self,
        deadline: Instant,
    ) -> Result<Arc<Token>, StoreError> {
        let progress = {
            let mut state = self.shared.state.lock();
            match state.held.step(Instant::now()) {
                Step::Serve(token) => return Ok(token),
                Step::ServeAndRenew(token) => {
                    self.join(&mut state, Instant::now());
                    return Ok(token);
                }
                Step::Fail(error) => return Err(error),
                Step::Fetch(not_before) => self.join(&mut state, not_before),
            }
        };
        wait(progress, deadline).await
    }

    /// Another token than `rejected`, which the vault refused, with the claims it demands if any.
    /// However many come with the same one, one fetch serves them all.
    pub(in crate::azure) async fn replacement(
        &self,
        rejected: &Token,
        claims: Option<String>,
        deadline: Instant,
    ) -> Result<Arc<Token>, StoreError> {
        {
            let mut state = self.shared.state.lock();
            state.held.reject(rejected);
            state.claims = claims;
        }
        self.token(deadline).await
    }

    /// The fetch under way, or a new one.
    fn join(&self, state: &mut State, not_before: Instant) -> watch::Receiver<Progress> {
        if let Some(flight) = &state.flight
            && !flight.task.is_finished()
        {
            return flight.progress.clone();
        }
        let (report, progress) = watch::channel(Progress::Asking);
        let shared = self.shared.clone();
        let claims = state.claims.take();
        let task = tokio::spawn(async move {
            tokio::time::sleep_until(not_before.into()).await;
            let result = shared.fetch(claims.as_deref(), &report).await;
            shared.settle(result, &report);
        });
        state.flight = Some(Flight {
            progress: progress.clone(),
            task: task.abort_handle(),
        });
        progress
    }
}

impl Drop for TokenCache {
    fn drop(&mut self) {
        if let Some(flight) = self.shared.state.lock().flight.take() {
            flight.task.abort();
        }
    }
}

impl Shared {
    /// Asks until there is a token or the service's rules say to give up.
    async fn fetch(
        &self,
        claims: Option<&str>,
        report: &watch::Sender<Progress>,
    ) -> Result<Granted, StoreError> {
        let began = Instant::now();
        let mut patience = Patience::default();
        loop {
            let refused = match self
                .source
                .ask(&self.http, claims, Instant::now() + ATTEMPT)
                .await
            {
                Ok(granted) => return Ok(granted),
                Err(refused) => refused,
            };
            let wish = refused.retry_after;
            let wait = patience.next(refused.cause, wish, began.elapsed(), retry::jitter());
            let Some(wait) = wait else {
                return Err(refused.error);
            };
            tracing::debug!(error = %refused.error, ?wait, "no token yet");
            let next = Instant::now() + wait;
            report.send_replace(Progress::Waiting(refused.error, next));
            tokio::time::sleep_until(next.into()).await;
        }
    }

    /// Keeps the result of a fetch and tells those who wait.
    fn settle(&self, result: Result<Granted, StoreError>, report: &watch::Sender<Progress>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.flight = None;
        let result = match result {
            Ok(granted) => {
                state.generation += 1;
                let token = Arc::new(Token {
                    claims: claims(&granted.access_token),
                    value: granted.access_token,
                    generation: state.generation,
                    received: now,
                    expires: now + granted.lifetime,
                    after_rejection: state.held.is_after_rejection(),
                });
                tracing::debug!(lifetime = ?granted.lifetime, "got a token");
                state.claims = None;
                state.held.receive(token.clone());
                Ok(token)
            }
            Err(error) => {
                tracing::debug!(%error, "got no token");
                state.held.fail(error.clone(), now);
                state.held.leftover(now).ok_or(error)
            }
        };
        report.send_replace(Progress::Done(result));
    }
}

/// Waits for a fetch until `deadline`, or until it is clear that it will not end before.
async fn wait(
    mut progress: watch::Receiver<Progress>,
    deadline: Instant,
) -> Result<Arc<Token>, StoreError> {
    let mut last = StoreError::new(Failure::TimedOut, "token: no answer in time");
    loop {
        match progress.borrow_and_update().clone() {
            Progress::Done(result) => return result,
            Progress::Waiting(error, next) if next >= deadline => return Err(error),
            Progress::Waiting(error, _) => last = error,
            Progress::Asking => {}
        }
        match tokio::time::timeout_at(deadline.into(), progress.changed()).await {
            Ok(Ok(())) => {}
            // The fetch ended without a result: the cache is being dropped.
            Ok(Err(_)) | Err(_) => return Err(last),
        }
    }
}
