//! What a secret is, whoever keeps it: names, versions, properties, failures, and the trait
//! [`SecretStore`] that a vault's client implements.
//!
//! Knows no HTTP, no JSON and no file: `azure` speaks to the vault, `fs` shows files.

mod cache;
mod certificate;
mod encoding;
mod error;
mod freshness;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod name;
mod no_password;
mod pulls;
mod secret;
mod storage;
mod store;

pub use certificate::{CertificateForm, NoForm};
pub use encoding::{ENCODING_TAG, STORED_LIMIT, Stored, TAGS_MAX, decode, encode, stored_length};
pub use error::{Failure, StoreError};
pub use name::{InvalidName, SecretName, SecretVersion};
pub use pulls::{Pull, Pulled, Pulls, Wanted};
pub use secret::{NewSecret, Properties, Secret};
pub use storage::StorageKeys;
pub use store::{Checked, SecretStore};
