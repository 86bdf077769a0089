//! A secret as it was pulled, and one as it is to be set.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::SecretVersion;
use crate::secret_bytes::SecretBytes;

/// One version of a secret: its bytes as a file shows them, and what the vault says of it.
#[derive(Debug)]
pub struct Secret {
    /// The bytes, decoded by the tag `file-encoding`.
    pub value: SecretBytes,
    /// Everything but the value.
    pub properties: Properties,
}

/// What a vault says of a version besides its value. Times are seconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    /// The version's identifier.
    pub version: SecretVersion,
    /// Whether the vault hands it out.
    pub enabled: bool,
    /// When the version was made.
    pub created: Option<i64>,
    /// When the version or its properties last changed.
    pub updated: Option<i64>,
    /// Not to be used before; informational, the vault hands it out all the same.
    pub not_before: Option<i64>,
    /// Not to be used after; informational, the vault hands it out all the same.
    pub expires: Option<i64>,
    /// Free text that says what the value is.
    pub content_type: Option<String>,
    /// Free pairs of texts.
    pub tags: BTreeMap<String, String>,
    /// Kept by a certificate (`managed`, or a `kid`): it cannot be set.
    pub managed: bool,
}

/// What is to become a secret's new current version.
#[derive(Debug)]
pub struct NewSecret {
    /// The bytes as the file has them; the store encodes what is not text.
    pub value: SecretBytes,
    /// The content type it shall have.
    pub content_type: Option<String>,
    /// The tags it shall have, without `file-encoding`, which follows from the value.
    pub tags: BTreeMap<String, String>,
    /// When it shall expire, in seconds since 1970, UTC.
    pub expires: Option<i64>,
    /// The version that was current when the writer began, where known: it tells a set that was
    /// carried out but not answered from one that never arrived.
    pub previous: Option<SecretVersion>,
}
