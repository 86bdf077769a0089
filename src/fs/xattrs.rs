//! Extended attributes: what the vault says of a version besides its value.
//!
//! `getfattr -d` resolves the path anew for each attribute. So that it costs one request, what a
//! LISTXATTR told is remembered for a moment and answers the LOOKUPs and GETXATTRs of the same
//! thread. An open among them still pulls: attributes hold no value.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::attributes::Attributes;
use super::fixed::END as FIXED_END;
use super::handles::{Body, Snapshot};
use super::scratch::INODE_BIT;
use super::{LOST, SecretFs};
use crate::secrets::{Properties, SecretStore};

/// What all attributes' names begin with.
const PREFIX: &str = "user.keyvault.";

/// How long a listing answers what its thread asks next.
const LISTING_LIFE: Duration = Duration::from_millis(250);

/// What a LISTXATTR told, by inode and thread.
#[derive(Default)]
pub(super) struct Listings {
    /// Guards the listings of the last moment.
    told: Mutex<HashMap<(u64, u32), Listing>>,
}

struct Listing {
    attributes: Attributes,
    properties: Properties,
    at: Instant,
}

impl Listings {
    fn tell(&self, tid: u32, attributes: Attributes, properties: Properties) {
        let at = Instant::now();
        let mut told = self.told.lock();
        told.retain(|_, listing| at < listing.at + LISTING_LIFE);
        let listing = Listing {
            attributes,
            properties,
            at,
        };
        told.insert((attributes.ino, tid), listing);
    }

    /// The attributes of an inode that thread `tid` has just listed.
    pub(super) fn attributes(&self, ino: u64, tid: u32) -> Option<Attributes> {
        self.fresh(ino, tid, |listing| listing.attributes)
    }

    fn get(&self, ino: u64, tid: u32) -> Option<(Attributes, Properties)> {
        self.fresh(ino, tid, |listing| {
            (listing.attributes, listing.properties.clone())
        })
    }

    /// Forgets what was told of an inode that has just changed.
    pub(super) fn outdate(&self, ino: u64) {
        self.told.lock().retain(|(other, _), _| *other != ino);
    }

    fn fresh<T>(&self, ino: u64, tid: u32, part: impl FnOnce(&Listing) -> T) -> Option<T> {
        let told = self.told.lock();
        let listing = told.get(&(ino, tid))?;
        (Instant::now() < listing.at + LISTING_LIFE).then(|| part(listing))
    }
}

impl<S: SecretStore> SecretFs<S> {
    /// The attributes' names, each ended by a NUL.
    pub async fn listxattr(&self, ino: u64, tid: u32) -> Result<Vec<u8>, Errno> {
        if !is_secrets(ino) {
            return Ok(Vec::new());
        }
        let Some((attributes, properties)) = self.described(ino, tid).await? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for (name, _) in list(&properties) {
            names.extend_from_slice(PREFIX.as_bytes());
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
        self.listings.tell(tid, attributes, properties);
        Ok(names)
    }

    /// One attribute's value; ENODATA if there is none of that name.
    pub async fn getxattr(&self, ino: u64, name: &str, tid: u32) -> Result<Vec<u8>, Errno> {
        let ours = name.strip_prefix(PREFIX);
        // `security.*` is asked before every first write: it must not cost a request.
        let name = ours.filter(|_| is_secrets(ino)).ok_or(Errno::ENODATA)?;
        let (_, properties) = self.described(ino, tid).await?.ok_or(Errno::ENODATA)?;
        let found = list(&properties)
            .into_iter()
            .find(|(other, _)| other == name);
        found
            .map(|(_, value)| value.into_bytes())
            .ok_or(Errno::ENODATA)
    }

    /// What is known of the version that thread `tid` means: what it has just listed, the pull of
    /// the LOOKUP just before, the file it has open, or a pull of its own. `None`: the vault has
    /// none.
    async fn described(
        &self,
        ino: u64,
        tid: u32,
    ) -> Result<Option<(Attributes, Properties)>, Errno> {
        if let Some(listed) = self.listings.get(ino, tid) {
            return Ok(Some(listed));
        }
        let node = self.inodes.get(ino).ok_or(Errno::ESTALE)?;
        let pulled = if let Some(pull) = self.hand_offs.peek(ino, tid) {
            self.pulls.finish(pull).await
        } else if let Some(handle) = self.handles.stated(ino, tid) {
            let snapshot = match &handle.body {
                Body::Reader(snapshot) => snapshot,
                Body::Writer(_) => &Snapshot::Nothing,
            };
            let secret = self.snapshot(&node, snapshot).await.map_err(|_| LOST)?;
            let described = |secret: std::sync::Arc<crate::secrets::Secret>| {
                (
                    self.attributes_of(&node, &secret),
                    secret.properties.clone(),
                )
            };
            return Ok(secret.map(described));
        } else {
            self.pull(&node, self.deadline()).await
        };
        match pulled {
            Ok(secret) => Ok(Some((
                self.attributes_of(&node, &secret),
                secret.properties.clone(),
            ))),
            // There is an entry, so that it can be written; there is nothing to say of it.
            Err(error) if self.without_value(&node.name, &error).is_some() => Ok(None),
            Err(error) => Err(self.report("getxattr", &node.name, &error)),
        }
    }
}

/// Whether an inode is a secret's, or that of a form of one.
fn is_secrets(ino: u64) -> bool {
    ino >= FIXED_END && ino & INODE_BIT == 0
}

/// The attributes a version has, without the prefix. Times are RFC 3339, UTC.
fn list(properties: &Properties) -> Vec<(String, String)> {
    let time = |seconds: Option<i64>| {
        let since = Duration::from_secs(u64::try_from(seconds?).ok()?);
        let time = SystemTime::UNIX_EPOCH.checked_add(since)?;
        Some(humantime::format_rfc3339_seconds(time).to_string())
    };
    let attributes = [
        ("version", Some(properties.version.to_string())),
        ("content-type", properties.content_type.clone()),
        ("enabled", Some(properties.enabled.to_string())),
        ("not-before", time(properties.not_before)),
        ("expires", time(properties.expires)),
        ("created", time(properties.created)),
        ("updated", time(properties.updated)),
        ("managed", Some(properties.managed.to_string())),
    ];
    let tags = properties
        .tags
        .iter()
        .map(|(tag, text)| (format!("tags.{tag}"), text.clone()));
    let known = attributes
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    known.chain(tags).collect()
}
