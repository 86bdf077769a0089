//! What stat(2) says: size, times, owner and permissions.

#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime};

use crate::config::Ownership;
use crate::secrets::Secret;

/// What the kernel is told of a file or of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Inode number.
    pub ino: u64,
    /// Whether it is the directory.
    pub directory: bool,
    /// Size in bytes; exact, since tools trust it.
    pub size: u64,
    /// mtime and ctime: the version's `updated`.
    pub modified: SystemTime,
    /// Birth time, if it has one: the version's `created`, or a temporary file's creation.
    pub created: Option<SystemTime>,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whether the kernel may take them for those of the open(2) and fstat(2) that follow.
    pub fresh: bool,
}

/// What a mount shows of every file alike.
pub(super) struct Appearance {
    pub(super) ownership: Ownership,
    pub(super) read_only: bool,
    /// When the filesystem began; the times of what the vault has no times for.
    pub(super) since: SystemTime,
}

/// Which of its permissions a file shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permissions {
    /// What the mount was told.
    All,
    /// A version: never writable.
    ReadOnly,
    /// A name whose value may not be got: a drop box.
    WriteOnly,
}

impl Appearance {
    /// The directory: it may be searched and written in, never listed.
    pub(super) fn directory(&self, ino: u64) -> Attributes {
        let writable = if self.read_only { 0o111 } else { 0o333 };
        Attributes {
            directory: true,
            mode: self.ownership.dir_mode & writable,
            ..self.file(ino, Permissions::All, 0, None)
        }
    }

    /// A file of `size` bytes with the times of `secret`, if there is one.
    pub(super) fn file(
        &self,
        ino: u64,
        permissions: Permissions,
        size: usize,
        secret: Option<&Secret>,
    ) -> Attributes {
        let mask = match permissions {
            _ if self.read_only => 0o444,
            Permissions::All => 0o777,
            Permissions::ReadOnly => 0o444,
            Permissions::WriteOnly => 0o222,
        };
        let time = |seconds: Option<i64>| {
            let seconds = u64::try_from(seconds?).ok()?;
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
        };
        let properties = secret.map(|secret| &secret.properties);
        let created = properties.and_then(|p| time(p.created));
        let updated = properties.and_then(|p| time(p.updated));
        Attributes {
            ino,
            directory: false,
            size: size as u64,
            modified: updated.or(created).unwrap_or(self.since),
            created,
            mode: self.ownership.file_mode & mask,
            uid: self.ownership.uid,
            gid: self.ownership.gid,
            fresh: false,
        }
    }
}
