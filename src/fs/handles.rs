//! Open files: a reader's snapshot, a writer's staged bytes.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use parking_lot::Mutex as SyncMutex;
use tokio::sync::{Mutex, Notify, OnceCell};
use tokio::time::{Instant, timeout_at};

use super::inodes::Node;
use super::staging::Staging;
use crate::secrets::{Failure, Properties, Secret, SecretVersion, StoreError};

/// How long the note of an earlier worker's handle is waited for. It comes another way than the
/// request that names the handle, and may be overtaken by it.
const NOTE_DELAY: Duration = Duration::from_secs(1);

/// An open file.
pub(super) struct Handle {
    /// Its number, unique over all workers of a mount.
    pub(super) fh: u64,
    pub(super) node: Arc<Node>,
    /// The thread that opened it.
    pub(super) opener: u32,
    pub(super) body: Body,
    /// Whether some reader went through the kernel's page cache (mmap, sendfile).
    pub(super) page_cached: AtomicBool,
}

pub(super) enum Body {
    Reader(Snapshot),
    Writer(Writer),
}

/// What a reader reads: it never changes while the file is open.
pub(super) enum Snapshot {
    /// The version that was current when it was opened.
    Pulled(Arc<Secret>),
    /// A file that was being created and has no bytes in the vault.
    Nothing,
    /// Opened in an earlier worker: that very version, pulled again by the first who asks.
    Inherited(SecretVersion, OnceCell<Arc<Secret>>),
}

/// A file open for writing, perhaps for reading too.
pub(super) struct Writer {
    /// The process that opened it, where that can be seen.
    pub(super) process: Option<u32>,
    /// Guards the bytes and is held over a set, so that requests for one handle take turns.
    pub(super) state: Mutex<WriterState>,
    /// How many bytes are staged, for a stat that shall not wait for a set.
    pub(super) length: AtomicU64,
}

pub(super) struct WriterState {
    pub(super) staging: Staging,
    pub(super) origin: Origin,
    pub(super) fate: Fate,
    /// Whether a close was told 0 because the opener still had the file open.
    pub(super) put_off: bool,
}

/// What the file was before it was written, as far as the writer knows.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// Not in the vault: created by this handle, or found missing.
    Missing,
    /// The current version, whose content type and tags the next one gets.
    Current(Carried),
    /// Emptied before the vault had answered: what is carried over is asked when it is set.
    Unknown,
    /// In the vault, but it cannot be shown. The bytes must be replaced before any is written;
    /// the next version gets what is known of this one.
    Hidden(Failure, Option<Carried>),
    /// In the vault, cannot be shown, and already emptied: nothing is known to carry over.
    Replaced,
    /// Opened in an earlier worker on this version, which is pulled again by the first use.
    Inherited(SecretVersion),
}

/// What a set keeps of the version before.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    pub(super) version: SecretVersion,
    pub(super) content_type: Option<String>,
    pub(super) tags: BTreeMap<String, String>,
}

/// What became of a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It may write and set.
    Alive,
    /// A signal killed a process that had it open: what was half written is dropped. Whoever else
    /// has it open gets to know by errors, since what he wrote is dropped too.
    Killed,
    /// It wrote more than a vault stores. What was written before must not be set, or the secret
    /// would be cut; emptying the file makes it good again.
    TooLarge,
    /// The worker that had its bytes is gone: every use fails, so that its user gets to know.
    Lost,
}

impl Fate {
    /// What a use of the file fails with.
    pub(super) fn errno(self) -> Option<Errno> {
        match self {
            Self::Alive => None,
            Self::TooLarge => Some(Errno::EFBIG),
            Self::Killed | Self::Lost => Some(Errno::EIO),
        }
    }
}

impl WriterState {
    /// Whether bytes wait to be set; an error if they must not be any more.
    pub(super) fn has_to_be_set(&self) -> Result<bool, Errno> {
        match self.fate.errno() {
            Some(errno) => Err(errno),
            None => Ok(self.staging.is_changed()),
        }
    }
}

