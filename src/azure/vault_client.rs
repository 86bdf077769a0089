//! One authorised request to the vault: token, 401, log line, and what a failure means.
//!
//! A refused token is replaced once; nothing else is tried again here. A failure says whether the
//! vault may have carried the request out, so that `key_vault` can decide what may be repeated.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, Request};
use zeroize::Zeroizing;

use super::challenge;
use super::hints::{self, Circumstances};
use super::http::{Answer, Connection, Http};
use super::limiter::Limiter;
use super::problem::{self, Problem};
use super::retry::{self, Attempts, Cause};
use super::token::{Token, TokenCache, TokenSource};
use super::transport::{Lost, Reached};
use crate::config::{Config, StorageConfig, VaultUrl};
use crate::metrics::{METRICS, Service};
use crate::secrets::{Failure, StoreError};

/// A client for one vault, or for Resource Manager. Its tokens go there and nowhere else.
pub(super) struct VaultClient {
    http: Http,
    tokens: TokenCache,
    service: Service,
    vault: VaultUrl,
    resource: String,
    /// Guards the pace that all requests keep to.
    limiter: Mutex<Limiter>,
}

/// A request without its token, which may be sent again.
pub(super) struct Call {
    /// What it does, for people: `GET secret SQLPasswd from myvault.vault.azure.net`.
    pub what: String,
    /// The request; its body can be cloned.
    pub request: Request,
}

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failed {
    /// What happened, with a hint.
    pub error: StoreError,
    /// Why another attempt may succeed; `None`: it will not.
    pub cause: Option<Cause>,
    /// What the vault may have done.
    pub effect: Effect,
    /// How long the vault asks to wait.
    pub retry_after: Option<Duration>,
}

/// What the vault may have done about a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: it never saw it, or refused it.
    None,
    /// It may have carried it out.
    Possible,
}

impl VaultClient {
    /// A client for the vault of `config`.
    pub(super) fn new(config: &Config, tokens: TokenCache, http: Http) -> Self {
        Self {
            http,
            tokens,
            service: Service::Vault,
            vault: config.vault.clone(),
            resource: config.resource.clone(),
            limiter: Mutex::new(Limiter::new(Instant::now())),
        }
    }

    /// A client for the Resource Manager of `config`.
    pub(super) fn of_resource_manager(
        config: &StorageConfig,
        tokens: TokenCache,
        http: Http,
    ) -> Self {
        Self {
            http,
            tokens,
            service: Service::ResourceManager,
            vault: config.resource_manager.clone(),
            resource: config.audience.clone(),
            limiter: Mutex::new(Limiter::new(Instant::now())),
        }
    }

    /// Where its tokens come from.
    pub(super) fn tokens(&self) -> &TokenSource {
        self.tokens.source()
    }

    /// The vault's address.
    pub(super) fn vault(&self) -> &VaultUrl {
        &self.vault
    }

    /// Sends `call` with a token, once more with a fresh one if the vault refuses the first.
    /// `Ok` is an answer of status 200.
    pub(super) async fn send(
        &self,
        call: &Call,
        connection: Connection,
        deadline: Instant,
    ) -> Result<Answer, Failed> {
        let mut token = self.token(None, deadline).await?;
        let mut answer = self
            .exchange(call, Some(&token), connection, deadline)
            .await?;
        if answer.status == 401 {
            if let Some(failed) = self.wrong_challenge(call, &answer) {
                return Err(failed);
            }
            if refuses_token(&answer) {
                let claims = challenge::claims(&answer.headers);
                token = self.token(Some((&token, claims)), deadline).await?;
                answer = self
                    .exchange(call, Some(&token), connection, deadline)
                    .await?;
            }
        }
        if answer.status == 200 {
            return Ok(answer);
        }
        Err(self.refusal(call, &answer, Some(&token)))
    }

    /// Sends `call` without a token. `Ok` is any answer but a redirect, or a challenge for another
    /// resource.
    pub(super) async fn knock(&self, call: &Call, deadline: Instant) -> Result<Answer, StoreError> {
        let sent = self.exchange(call, None, Connection::Fresh, deadline).await;
        let answer = sent.map_err(|failed| failed.error)?;
        if let Some(failed) = self.wrong_challenge(call, &answer) {
            return Err(failed.error);
        }
        if (300..400).contains(&answer.status) {
            return Err(self.refusal(call, &answer, None).error);
        }
        Ok(answer)
    }

    /// The token that requests go out with.
    pub(super) async fn held_token(&self, deadline: Instant) -> Result<Arc<Token>, StoreError> {
        self.tokens.token(deadline).await
    }

