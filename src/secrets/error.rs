//! How a store can fail, named by what happened; `fs` gives each its errno.

#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Properties;

/// What went wrong, as far as a file operation's result depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Failure {
    /// The vault has no such secret or version (404).
    NotFound,
    /// The vault's policy, firewall or network rules refuse (403 `AccessDenied`, `ForbiddenBy…`).
    Forbidden,
    /// The version is disabled (403 `SecretDisabled`).
    Disabled,
    /// A certificate keeps the secret, so it cannot be set (403 `SecretManagedByKeyVault`).
    Managed,
    /// A lock on the resource refuses (409 `ScopeLocked`).
    ScopeLocked,
    /// The name belongs to a deleted secret that can be recovered (409).
    DeletedButRecoverable,
    /// The secret is being deleted or recovered (409): a matter of seconds.
    Busy,
    /// The vault refused the token, and a fresh one too (401).
    Unauthorized,
    /// No token: the identity endpoint refused, or knows no such identity.
    IdentityRefused,
    /// Too many requests, retries included (429).
    Throttled,
    /// The vault could not check the token's signature, retries included (401 `AKV10046`).
    SigningKeyUnresolved,
    /// The service failed, retries included (5xx), or answered what no row here names.
    ServerError,
    /// The answer could not be read: bad JSON, a body cut short or far too long.
    Malformed,
    /// The value does not decode as its tag `file-encoding` says.
    Undecodable,
    /// The vault finds the value too large (400 `SecretTooLarge`).
    TooLarge,
    /// A set with more tags than a vault takes; never sent.
    TooManyTags,
    /// No answer within the deadline.
    TimedOut,
    /// DNS, connection refused or reset.
    Unreachable,
    /// TLS failed: no trusted certificate, another host's, an old protocol.
    Tls,
    /// The answer was a redirect, which is never followed.
    Redirected,
    /// The vault asked for a token for another resource.
    WrongChallenge,
}

/// A failed call: what happened, and what helps to mend it. Never holds a value, a token or a
/// response's body, so that it may be logged as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    /// What happened.
    pub failure: Failure,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The service's error code and inner code, `Forbidden/ForbiddenByFirewall`.
    pub code: Option<String>,
    /// The service's id of the request, for its support.
    pub request_id: Option<String>,
    /// What was being done or seen, in our own words: `GET from vault: connection refused`.
    pub context: String,
    /// What to do about it, if that is known.
    pub hint: Option<String>,
    /// What the vault said of a secret that it handed out and that cannot be shown: who overwrites
    /// it keeps its content type and tags.
    pub properties: Option<Box<Properties>>,
}

impl StoreError {
    /// An error that has no answer of a service to quote.
    pub fn new(failure: Failure, context: impl Into<String>) -> Self {
        Self {
            failure,
            status: None,
            code: None,
            request_id: None,
            context: context.into(),
            hint: None,
            properties: None,
        }
    }

    /// The same error with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)?;
        if let Some(status) = self.status {
            write!(f, ", HTTP {status}")?;
        }
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(request_id) = &self.request_id {
            write!(f, ", request {request_id}")?;
        }
        Ok(())
    }
}

impl std::error::Error for StoreError {}
