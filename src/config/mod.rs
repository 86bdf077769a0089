//! What a mount was told to do, checked: every field is a value that cannot be wrong.
//!
//! No command line and no I/O here: `cli` reads arguments and files and builds a [`Config`], the
//! keeper hands it to the worker as JSON over a descriptor. It holds no secret.

#![forbid(unsafe_code)]

/// What `#[serde(try_from = "String", into = "String")]` asks of a type with a `parse` of its own:
/// it travels as the text that it is parsed from.
macro_rules! serde_as_text {
    ($type:ty, |$value:ident| $text:expr) => {
        impl From<$type> for String {
            fn from($value: $type) -> Self {
                $text
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidConfig;

            fn try_from(text: String) -> Result<Self, InvalidConfig> {
                Self::parse(&text)
            }
        }
    };
}

mod clouds;
pub mod environment;
mod identity;
mod storage;
mod vault_url;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

pub use clouds::Cloud;
pub use identity::{IdentityConfig, IdentityEndpoint, IdentityKind, IdentitySelector, is_guid};
pub use storage::{StorageAccount, StorageConfig};
pub use vault_url::VaultUrl;

/// Whom the worker runs as if root mounts and names nobody: the first of these that exists.
pub const DEFAULT_WORKER_USERS: [&str; 2] = ["keyvaultfs", "nobody"];

/// Everything a mount needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The vault as the user wrote it: the source that /proc/mounts shows.
    pub source: String,
    /// Where the vault answers.
    pub vault: VaultUrl,
    /// The mountpoint, absolute and without symbolic links.
    pub mountpoint: PathBuf,
    /// How tokens are got.
    pub identity: IdentityConfig,
    /// The audience a token is asked for, such as `https://vault.azure.net`.
    pub resource: String,
    /// Key Vault's data-plane version, such as `7.6`.
    pub api_version: String,
    /// Certificates, in PEM, that are trusted besides the system's.
    pub ca_certificates: Vec<String>,
    /// The longest any file operation may take.
    #[serde(with = "milliseconds")]
    pub timeout: Duration,
    /// How long an idle connection is kept.
    #[serde(with = "milliseconds")]
    pub keep_alive: Duration,
    /// How long pulled values may serve later opens.
    pub freshness: Freshness,
    /// The proxy to the vault; identity endpoints never go through one.
    pub proxy: Option<Url>,
    /// Owner and permissions that files show.
    pub ownership: Ownership,
    /// Whether users other than the mounter are let in, as far as mode and owner let them.
    pub allow_other: bool,
    /// Refuse every write locally.
    pub read_only: bool,
    /// Ask, before the first write to a name, whether it may be set.
    pub set_check: bool,
    /// Drop one trailing newline from what is written.
    pub trim_newline: bool,
    /// What is put on every set besides the value.
    pub on_set: OnSet,
    /// The storage accounts whose keys are shown.
    pub storage: Option<StorageConfig>,
    /// Whom the worker runs as, when the mount was made by root.
    pub user: Option<String>,
    /// The one other group that such a worker is in, if the machine has it: that of the files which
    /// its identity service wants read.
    pub group: Option<String>,
    /// SELinux mount options (`context="…"` and its kin) for mount(2)'s data, values in quotes.
    pub security_contexts: Vec<String>,
    /// What is logged, and how.
    pub log: LogConfig,
}

/// How long pulled values may serve later opens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// As if just pulled. Zero: every open pulls.
    #[serde(with = "milliseconds")]
    pub ttl: Duration,
    /// Past that, when the vault cannot be asked. Zero: never.
    #[serde(with = "milliseconds")]
    pub stale_if_error: Duration,
}

/// Owner and permissions that files show; the kernel enforces them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits of a secret's file.
    pub file_mode: u16,
    /// Permission bits of the directory; never readable.
    pub dir_mode: u16,
}

/// What is put on every set besides the value. It counts where the version before says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnSet {
    /// How long after the set the version expires. Vaults hand out expired versions all the same,
    /// but a policy may refuse sets that name no expiry.
    pub expires_in: Option<Duration>,
    /// The content type, at most 255 characters.
    pub content_type: Option<String>,
    /// Tags, at most 15 in all; never `file-encoding`, which follows from the value.
    pub tags: BTreeMap<String, String>,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// Severities, most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    /// What failed and will stay failed.
    Error,
    /// Also every failed operation.
    Warn,
    /// Also mount, unmount, worker starts.
    Info,
    /// Also each request to the vault.
    Debug,
    /// Everything.
    Trace,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why a text is not what it should be; the text says what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidConfig(String);

/// Durations as whole milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_millis)
    }
}
