//! One question to an identity service, and what its answer means.
//!
//! Every service says 200 with a token or something else with `error` and `error_description`;
//! which of the refusals pass, and what to tell people, each service knows itself.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Method, Request};
use url::{Origin, Url, form_urlencoded};

use super::patience::Cause;
use super::response::{Granted, Refusal};
use super::surroundings::Surroundings;
use crate::azure::http::{Answer, Connection, Http};
use crate::azure::{problem, retry};
use crate::config::IdentitySelector;
use crate::secrets::{Failure, StoreError};

/// Why one attempt gave no token, and whether another may.
#[derive(Debug)]
pub(super) struct Refused {
    /// What happened.
    pub error: StoreError,
    /// Whether to ask again.
    pub cause: Cause,
    /// What the service wishes, if it said so.
    pub retry_after: Option<Duration>,
    /// What its words say, for hints.
    pub refusal: Refusal,
}

impl Refused {
    /// An attempt that came to nothing without an answer to quote.
    pub(super) fn new(error: StoreError, cause: Cause) -> Self {
        Self {
            error,
            cause,
            retry_after: None,
            refusal: Refusal::default(),
        }
    }

    /// Whether there seems to be no such service here at all, so that another may be tried.
    pub(super) fn is_absence(&self) -> bool {
        // Docker Desktop's proxy answers for the metadata service. Source: azure-identity.
        let proxy = self.error.status == Some(403) && self.error.code.is_none();
        self.cause == Cause::Unanswered || proxy
    }
}

/// A refusal of our own, which asking again will not change.
impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::new(error, Cause::Final)
    }
}

/// The names of the parameters that select a user-assigned identity; each service has its own.
pub(super) struct SelectorNames {
    pub client_id: &'static str,
    pub object_id: &'static str,
    pub resource_id: &'static str,
}

impl SelectorNames {
    /// The parameter that selects `selector`, if one is selected.
    pub(super) fn parameter(
        &self,
        selector: Option<&IdentitySelector>,
    ) -> Option<(&'static str, String)> {
        Some(match selector? {
            IdentitySelector::ClientId(id) => (self.client_id, id.clone()),
            IdentitySelector::ObjectId(id) => (self.object_id, id.clone()),
            IdentitySelector::ResourceId(id) => (self.resource_id, id.clone()),
        })
    }
}

/// A request with the header that metadata services demand, to show that the request is no
/// browser's.
pub(super) fn metadata_request(method: Method, url: Url) -> Request {
    let mut request = Request::new(method, url);
    let headers = request.headers_mut();
    headers.insert("metadata", HeaderValue::from_static("true"));
    request
}

/// Parameters as a form's body or a URL's query.
pub(super) fn form(parameters: &[(&'static str, String)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish()
}

/// Parameters with a secret among them as a form's body, wiped once it is sent.
pub(super) fn secret_form<'a>(parameters: impl Iterator<Item = &'a (&'a str, &'a str)>) -> Vec<u8> {
    // Room for all of it, so that no copy is left behind by growing.
    let text = String::with_capacity(256 << 10);
    let mut form = form_urlencoded::Serializer::new(text);
    for (name, value) in parameters {
        form.append_pair(name, value);
    }
    form.finish().into_bytes()
}

/// `request` with a form as its body.
pub(super) fn with_form(mut request: Request, form: Vec<u8>) -> Request {
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, form_type);
    *request.body_mut() = Some(Body::from(form));
    request
}