impl Carried {
    /// What a set keeps of a version that cannot be shown, as far as the vault said anything.
    pub(super) fn of_hidden(error: &StoreError) -> Option<Self> {
        error.properties.as_deref().map(Self::from)
    }
}

impl From<&Properties> for Carried {
    fn from(properties: &Properties) -> Self {
        Self {
            version: properties.version.clone(),
            content_type: properties.content_type.clone(),
            tags: properties.tags.clone(),
        }
    }
}

impl Writer {
    pub(super) fn new(process: Option<u32>, staging: Staging, origin: Origin, fate: Fate) -> Self {
        Self {
            process,
            length: AtomicU64::new(staging.bytes().len() as u64),
            state: Mutex::new(WriterState {
                staging,
                origin,
                fate,
                put_off: false,
            }),
        }
    }
}

/// The open files.
pub(super) struct Handles {
    generation: u32,
    next: AtomicU64,
    /// Rings when a file is entered.
    entered: Notify,
    /// Guards both ways to find a handle.
    table: SyncMutex<Table>,
}

#[derive(Default)]
struct Table {
    by_number: HashMap<u64, Arc<Handle>>,
    by_inode: HashMap<u64, Vec<Arc<Handle>>>,
}

impl Handles {
    /// Handles made here have `generation` in their upper half, so that no two workers of a
    /// mount make the same.
    pub(super) fn new(generation: u32) -> Self {
        Self {
            generation,
            next: AtomicU64::new((u64::from(generation) << 32) + 1),
            entered: Notify::new(),
            table: SyncMutex::default(),
        }
    }

    /// A number no handle has.
    pub(super) fn reserve(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Enters an open file.
    pub(super) fn insert(&self, handle: Handle) {
        let handle = Arc::new(handle);
        let mut table = self.table.lock();
        let siblings = table.by_inode.entry(handle.node.ino).or_default();
        siblings.push(Arc::clone(&handle));
        table.by_number.insert(handle.fh, handle);
        drop(table);
        self.entered.notify_waiters();
    }

    /// The open file with this number, which may be an earlier worker's whose note is on its way.
    pub(super) async fn find(&self, fh: u64) -> Option<Arc<Handle>> {
        let limit = Instant::now() + NOTE_DELAY;
        loop {
            let entered = self.entered.notified();
            let found = self.get(fh);
            if found.is_some() || fh >> 32 >= u64::from(self.generation) {
                return found;
            }
            timeout_at(limit, entered).await.ok()?;
        }
    }

    /// The open file with this number.
    pub(super) fn get(&self, fh: u64) -> Option<Arc<Handle>> {
        self.table.lock().by_number.get(&fh).cloned()
    }

    /// Takes an open file out.
    pub(super) fn remove(&self, fh: u64) -> Option<Arc<Handle>> {
        let mut table = self.table.lock();
        let handle = table.by_number.remove(&fh)?;
        if let Some(siblings) = table.by_inode.get_mut(&handle.node.ino) {
            siblings.retain(|sibling| sibling.fh != fh);
            if siblings.is_empty() {
                table.by_inode.remove(&handle.node.ino);
            }
        }
        Some(handle)
    }

    /// Whether anybody has it open.
    pub(super) fn is_open(&self, ino: u64) -> bool {
        self.table.lock().by_inode.contains_key(&ino)
    }

    /// Whether the process that opened this file for writing did so but once.
    pub(super) fn is_only_writer(&self, handle: &Handle) -> bool {
        let process = |handle: &Handle| match &handle.body {
            Body::Writer(writer) => writer.process,
            Body::Reader(_) => None,
        };
        let table = self.table.lock();
        let open = table.by_inode.get(&handle.node.ino).into_iter().flatten();
        open.filter(|other| process(other) == process(handle))
            .count()
            == 1
    }

    /// The open file an fstat(2) by thread `tid` most likely means, since the kernel does not
    /// say: the last that thread opened, or the last that any did.
    pub(super) fn stated(&self, ino: u64, tid: u32) -> Option<Arc<Handle>> {
        let table = self.table.lock();
        let open = table.by_inode.get(&ino)?;
        let own = open.iter().rev().find(|handle| handle.opener == tid);
        own.or(open.last()).cloned()
    }
}
