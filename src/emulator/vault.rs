//! What the vault keeps: secrets, their versions and their states. No HTTP and no policy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::state::random_hex;

/// One version of a secret.
#[derive(Debug, Clone, Serialize)]
pub struct SecretVersion {
    /// 32 hexadecimal digits.
    pub version: String,
    /// The value as it was put.
    pub value: String,
    /// The rest of what was put.
    #[serde(flatten)]
    pub settings: Settings,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// When it was last changed, in seconds since 1970.
    pub updated: i64,
}

/// What a version has besides its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether it can be read.
    pub enabled: bool,
    /// Free text that says what the value is.
    pub content_type: Option<String>,
    /// Free pairs of texts.
    pub tags: BTreeMap<String, String>,
    /// Start of its time, in seconds since 1970; not enforced on reading.
    pub not_before: Option<i64>,
    /// End of its time, in seconds since 1970; not enforced on reading.
    pub expires: Option<i64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            content_type: None,
            tags: BTreeMap::new(),
            not_before: None,
            expires: None,
        }
    }
}

/// How far a secret is from being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deletion {
    /// It is there.
    #[default]
    None,
    /// Deleted, its name held until it is recovered or purged.
    Recoverable,
    /// On its way out.
    BeingDeleted,
    /// On its way back.
    BeingRecovered,
}

/// A secret with all its versions.
#[derive(Debug, Default)]
pub(super) struct Secret {
    /// The spelling it was first given.
    pub(super) name: String,
    /// Oldest first; never empty once it is in a vault.
    pub(super) versions: Vec<SecretVersion>,
    /// Kept by a certificate.
    pub(super) managed: bool,
    pub(super) deletion: Deletion,
}

impl Secret {
    /// The version of that id, or the current one.
    pub(super) fn version(&self, id: Option<&str>) -> Option<&SecretVersion> {
        match id {
            None => self.versions.last(),
            Some(id) => self
                .versions
                .iter()
                .find(|version| version.version.eq_ignore_ascii_case(id)),
        }
    }
}

/// All secrets, by their names in lower case.
#[derive(Debug, Default)]
pub(super) struct Vault {
    secrets: BTreeMap<String, Secret>,
}

impl Vault {
    /// Finds a secret, deleted ones too.
    pub(super) fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(&name.to_ascii_lowercase())
    }

    /// Finds a secret to change it.
    pub(super) fn secret_mut(&mut self, name: &str) -> Option<&mut Secret> {
        self.secrets.get_mut(&name.to_ascii_lowercase())
    }

    /// Every secret, in the order of their names.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.values()
    }

    /// Makes a new current version, and the secret if it is not there. Returns the version.
    pub(super) fn add_version(
        &mut self,
        name: &str,
        value: String,
        settings: Settings,
        now: i64,
    ) -> String {
        let secret = self
            .secrets
            .entry(name.to_ascii_lowercase())
            .or_insert_with(|| Secret {
                name: name.to_owned(),
                ..Secret::default()
            });
        let version = random_hex::<16>();
        secret.versions.push(SecretVersion {
            version: version.clone(),
            value,
            settings,
            created: now,
            updated: now,
        });
        version
    }
}