/// The header that shows we were given a secret in `variable`.
pub(super) fn secret_header(
    surroundings: &Surroundings,
    variable: &str,
) -> Result<HeaderValue, StoreError> {
    let secret = surroundings.secret(variable);
    let header = secret.and_then(|secret| HeaderValue::from_str(&secret).ok());
    let mut header = header.ok_or_else(|| {
        let context = format!("token: the variable {variable} is not set, or holds no text");
        let error = StoreError::new(Failure::IdentityRefused, context);
        let hint = "keyvaultfs must be started where the identity service has set its variables";
        error.with_hint(hint)
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Sends `request` and reads the token. `passing` says which statuses may pass; 410 and those
/// that say so by themselves (429, 5xx) need no mention.
pub(super) async fn ask(
    http: &Http,
    request: Request,
    passing: &[u16],
    deadline: Instant,
) -> Result<Granted, Refused> {
    let url = request.url().clone();
    let answer = send(http, request, deadline).await?;
    if answer.status != 200 {
        return Err(refused(&url, &answer, passing));
    }
    let clock = retry::date(&answer.headers);
    let granted = Granted::parse(answer.body.expose(), clock, SystemTime::now());
    granted.map_err(|_| {
        let context = format!("{}: the answer holds no token", context(&url));
        let error = StoreError::new(Failure::Malformed, context);
        Refused::new(error, Cause::Unanswered)
    })
}

/// Sends `request`; any answer is one.
pub(super) async fn send(
    http: &Http,
    request: Request,
    deadline: Instant,
) -> Result<Answer, Refused> {
    let context = context(request.url());
    let answer = http.send(request, Connection::Fresh, deadline).await;
    answer.map_err(|lost| {
        let cause = match lost.failure {
            Failure::Tls => Cause::Final,
            _ => Cause::Unanswered,
        };
        let error = StoreError::new(lost.failure, format!("{context}: {}", lost.detail));
        Refused::new(error, cause)
    })
}

/// What an answer means that holds no token.
pub(super) fn refused(url: &Url, answer: &Answer, passing: &[u16]) -> Refused {
    let refusal = Refusal::parse(answer.body.expose());
    let transient = retry::is_transient(answer.status) || passing.contains(&answer.status);
    let mut error = StoreError::new(failure(answer.status), context(url));
    error.status = Some(answer.status);
    error.code = refusal.label();
    error.request_id = problem::request_id(&answer.headers);
    Refused {
        error,
        cause: match answer.status {
            410 => Cause::Gone,
            _ if transient => Cause::Answered,
            _ => Cause::Final,
        },
        retry_after: retry::retry_after(&answer.headers, SystemTime::now()),
        refusal,
    }
}

/// The hint for managed identities of whatever hosts the process.
pub(super) fn identity_hint(mut refused: Refused, selected: bool) -> Refused {
    let hint = match refused.error.failure {
        _ if refused.refusal.ambiguous => {
            "there are several user-assigned identities: name one with --client-id"
        }
        Failure::IdentityRefused | Failure::ServerError if selected => {
            "check that --client-id, --object-id or --identity-resource-id names an identity that \
             is assigned here"
        }
        Failure::IdentityRefused | Failure::ServerError => {
            "is a managed identity assigned here? name a user-assigned one with --client-id"
        }
        _ => return refused,
    };
    refused.error.hint = Some(hint.to_owned());
    refused
}

/// A refusal of our own: why no token of the service at `url` will do.
pub(super) fn own_refusal(url: &Url, reason: &str, hint: &str) -> StoreError {
    let context = format!("{}: {reason}", context(url));
    StoreError::new(Failure::IdentityRefused, context).with_hint(hint)
}

/// What is asked, and where, without the question.
fn context(url: &Url) -> String {
    match url.origin() {
        Origin::Tuple(..) => format!("token from {}", url.origin().ascii_serialization()),
        Origin::Opaque(_) => "token".to_owned(),
    }
}

/// What a status means for the one who wants a token.
fn failure(status: u16) -> Failure {
    match status {
        300..=399 => Failure::Redirected,
        // Away for an update: there is no answer yet.
        408 | 410 => Failure::TimedOut,
        429 => Failure::Throttled,
        400..=499 => Failure::IdentityRefused,
        200..=299 => Failure::Malformed,
        _ => Failure::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_escaped() {
        let text = form(&[("resource", "https://vault.azure.net".to_owned())]);
        assert_eq!(text, "resource=https%3A%2F%2Fvault.azure.net");
    }

    #[test]
    fn each_refusal_of_an_identity_service_has_its_failure() {
        for (status, meant) in [
            (400, Failure::IdentityRefused),
            (401, Failure::IdentityRefused),
            (403, Failure::IdentityRefused),
            (404, Failure::IdentityRefused),
            (410, Failure::TimedOut),
            (429, Failure::Throttled),
            (500, Failure::ServerError),
            (503, Failure::ServerError),
            (302, Failure::Redirected),
            (204, Failure::Malformed),
        ] {
            assert_eq!(failure(status), meant, "{status}");
        }
    }
}
