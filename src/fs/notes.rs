//! What the next worker needs to know of this one: which number is which name, and which
//! version a file was opened on. Never a value.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::SecretFs;
use super::handles::{Body, Fate, Handle, Origin, Snapshot, Writer, WriterState};
use super::inodes::{Node, NodeName};
use super::staging::Staging;
use crate::link::{Link, NoteKey};
use crate::secrets::{Failure, SecretStore, SecretVersion};

/// A handle as the next worker needs it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct HandleNote {
    ino: u64,
    name: NodeName,
    opener: u32,
    body: BodyNote,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum BodyNote {
    /// A reader of this version; of nothing if `None`.
    Reader(Option<SecretVersion>),
    /// A writer, with the process that opened it.
    Writer(Option<u32>, OriginNote),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum OriginNote {
    Missing,
    Version(SecretVersion),
    /// Emptied since: whatever it was, only what it carries over counts.
    Emptied,
    /// It cannot be shown, for this reason, and has not been emptied.
    Hidden(Failure),
}

/// Notes that the kernel knows `node`.
pub(super) fn inode(link: &Link, node: &Node) {
    deposit(link, NoteKey::Inode(node.ino), &node.name);
}

/// Notes an open reader.
pub(super) fn reader(link: &Link, handle: &Handle, snapshot: &Snapshot) {
    let version = match snapshot {
        Snapshot::Pulled(secret) => Some(secret.properties.version.clone()),
        Snapshot::Inherited(version, _) => Some(version.clone()),
        Snapshot::Nothing => None,
    };
    let note = HandleNote::new(handle, BodyNote::Reader(version));
    deposit(link, NoteKey::Handle(handle.fh), &note);
}

/// Notes an open writer of which nothing waits to be set.
pub(super) fn writer(link: &Link, handle: &Handle, writer: &Writer, state: &WriterState) {
    let origin = match &state.origin {
        Origin::Missing => OriginNote::Missing,
        Origin::Hidden(failure, _) => OriginNote::Hidden(*failure),
        Origin::Inherited(version) => OriginNote::Version(version.clone()),
        Origin::Current(carried) if !state.staging.bytes().is_empty() => {
            OriginNote::Version(carried.version.clone())
        }
        Origin::Current(_) | Origin::Unknown | Origin::Replaced => OriginNote::Emptied,
    };
    let note = HandleNote::new(handle, BodyNote::Writer(writer.process, origin));
    deposit(link, NoteKey::Handle(handle.fh), &note);
}

/// Notes that bytes of this writer wait to be set, which no other worker has.
pub(super) fn staged(link: &Link, handle: &Handle, writer: &Writer) {
    let body = BodyNote::Writer(writer.process, OriginNote::Emptied);
    deposit(
        link,
        NoteKey::Staged(handle.fh),
        &HandleNote::new(handle, body),
    );
}

impl HandleNote {
    fn new(handle: &Handle, body: BodyNote) -> Self {
        Self {
            ino: handle.node.ino,
            name: handle.node.name.clone(),
            opener: handle.opener,
            body,
        }
    }
}

fn deposit(link: &Link, key: NoteKey, note: &impl Serialize) {
    // Notes are plain enums, structs and strings, which JSON can always hold.
    if let Ok(record) = serde_json::to_vec(note) {
        link.deposit(key, &record);
    }
}

impl<S: SecretStore> SecretFs<S> {
    /// Takes over a note of an earlier worker. A note that cannot be read is left out: its inode
    /// or handle is unknown then, which the kernel is told when it asks.
    pub fn adopt(&self, key: NoteKey, record: &[u8]) {
        match key {
            NoteKey::Inode(ino) => {
                if let Ok(name) = serde_json::from_slice::<NodeName>(record) {
                    self.inodes.restore(ino, &name);
                }
            }
            // Staged bytes that were lost stay lost, and a note that was overtaken by requests
            // for its handle does not undo them.
            NoteKey::Handle(fh) if self.handles.get(fh).is_some_and(|h| is_settled(&h)) => {}
            NoteKey::Handle(fh) => self.adopt_handle(fh, record, Fate::Alive),
            NoteKey::Staged(fh) => self.adopt_handle(fh, record, Fate::Lost),
            NoteKey::Temporary(_) => {}
        }
    }

    /// An earlier worker, which still finishes what it has, took a note back.
    pub fn disown(&self, key: NoteKey) {
        match key {
            NoteKey::Inode(ino) => self.inodes.disown(ino),
            NoteKey::Handle(fh) | NoteKey::Staged(fh) => self.drop_inherited(fh),
            NoteKey::Temporary(_) => {}
        }
    }

    fn adopt_handle(&self, fh: u64, record: &[u8], fate: Fate) {
        let Ok(note) = serde_json::from_slice::<HandleNote>(record) else {
            return;
        };
        self.drop_inherited(fh);
        self.inodes.restore(note.ino, &note.name);
        let Some(node) = self.inodes.get(note.ino) else {
            return;
        };
        let body = match note.body {
            BodyNote::Reader(Some(version)) => {
                Body::Reader(Snapshot::Inherited(version, OnceCell::new()))
            }
            BodyNote::Reader(None) => Body::Reader(Snapshot::Nothing),
            BodyNote::Writer(process, origin) => {
                let origin = match origin {
                    OriginNote::Missing => Origin::Missing,
                    OriginNote::Version(version) => Origin::Inherited(version),
                    OriginNote::Emptied => Origin::Unknown,
                    OriginNote::Hidden(failure) => Origin::Hidden(failure, None),
                };
                if matches!(origin, Origin::Missing) {
                    node.unset_creators.fetch_add(1, Ordering::Relaxed);
                }
                Body::Writer(Writer::new(process, Staging::default(), origin, fate))
            }
        };
        self.handles.insert(Handle {
            fh,
            node,
            opener: note.opener,
            body,
            // Whether a reader went through the cache is not noted: the pages are dropped anyway.
            page_cached: AtomicBool::new(true),
        });
    }

    fn drop_inherited(&self, fh: u64) {
        let Some(handle) = self.handles.remove(fh) else {
            return;
        };
        if let Body::Writer(writer) = &handle.body
            && let Ok(state) = writer.state.try_lock()
            && matches!(state.origin, Origin::Missing)
        {
            handle.node.unset_creators.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whether a writer is lost, or not any more as a note leaves it: it is being used, has bytes
/// staged, or has set some.
fn is_settled(handle: &Handle) -> bool {
    match &handle.body {
        Body::Writer(writer) => writer.state.try_lock().map_or(true, |state| {
            state.fate != Fate::Alive
                || state.staging.is_changed()
                || matches!(state.origin, Origin::Current(_) | Origin::Replaced)
        }),
        Body::Reader(_) => false,
    }
}
