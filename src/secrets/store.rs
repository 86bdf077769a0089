//! The trait between the filesystem and whoever keeps the secrets.

#![forbid(unsafe_code)]

use std::future::Future;
use std::time::Instant;

use super::{NewSecret, Properties, Secret, SecretName, SecretVersion, StorageKeys, StoreError};
use crate::config::StorageAccount;

/// A place that hands out secrets and takes new versions. It is a trait because the
/// filesystem's rules are tested against a store whose faults and delays are scripted.
///
/// Every call ends by `deadline`, whatever the network does, and may be dropped at any await:
/// what a dropped `set` had sent may still be carried out, never in part.
pub trait SecretStore: Send + Sync + 'static {
    /// Fetches a version, or the current one. Costs one request when nothing fails.
    fn get(
        &self,
        name: &SecretName,
        version: Option<&SecretVersion>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Secret, StoreError>> + Send;

    /// Makes a new current version, exactly one when it returns `Ok`, at most one otherwise.
    fn set(
        &self,
        name: &SecretName,
        new: &NewSecret,
        deadline: Instant,
    ) -> impl Future<Output = Result<Properties, StoreError>> + Send;

    /// Asks whether `name` may be set, without a chance of setting it. Only a clear refusal is
    /// an error; where the store does not answer, the set itself will tell.
    fn check_set(
        &self,
        name: &SecretName,
        deadline: Instant,
    ) -> impl Future<Output = Result<Checked, StoreError>> + Send;

    /// Lists the keys of one of the mount's storage accounts. Costs one request when nothing
    /// fails.
    fn storage_keys(
        &self,
        account: &StorageAccount,
        deadline: Instant,
    ) -> impl Future<Output = Result<StorageKeys, StoreError>> + Send;
}

/// What a store says of a set that it does not refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// It was asked, and would take it as far as permissions go.
    Allowed,
    /// It could not be asked.
    Unknown,
}
