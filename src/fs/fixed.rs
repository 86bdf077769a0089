//! What has its name from the program or the command line, not from the vault: `.keyvaultfs/` and
//! `.storage/`. These directories can be listed, and nothing in them can be written.
//!
//! Inode numbers follow from the configuration alone, so that every worker of a mount has the
//! same. What a file says stays for a moment, so that the stat and the open of one program see
//! the same; an open file never changes.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::attributes::{Attributes, Permissions};
use super::inodes::ROOT;
use super::lookup::PATIENCE;
use super::open::{Access, Opened};
use super::read::piece;
use super::storage::Account;
use super::{LOST, SecretFs};
use crate::config::StorageAccount;
use crate::metrics::{METRICS, Metrics, Subject};
use crate::secret_bytes::SecretBytes;
use crate::secrets::{SecretStore, StorageKeys};

/// Every inode number between the root's and this is a fixed one, or no file's.
pub(super) const END: u64 = 1 << 16;

/// How long status and metrics stay as they were told.
const MOMENT: Duration = Duration::from_secs(1);

/// An entry of a directory that can be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Inode number.
    pub ino: u64,
    /// Its name.
    pub name: String,
    /// Whether it is a directory itself.
    pub directory: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Holds no secret: anybody who gets there may list it.
    Directory,
    Status,
    Metrics,
    /// Of the account with this number.
    Key(usize, Part),
    /// The directories over keys: for whom may read those.
    KeyDirectory,
}

/// What a file shows of an account's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Key1,
    Key2,
    ConnectionString,
}

struct Entry {
    parent: u64,
    name: String,
    kind: Kind,
}

/// The fixed names, and those of their files that are open.
pub(super) struct Fixed {
    /// The inode number of an entry is its place, counted from the one after the root's.
    entries: Vec<Entry>,
    accounts: Vec<Account>,
    /// Guards the open files, by handle.
    opened: Mutex<HashMap<u64, Content>>,
    /// Guards what was lately told, by inode.
    told: Mutex<HashMap<u64, (Instant, Content)>>,
}

impl Fixed {
    pub(super) fn new(accounts: &[StorageAccount]) -> Self {
        let mut fixed = Self {
            entries: Vec::new(),
            accounts: accounts.iter().map(Account::new).collect(),
            opened: Mutex::default(),
            told: Mutex::default(),
        };
        let own = fixed.enter(ROOT, ".keyvaultfs", Kind::Directory);
        fixed.enter(own, "status", Kind::Status);
        fixed.enter(own, "metrics", Kind::Metrics);
        if accounts.is_empty() {
            return fixed;
        }
        let storage = fixed.enter(ROOT, ".storage", Kind::KeyDirectory);
        for (number, account) in accounts.iter().enumerate() {
            let keys = fixed.enter(storage, account.name(), Kind::KeyDirectory);
            for (name, part) in [
                ("key1", Part::Key1),
                ("key2", Part::Key2),
                ("connection-string", Part::ConnectionString),
            ] {
                fixed.enter(keys, name, Kind::Key(number, part));
            }
        }
        fixed
    }

    fn enter(&mut self, parent: u64, name: &str, kind: Kind) -> u64 {
        let name = name.to_owned();
        self.entries.push(Entry { parent, name, kind });
        ROOT + self.entries.len() as u64
    }

    /// Whether this inode number is one of these.
    pub(super) fn contains(&self, ino: u64) -> bool {
        self.entry(ino).is_some()
    }

    /// The inode of `name` in the directory `parent`.
    pub(super) fn child(&self, parent: u64, name: &str) -> Option<u64> {
        let mut children = self.children(parent);
        let (ino, _) = children.find(|(_, entry)| entry.name == name)?;
        Some(ino)
    }

    /// Whether this handle is that of an open file here.
    pub(super) fn is_open(&self, fh: u64) -> bool {
        self.opened.lock().contains_key(&fh)
    }

    /// Forgets an open file; false if it is none of these.
    pub(super) fn close(&self, fh: u64) -> bool {
        self.opened.lock().remove(&fh).is_some()
    }

    fn entry(&self, ino: u64) -> Option<&Entry> {
        let index = ino.checked_sub(ROOT + 1)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    fn children(&self, parent: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let numbered = (ROOT + 1..).zip(&self.entries);
        numbered.filter(move |(_, entry)| entry.parent == parent)
    }
}

impl<S: SecretStore> SecretFs<S> {
    /// What is in a directory. The root is never listed: the vault is never asked to.
    pub fn readdir(&self, ino: u64) -> Result<Vec<DirectoryEntry>, Errno> {
        if ino == ROOT {
            return Err(Errno::EACCES);
        }
        let entry = self.fixed.entry(ino).ok_or(Errno::ESTALE)?;
        if !entry.kind.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let itself = [(ino, "."), (entry.parent, "..")].map(|(ino, name)| DirectoryEntry {
            ino,
            name: name.to_owned(),
            directory: true,
        });
        let children = self.fixed.children(ino).map(|(ino, entry)| DirectoryEntry {
            ino,
            name: entry.name.clone(),
            directory: entry.kind.is_directory(),
        });
        Ok(itself.into_iter().chain(children).collect())
    }

