//! Which inode number is which name: the same number for a name each time, in every worker.
//!
//! Holds what the kernel has looked up and not yet forgotten. Knows nothing of values.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::fixed::END as FIRST;
use super::scratch::INODE_BIT;
use crate::secrets::{CertificateForm, SecretName, SecretVersion, Wanted};

/// The mounted directory's inode number, fixed by the FUSE protocol.
pub const ROOT: u64 = 1;

/// What a name in the directory stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeName {
    /// `Name`: a secret's current version.
    Secret(SecretName),
    /// `Name@<32 hex>`: one version, for ever the same.
    Version(SecretName, SecretVersion),
    /// `Name.pem`, `Name.pfx`: a certificate's secret in that form.
    Certificate(SecretName, CertificateForm),
}

impl NodeName {
    /// Parses a path component; `None` if no file of this filesystem can have that name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some((name, version)) = text.split_once('@') {
            let name = SecretName::parse(name).ok()?;
            return Some(Self::Version(name, SecretVersion::parse(version)?));
        }
        if let Some((name, extension)) = text.split_once('.') {
            let name = SecretName::parse(name).ok()?;
            let form = CertificateForm::from_extension(extension)?;
            return Some(Self::Certificate(name, form));
        }
        SecretName::parse(text).ok().map(Self::Secret)
    }

    /// The secret this is, or is a version or a form of.
    pub(super) fn secret(&self) -> &SecretName {
        match self {
            Self::Secret(name) | Self::Version(name, _) | Self::Certificate(name, _) => name,
        }
    }

    /// Whether it is a secret itself, which may be set. All else is only ever read.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_))
    }

    /// What is to be pulled for it.
    pub(super) fn wanted(&self) -> Wanted {
        let (version, form) = match self {
            Self::Secret(_) => (None, None),
            Self::Version(_, version) => (Some(version.clone()), None),
            Self::Certificate(_, form) => (None, Some(*form)),
        };
        Wanted {
            name: self.secret().clone(),
            version,
            form,
        }
    }

    /// What is to be pulled to see what it showed when `version` was current.
    pub(super) fn wanted_at(&self, version: &SecretVersion) -> Wanted {
        Wanted {
            version: Some(version.clone()),
            ..self.wanted()
        }
    }

    /// The inode number, by FNV-1a over the name without case. 64 bits, so that two of the names
    /// in one mount practically never collide; [`Inodes::node`] probes if they do.
    fn number(&self) -> u64 {
        let mut key = self.secret().folded();
        match self {
            Self::Secret(_) => {}
            Self::Version(_, version) => key.extend(["@", version.as_str()]),
            Self::Certificate(_, form) => key.extend([".", form.extension()]),
        }
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The root, fixed names and temporary files have numbers of their own.
        (hash & !INODE_BIT).max(FIRST)
    }
}

impl std::fmt::Display for NodeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Secret(name) => name.fmt(f),
            Self::Version(name, version) => write!(f, "{name}@{version}"),
            Self::Certificate(name, form) => write!(f, "{name}.{}", form.extension()),
        }
    }
}

/// A name the kernel knows.
pub(super) struct Node {
    /// Its inode number.
    pub(super) ino: u64,
    /// Its name, as it was spelled first.
    pub(super) name: NodeName,
    /// How many open handles created it and have not set it: while there are any it exists,
    /// whatever the vault says.
    pub(super) unset_creators: AtomicU32,
    birth: Mutex<Birth>,
}

/// The birth time that the kernel remembers of a node. Unlike all else that stat(2) shows, no
/// LOOKUP brings it another.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Birth {
    /// It has not asked.
    Unasked,
    /// This, or that there is none, if it took the answer; otherwise it will ask again.
    Told(Option<SystemTime>),
    /// One of several, or what an earlier worker told it.
    Unsure,
}

impl Node {
    /// The kernel is told this birth time. It may not take the answer.
    pub(super) fn tell_birth(&self, created: Option<SystemTime>) {
        let mut birth = self.birth.lock();
        *birth = match *birth {
            Birth::Unasked => Birth::Told(created),
            Birth::Told(told) if told == created => *birth,
            Birth::Told(_) | Birth::Unsure => Birth::Unsure,
        };
    }

    /// What the kernel remembers of it may be another version's, from now on.
    pub(super) fn distrust(&self) {
        *self.birth.lock() = Birth::Unsure;
    }

    /// Whether the kernel remembers no other birth time than this.
    pub(super) fn has_no_other_birth(&self, created: Option<SystemTime>) -> bool {
        match *self.birth.lock() {
            Birth::Unasked => true,
            Birth::Told(told) => told == created,
            Birth::Unsure => false,
        }
    }

    /// Whether it exists locally alone: created, open, not yet set.
    pub(super) fn is_being_created(&self) -> bool {
        self.unset_creators.load(Ordering::Relaxed) > 0
    }
}

/// The names the kernel knows.
#[derive(Default)]
pub(super) struct Inodes {
    /// Guards numbers, nodes and lookup counts together.
    table: Mutex<HashMap<u64, (Arc<Node>, u64)>>,
}

