//! A FUSE filesystem that shows the secrets of an Azure Key Vault as files.
//!
//! The crate is a set of rooms whose dependencies point one way:
//!
//! ```text
//! main → cli ─┬→ keeper ──────────────→ sys
//!             ├→ worker → fuse → fs → secrets (owns trait SecretStore)
//!             │      └──→ azure ────────┘ implements it
//!             ├→ doctor → azure
//!             └→ emulator            (imports none of the others; feature `emulator`)
//! leaves: config, link, log, metrics, secret_bytes
//! ```
//!
//! It is a library only so that tests, benchmarks and fuzz targets can reach the rooms; the
//! program `keyvaultfs` is its one user and nothing here is a stable interface.

pub mod azure;
pub mod cli;
pub mod config;
pub mod doctor;
#[cfg(feature = "emulator")]
pub mod emulator;
pub mod fs;
mod fuse;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
pub mod keeper;
pub mod link;
pub mod log;
pub mod metrics;
pub mod secret_bytes;
pub mod secrets;
pub mod sys;
pub mod worker;
