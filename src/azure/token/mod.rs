//! Access tokens: where they come from, and the one that is held.
//!
//! [`TokenSource`] knows the identity services, one file each, and `auto` which of them a machine
//! has; `exchange` asks one once, `patience` says when to ask again, `freshness` when a token is
//! due, and [`TokenCache`] holds the current one and fetches it for all who wait. What a token is
//! sent to is the caller's business.

#![forbid(unsafe_code)]

mod app_service;
mod auto;
mod azure_arc;
mod azure_cli;
mod azure_ml;
mod cache;
mod cloud_shell;
mod entra;
mod exchange;
mod freshness;
mod imds;
mod patience;
mod response;
mod service_fabric;
mod source;
mod surroundings;
mod vm_extension;
mod wanted;

use std::time::{Duration, Instant};

pub use auto::Candidate;
#[cfg(any(test, fuzzing))]
pub(super) use azure_arc::key_path;
pub(super) use cache::TokenCache;
pub use response::Claims;
#[cfg(any(test, fuzzing))]
pub(super) use response::{Granted, LIFETIME_MAX, Refusal, claims};
pub(super) use source::TokenSource;
pub use source::check_identity;
pub use surroundings::Surroundings;

use crate::secret_bytes::SecretBytes;

/// An access token and what is known of it.
#[derive(Debug)]
pub(super) struct Token {
    /// What follows `Bearer`.
    pub value: SecretBytes,
    /// What it says of its identity; for hints.
    pub claims: Claims,
    /// Counts the tokens fetched, to tell a refused one from its successor.
    generation: u64,
    received: Instant,
    expires: Instant,
    /// It was fetched because the vault refused the one before.
    after_rejection: bool,
}

impl Token {
    /// How long it is good for yet, by what the service said.
    pub(super) fn left(&self) -> Duration {
        self.expires.saturating_duration_since(Instant::now())
    }
}