impl Inodes {
    /// Counts one lookup of `name`; true if the kernel did not know it before.
    pub(super) fn remember(&self, name: &NodeName) -> (Arc<Node>, bool) {
        let mut table = self.table.lock();
        let ino = Self::number_in(&table, name);
        let (node, lookups) = table
            .entry(ino)
            .or_insert_with(|| (new_node(ino, name, Birth::Unasked), 0));
        *lookups += 1;
        (Arc::clone(node), *lookups == 1)
    }

    /// The node with this name, known to the kernel or not; nothing is counted.
    pub(super) fn passing(&self, name: &NodeName) -> Arc<Node> {
        let table = self.table.lock();
        let ino = Self::number_in(&table, name);
        table.get(&ino).map_or_else(
            || new_node(ino, name, Birth::Unasked),
            |(node, _)| Arc::clone(node),
        )
    }

    /// Takes over a node of an earlier worker. Its lookup count is unknown, which is no loss:
    /// the kernel forgets an inode with all its lookups at once.
    pub(super) fn restore(&self, ino: u64, name: &NodeName) {
        let node = new_node(ino, name, Birth::Unsure);
        self.table.lock().entry(ino).or_insert((node, 0));
    }

    /// An earlier worker let go of a node; it stays if this one has counted lookups of its own.
    pub(super) fn disown(&self, ino: u64) {
        let mut table = self.table.lock();
        if table.get(&ino).is_some_and(|(_, lookups)| *lookups == 0) {
            table.remove(&ino);
        }
    }

    /// The node with this number; `None` if the kernel should look it up again.
    pub(super) fn get(&self, ino: u64) -> Option<Arc<Node>> {
        self.table
            .lock()
            .get(&ino)
            .map(|(node, _)| Arc::clone(node))
    }

    /// The node with this name, if the kernel knows it.
    pub(super) fn named(&self, name: &NodeName) -> Option<Arc<Node>> {
        let table = self.table.lock();
        table
            .get(&Self::number_in(&table, name))
            .map(|(node, _)| Arc::clone(node))
    }

    /// Takes back `lookups` lookups; true if that were all.
    pub(super) fn forget(&self, ino: u64, lookups: u64) -> bool {
        let mut table = self.table.lock();
        let Some((_, count)) = table.get_mut(&ino) else {
            return false;
        };
        *count = count.saturating_sub(lookups);
        let forgotten = *count == 0;
        if forgotten {
            table.remove(&ino);
        }
        forgotten
    }

    fn number_in(table: &HashMap<u64, (Arc<Node>, u64)>, name: &NodeName) -> u64 {
        let mut ino = name.number();
        while table.get(&ino).is_some_and(|(node, _)| node.name != *name) {
            ino = (ino.wrapping_add(1) & !INODE_BIT).max(FIRST);
        }
        ino
    }
}

fn new_node(ino: u64, name: &NodeName, birth: Birth) -> Arc<Node> {
    Arc::new(Node {
        ino,
        name: name.clone(),
        unset_creators: AtomicU32::new(0),
        birth: Mutex::new(birth),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "03bcccc7c8cf4546a0e3e21e52560441";

    fn name(text: &str) -> NodeName {
        NodeName::parse(text).unwrap()
    }

    #[test]
    fn a_name_is_a_secret_or_a_version_of_one() {
        assert!(matches!(name("Db-1"), NodeName::Secret(_)));
        assert!(matches!(
            name(&format!("Db-1@{VERSION}")),
            NodeName::Version(..)
        ));
        for text in ["Db-1.pem", "Db-1.pfx"] {
            assert!(matches!(name(text), NodeName::Certificate(..)));
            assert_eq!(name(text).to_string(), text);
        }
        for text in [
            "",
            ".",
            "..",
            "a.b",
            ".pem",
            "a.PEM",
            "a.pem.pem",
            "*",
            "a@b",
            &format!("@{VERSION}"),
            &format!("a@{VERSION}@"),
        ] {
            assert_eq!(NodeName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn all_spellings_of_a_name_are_one_inode_and_it_never_changes() {
        let inodes = Inodes::default();
        let (first, new) = inodes.remember(&name("SQLPasswd"));
        assert!(new);
        let (second, new) = inodes.remember(&name("sqlpasswd"));
        assert!(!new);
        assert_eq!(first.ino, second.ino);
        // Pinned: a hand-over to a later release must find the same numbers.
        assert_eq!(first.ino, 2_423_272_922_461_502_385);
        for other in [
            &format!("SQLPasswd@{VERSION}"),
            "SQLPasswd.pem",
            "SQLPasswd.pfx",
        ] {
            assert_ne!(first.ino, name(other).number());
        }
    }

    #[test]
    fn an_inode_is_known_until_all_its_lookups_are_forgotten() {
        let inodes = Inodes::default();
        let (node, _) = inodes.remember(&name("a"));
        inodes.remember(&name("a"));
        assert!(!inodes.forget(node.ino, 1));
        assert!(inodes.get(node.ino).is_some());
        assert!(inodes.forget(node.ino, 1));
        assert!(inodes.get(node.ino).is_none());
    }
}