    /// Fetches a token, so that the first request finds one. Whether it works will be seen then.
    pub(super) async fn warm_up(&self, deadline: Instant) {
        if let Err(error) = self.tokens.token(deadline).await {
            let hint = error.hint.as_deref();
            tracing::warn!(%error, hint, "no token yet; the first access will try again");
        }
    }

    /// An answer that is not what was asked for: nobody knows what the vault did.
    pub(super) fn malformed(&self, call: &Call, answer: &Answer) -> Failed {
        let context = format!("{}: the answer cannot be read", call.what);
        let mut error = StoreError::new(Failure::Malformed, context);
        error.status = Some(answer.status);
        error.request_id = problem::request_id(&answer.headers);
        Failed {
            error,
            cause: Some(Cause::Unanswered),
            effect: Effect::Possible,
            retry_after: None,
        }
    }

    /// The hint for `failure` where no answer says more.
    pub(super) fn hint(&self, failure: Failure) -> Option<String> {
        hints::hint(failure, &Problem::default(), &self.circumstances(None))
    }

    /// A token; in place of one that was rejected, with the claims demanded then.
    async fn token(
        &self,
        rejected: Option<(&Token, Option<String>)>,
        deadline: Instant,
    ) -> Result<Arc<Token>, Failed> {
        let token = match rejected {
            None => self.tokens.token(deadline).await,
            Some((rejected, claims)) => self.tokens.replacement(rejected, claims, deadline).await,
        };
        if let (Ok(token), Service::Vault) = (&token, self.service) {
            METRICS.token(token.claims.object_id.as_deref(), token.left());
        }
        token.map_err(|error| Failed {
            error,
            // The identity service has its own retries.
            cause: None,
            effect: Effect::None,
            retry_after: None,
        })
    }