    /// Resolves a fixed name. As long as a secret's is waited for, and no longer.
    pub(super) async fn lookup_fixed(&self, ino: u64) -> Result<Attributes, Errno> {
        match timeout(PATIENCE, self.getattr_fixed(ino)).await {
            Ok(attributes) => attributes,
            Err(_) => self.fixed_attributes(ino, 0),
        }
    }

    /// What stat(2) says of a fixed name.
    pub(super) async fn getattr_fixed(&self, ino: u64) -> Result<Attributes, Errno> {
        let entry = self.fixed.entry(ino).ok_or(Errno::ESTALE)?;
        let size = match entry.kind.is_directory() {
            true => 0,
            false => self.content(ino, "stat").await?.len(),
        };
        self.fixed_attributes(ino, size)
    }

    pub(super) async fn open_fixed(&self, ino: u64, access: Access) -> Result<Opened, Errno> {
        if access.write {
            return Err(Errno::EROFS);
        }
        let content = self.content(ino, "open").await?;
        let fh = self.handles.reserve();
        self.fixed.opened.lock().insert(fh, content);
        Ok(Opened {
            fh,
            writable: false,
        })
    }

    /// Reads an open file. One that was opened in an earlier worker may begin anew, not go on: it
    /// says something else by now.
    pub(super) async fn read_fixed(
        &self,
        fh: u64,
        ino: u64,
        offset: u64,
        size: u32,
    ) -> Result<SecretBytes, Errno> {
        let opened = self.fixed.opened.lock().get(&fh).cloned();
        let content = match opened {
            Some(content) => content,
            None if offset > 0 => return Err(LOST),
            None => {
                let content = self.content(ino, "read").await?;
                let opened = content.clone();
                self.fixed.opened.lock().insert(fh, opened);
                content
            }
        };
        Ok(piece(content.expose(), offset, size))
    }

    fn fixed_attributes(&self, ino: u64, size: usize) -> Result<Attributes, Errno> {
        let entry = self.fixed.entry(ino).ok_or(Errno::ESTALE)?;
        let file = self.appearance.file(ino, Permissions::ReadOnly, size, None);
        Ok(Attributes {
            directory: entry.kind.is_directory(),
            mode: match entry.kind {
                Kind::Directory => 0o555,
                Kind::Status | Kind::Metrics => 0o444,
                Kind::Key(..) => file.mode,
                // Whoever may read the files may list and search.
                Kind::KeyDirectory => file.mode | (file.mode >> 2),
            },
            ..file
        })
    }

    async fn content(&self, ino: u64, operation: &'static str) -> Result<Content, Errno> {
        let kind = self.fixed.entry(ino).ok_or(Errno::ESTALE)?.kind;
        let tell: fn(&Metrics, &Subject) -> String = match kind {
            Kind::Directory | Kind::KeyDirectory => return Err(Errno::EISDIR),
            Kind::Key(number, part) => return self.key(number, part, operation).await,
            Kind::Status => Metrics::status,
            Kind::Metrics => Metrics::prometheus,
        };
        // Status and metrics.
        let mut told = self.fixed.told.lock();
        told.retain(|_, (at, _)| at.elapsed() < MOMENT);
        let (_, content) = told.entry(ino).or_insert_with(|| {
            let text = SecretBytes::new(tell(&METRICS, &self.options.subject).into_bytes());
            (Instant::now(), Content::Told(Arc::new(text)))
        });
        Ok(content.clone())
    }

    async fn key(
        &self,
        number: usize,
        part: Part,
        operation: &'static str,
    ) -> Result<Content, Errno> {
        let account = &self.fixed.accounts[number];
        match account.keys(&self.store, self.deadline()).await {
            Ok(keys) => Ok(Content::Key(keys, part)),
            Err(error) => {
                let name = format!(".storage/{}", account.account.name());
                Err(self.report(operation, &name, &error))
            }
        }
    }
}

impl Kind {
    fn is_directory(self) -> bool {
        matches!(self, Self::Directory | Self::KeyDirectory)
    }
}

/// What a file says.
#[derive(Clone)]
enum Content {
    Told(Arc<SecretBytes>),
    Key(Arc<StorageKeys>, Part),
}

impl Content {
    fn expose(&self) -> &[u8] {
        let bytes = match self {
            Self::Told(text) => text,
            Self::Key(keys, Part::Key1) => &keys.key1,
            Self::Key(keys, Part::Key2) => &keys.key2,
            Self::Key(keys, Part::ConnectionString) => &keys.connection_string,
        };
        bytes.expose()
    }

    fn len(&self) -> usize {
        self.expose().len()
    }
}
