//! The filesystem itself: what lookup, open, read, write and close mean for a secret.
//!
//! Knows neither fuser nor Azure: requests come as plain arguments from `fuse`, values from a
//! [`SecretStore`]. An operation is an async function that waits for the store only, never for
//! another secret's; its result is what the program is told.

#![forbid(unsafe_code)]

mod attributes;
mod editors;
mod errno;
mod fixed;
mod hand_off;
mod handles;
mod inodes;
mod lookup;
mod notes;
mod open;
mod policy;
mod read;
mod rename;
mod repeats;
mod scratch;
mod set;
mod staging;
mod storage;
mod write;
mod xattrs;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use tokio::time::Instant;
use tracing::{debug, warn};

pub use attributes::Attributes;
pub use editors::Creation;
pub use errno::errno;
pub use fixed::DirectoryEntry;
pub use inodes::{NodeName, ROOT};
pub use open::{Access, Opened};

pub use set::Released;
pub use staging::WriteAt;
pub use write::Change;

use crate::config::{Config, Freshness, OnSet, Ownership, StorageAccount};
use crate::link::Link;
use crate::metrics::{METRICS, Subject};
use crate::secrets::{Failure, Pulls, SecretStore, StoreError};

/// What a program is told of a handle that an earlier worker took with it.
const LOST: Errno = Errno::EIO;

/// What of a mount's configuration the filesystem itself needs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest an operation may take.
    pub timeout: Duration,
    /// How long pulled values may serve later opens.
    pub freshness: Freshness,
    /// Owner and permissions shown.
    pub ownership: Ownership,
    /// Refuse every write.
    pub read_only: bool,
    /// Ask before the first write to a name whether it may be set.
    pub set_check: bool,
    /// Drop one trailing newline from what is set.
    pub trim_newline: bool,
    /// What is put on every set besides the value.
    pub on_set: OnSet,
    /// The storage accounts whose keys are shown.
    pub storage_accounts: Vec<StorageAccount>,
    /// What status and metrics are about.
    pub subject: Subject,
}

impl Options {
    /// The options of the mount that `config` describes, in its worker of this number.
    pub fn new(config: &Config, generation: u32) -> Self {
        Self {
            timeout: config.timeout,
            freshness: config.freshness,
            ownership: config.ownership,
            read_only: config.read_only,
            set_check: config.set_check,
            trim_newline: config.trim_newline,
            on_set: config.on_set.clone(),
            storage_accounts: config
                .storage
                .as_ref()
                .map(|storage| storage.accounts.clone())
                .unwrap_or_default(),
            subject: Subject {
                program: env!("CARGO_PKG_VERSION"),
                vault: config.vault.to_string(),
                identity: config.identity.kind.name().to_owned(),
                worker: generation,
                started: SystemTime::now(),
            },
        }
    }
}

/// A vault's secrets as files.
pub struct SecretFs<S> {
    options: Options,
    appearance: attributes::Appearance,
    store: Arc<S>,
    pulls: Pulls<S>,
    inodes: inodes::Inodes,
    handles: handles::Handles,
    hand_offs: hand_off::HandOffs,
    policy: policy::Policy,
    repeats: repeats::Repeats,
    scratches: scratch::Scratches,
    listings: xattrs::Listings,
    fixed: fixed::Fixed,
    /// Whether a task waits for temporary files to outlive their time.
    sweeping: AtomicBool,
    link: Arc<Link>,
}

impl<S: SecretStore> SecretFs<S> {
    /// A filesystem in front of `store`. `generation` tells this worker's handles from those of
    /// the mount's other workers.
    pub fn new(store: Arc<S>, options: Options, link: Arc<Link>, generation: u32) -> Self {
        Self {
            appearance: attributes::Appearance {
                ownership: options.ownership,
                read_only: options.read_only,
                since: SystemTime::now(),
            },
            pulls: Pulls::new(Arc::clone(&store), options.freshness),
            store,
            fixed: fixed::Fixed::new(&options.storage_accounts),
            options,
            inodes: inodes::Inodes::default(),
            handles: handles::Handles::new(generation),
            hand_offs: hand_off::HandOffs::default(),
            policy: policy::Policy::default(),
            repeats: repeats::Repeats::default(),
            scratches: scratch::Scratches::new(generation, Arc::clone(&link)),
            listings: xattrs::Listings::default(),
            sweeping: AtomicBool::new(false),
            link,
        }
    }

    /// When an operation that begins now must have ended.
    fn deadline(&self) -> Instant {
        Instant::now() + self.options.timeout
    }

    /// Says in the log why an operation failed, and gives the errno the program sees. What keeps
    /// failing alike is said once a minute, with how often it did.
    fn report(
        &self,
        operation: &'static str,
        name: &dyn std::fmt::Display,
        error: &StoreError,
    ) -> Errno {
        let errno = errno(error.failure);
        let hint = error.hint.as_deref().unwrap_or_default();
        // A name that is not there is an answer, not a fault: shells and editors try many.
        if error.failure == Failure::NotFound {
            debug!(operation, secret = %name, %errno, cause = %error, hint, "not there");
        } else {
            METRICS.error(error.failure, operation, errno);
            let now = Instant::now();
            for ((operation, secret, failure), more) in self.repeats.overdue(now) {
                warn!(
                    operation,
                    secret,
                    ?failure,
                    more,
                    "the operation failed as often again"
                );
            }
            let kind = error.failure;
            if let Some(more) = self.repeats.count(operation, name.to_string(), kind, now) {
                // How many of the same were left out since the last line.
                let more = (more > 0).then_some(more);
                warn!(operation, secret = %name, %errno, cause = %error, hint, more, "operation failed");
            }
        }
        errno
    }
}