    async fn exchange(
        &self,
        call: &Call,
        token: Option<&Token>,
        connection: Connection,
        deadline: Instant,
    ) -> Result<Answer, Failed> {
        let mut request = call
            .request
            .try_clone()
            .expect("a call's body is bytes, which can be cloned");
        let headers = request.headers_mut();
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, bearer(token));
        }
        headers.insert("x-ms-client-request-id", request_id());
        self.take_turn(call, deadline).await?;
        let began = Instant::now();
        let answer = self.http.send(request, connection, deadline).await;
        let elapsed = began.elapsed();
        match &answer {
            Ok(answer) if answer.status == 429 => self.limiter.lock().throttled(Instant::now()),
            Ok(_) => self.limiter.lock().answered(),
            // It says nothing of how much the vault can take.
            Err(_) => {}
        }
        match &answer {
            Ok(answer) => tracing::debug!(
                status = answer.status,
                request_id = problem::request_id(&answer.headers),
                ?elapsed,
                "{}",
                call.what
            ),
            Err(lost) => tracing::debug!(lost = lost.detail, ?elapsed, "{}", call.what),
        }
        answer.map_err(|lost| self.lost(call, lost))
    }

    /// Waits until the pace allows another request; gives up at once if that is too late.
    async fn take_turn(&self, call: &Call, deadline: Instant) -> Result<(), Failed> {
        let now = Instant::now();
        // A turn that leaves no time for the request itself is none.
        let patience = deadline.saturating_duration_since(now) * 3 / 4;
        let admitted = self.limiter.lock().admit(now, patience);
        let Some(wait) = admitted else {
            let context = format!("{}: not sent, since the vault throttles", call.what);
            return Err(Failed {
                error: StoreError::new(Failure::Throttled, context),
                cause: None,
                effect: Effect::None,
                retry_after: None,
            });
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// A 401 that asks for a token for something else, which is never obeyed.
    fn wrong_challenge(&self, call: &Call, answer: &Answer) -> Option<Failed> {
        if !challenge::names_another(&answer.headers, &self.resource) {
            return None;
        }
        let what = &call.what;
        let context = format!("{what}: the vault asks for a token for another resource");
        let mut error = StoreError::new(Failure::WrongChallenge, context);
        error.status = Some(answer.status);
        error.request_id = problem::request_id(&answer.headers);
        error.hint = self.hint(Failure::WrongChallenge);
        Some(Failed {
            error,
            cause: None,
            effect: Effect::None,
            retry_after: None,
        })
    }

    fn refusal(&self, call: &Call, answer: &Answer, token: Option<&Token>) -> Failed {
        let problem = Problem::parse(answer.body.expose());
        let failure = problem.failure(answer.status);
        let circumstances =
            self.circumstances(token.and_then(|token| token.claims.object_id.as_deref()));
        let passes = retry::is_transient(answer.status) || failure == Failure::SigningKeyUnresolved;
        let refused = (300..500).contains(&answer.status) && answer.status != 408;
        Failed {
            error: StoreError {
                failure,
                status: Some(answer.status),
                code: problem.label(),
                request_id: problem::request_id(&answer.headers),
                context: call.what.clone(),
                hint: match self.service {
                    _ if challenge::claims(&answer.headers).is_some() => {
                        Some(hints::CLAIMS.to_owned())
                    }
                    Service::ResourceManager => {
                        hints::storage_hint(failure, call.request.url().path(), &circumstances)
                    }
                    _ => hints::hint(failure, &problem, &circumstances),
                },
                properties: None,
            },
            cause: passes.then_some(Cause::Answered),
            effect: if refused {
                Effect::None
            } else {
                Effect::Possible
            },
            retry_after: retry::retry_after(&answer.headers, SystemTime::now()),
        }
    }

    fn lost(&self, call: &Call, lost: Lost) -> Failed {
        let context = format!("{}: {}", call.what, lost.detail);
        let mut error = StoreError::new(lost.failure, context);
        error.hint = self.hint(lost.failure);
        Failed {
            error,
            cause: match (lost.reached, lost.failure) {
                (_, Failure::Tls) | (Reached::Wire, Failure::TimedOut) => None,
                (Reached::Wire, Failure::Unreachable) => Some(Cause::ConnectionLost),
                _ => Some(Cause::Unanswered),
            },
            effect: match lost.reached {
                Reached::Nothing => Effect::None,
                Reached::Wire => Effect::Possible,
            },
            retry_after: None,
        }
    }

    fn circumstances<'a>(&'a self, object_id: Option<&'a str>) -> Circumstances<'a> {
        Circumstances {
            vault: &self.vault,
            resource: &self.resource,
            object_id,
        }
    }
}

impl Call {
    /// A request without a body.
    pub(super) fn new(what: String, method: Method, url: url::Url) -> Self {
        let mut request = Request::new(method, url);
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(reqwest::header::ACCEPT, json);
        Self { what, request }
    }

    /// The same with a body that is, or claims to be, JSON.
    pub(super) fn with_json(mut self, body: Vec<u8>) -> Self {
        let json = HeaderValue::from_static("application/json");
        let headers = self.request.headers_mut();
        headers.insert(reqwest::header::CONTENT_TYPE, json);
        *self.request.body_mut() = Some(reqwest::Body::from(body));
        self
    }
}

impl Failed {
    /// Waits until the next attempt is due. If there is to be none, gives the error back.
    pub(super) async fn pause(
        self,
        attempts: &mut Attempts,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let Some(cause) = self.cause else {
            return Err(self.error);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(wait) = attempts.next(cause, self.retry_after, left, retry::jitter()) else {
            return Err(self.error);
        };
        tracing::debug!(error = %self.error, ?wait, "trying again");
        METRICS.retry();
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Whether another token may help: not if the vault could not check this one (`AKV10046`).
fn refuses_token(answer: &Answer) -> bool {
    let problem = Problem::parse(answer.body.expose());
    problem.failure(answer.status) != Failure::SigningKeyUnresolved
}

/// `Bearer` and the token, marked so that no HTTP library logs it.
fn bearer(token: &Token) -> HeaderValue {
    let mut text = Zeroizing::new(Vec::with_capacity(7 + token.value.len()));
    text.extend_from_slice(b"Bearer ");
    text.extend_from_slice(token.value.expose());
    let mut value =
        HeaderValue::from_bytes(&text).expect("a token was checked to be printable ASCII");
    value.set_sensitive(true);
    value
}

/// A random id under which the service logs a request.
fn request_id() -> HeaderValue {
    let mut random = [0; 16];
    // Without randomness the id is the same each time, and of no use to anyone; no harm is done.
    let _ = getrandom::fill(&mut random);
    // A version 4 UUID's fixed bits.
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let number = u128::from_be_bytes(random);
    let digits = format!("{number:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &digits[range]);
    HeaderValue::from_str(&parts.join("-")).expect("hexadecimal digits and dashes are a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_random_uuid() {
        let (a, b) = (request_id(), request_id());
        assert_ne!(a, b);
        let text = a.to_str().unwrap();
        assert_eq!((text.len(), text.as_bytes()[14]), (36, b'4'));
    }
}
