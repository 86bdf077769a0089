//! Everything that speaks to Azure: access tokens from an identity service, secrets from Key
//! Vault.
//!
//! It implements [`SecretStore`](crate::secrets::SecretStore) and nothing of what files are:
//! caching, freshness and errnos are decided elsewhere. Within the room, `http` moves bytes
//! under a deadline, `retry` decides when to try again, `bundle`, `problem` and `challenge` read
//! what came back, `token` knows who hands out tokens, `vault_client` sends a request with one, and
//! `key_vault` is the store that all of it makes.
//! `diagnosis` asks single questions of it.

#![forbid(unsafe_code)]

mod bundle;
mod challenge;
mod diagnosis;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod hints;
mod http;
mod key_vault;
mod limiter;
mod pinned;
mod problem;
mod retry;
mod set_outcome;
mod storage_keys;
mod tls;
mod token;
mod transport;
mod vault_client;

pub use diagnosis::{Diagnosis, Grant};
pub use key_vault::KeyVault;
pub use tls::SetupError;
pub use token::{Candidate, Claims, Surroundings, check_identity};
