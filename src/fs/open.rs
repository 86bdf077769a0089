//! OPEN and CREATE.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use tokio::time::Instant;

use super::attributes::{Attributes, Permissions};
use super::editors::{self, Creation};
use super::handles::{Body, Carried, Fate, Handle, Origin, Snapshot, Writer};
use super::inodes::{Node, NodeName, ROOT};
use super::policy::MaySet;
use super::scratch::INODE_BIT;
use super::staging::Staging;
use super::write::Change;
use super::{SecretFs, errno, notes};
use crate::secrets::{Failure, InvalidName, Pull, Pulled, SecretName, SecretStore};

/// What open(2) asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// O_RDONLY or O_RDWR.
    pub read: bool,
    /// O_WRONLY or O_RDWR.
    pub write: bool,
    /// O_TRUNC.
    pub truncate: bool,
}

/// An open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Its number.
    pub fh: u64,
    /// Whether it can be written: then its close matters.
    pub writable: bool,
}

impl<S: SecretStore> SecretFs<S> {
    /// Opens an inode for thread `tid`. Everything that is sure to be refused is refused here.
    pub async fn open(&self, ino: u64, access: Access, tid: u32) -> Result<Opened, Errno> {
        if ino & INODE_BIT != 0 {
            return self.open_scratch(ino, access);
        }
        if self.fixed.contains(ino) {
            return self.open_fixed(ino, access).await;
        }
        let node = self.inodes.get(ino).ok_or(Errno::ESTALE)?;
        let pull = self.hand_offs.peek(ino, tid);
        if pull.is_none() {
            // By a bind mount, or a descriptor: others' look-ups must not describe it.
            node.distrust();
        }
        let opened = if access.write {
            self.open_writer(node, pull, access, tid).await
        } else {
            self.open_reader(node, pull, tid).await
        };
        // Not before it is open, or it would seem to be nobody's meanwhile.
        drop(self.hand_offs.take(ino, tid));
        opened
    }

    /// Creates a name the kernel has just been told does not exist. Answers from memory: the
    /// kernel holds the directory meanwhile. Nothing reaches the vault before bytes do.
    pub async fn create(
        &self,
        parent: u64,
        name: &OsStr,
        tid: u32,
        how: Creation,
    ) -> Result<(Attributes, Opened), Errno> {
        if parent != ROOT {
            return Err(Errno::EPERM);
        }
        let text = name.to_str().ok_or(Errno::EINVAL)?;
        let probe = how.is_exclusive() && editors::is_vims_probe(text);
        if probe || how.is_mkstemp() || editors::is_editors(text, how.is_exclusive()) {
            return self.create_scratch(text, how);
        }
        let name = new_name(text)?;
        self.may_write(&name)?;
        let process = self.link.process_of(tid).await;
        let node = self.remember(&name);
        self.hand_offs.outdate(node.ino, &name);
        node.unset_creators.fetch_add(1, Ordering::Relaxed);
        let attributes = self.appearance.file(node.ino, Permissions::All, 0, None);
        let writer = Writer::new(process, Staging::default(), Origin::Missing, Fate::Alive);
        Ok((attributes, self.enter_writer(node, writer, tid)))
    }

    fn create_scratch(&self, name: &str, how: Creation) -> Result<(Attributes, Opened), Errno> {
        if self.options.read_only {
            return Err(Errno::EROFS);
        }
        let scratch = self.scratches.create(name, how)?;
        let fh = self.handles.reserve();
        self.scratches.enter(fh, &scratch);
        let attributes = scratch.attributes();
        Ok((attributes, Opened { fh, writable: true }))
    }

    fn open_scratch(&self, ino: u64, access: Access) -> Result<Opened, Errno> {
        let scratch = self.scratches.get(ino).ok_or(Errno::ESTALE)?;
        if access.truncate {
            scratch.change(Change {
                size: Some(0),
                ..Change::default()
            })?;
        }
        let fh = self.handles.reserve();
        self.scratches.enter(fh, &scratch);
        Ok(Opened {
            fh,
            writable: access.write,
        })
    }

    /// What is refused before anything is asked.
    pub(super) fn may_write(&self, name: &NodeName) -> Result<(), Errno> {
        match name {
            _ if self.options.read_only => return Err(Errno::EROFS),
            NodeName::Secret(_) => {}
            NodeName::Version(..) => return Err(Errno::EROFS),
            NodeName::Certificate(..) => return Err(errno(Failure::Managed)),
        }
        match self.policy.may_set(name.secret(), Instant::now()) {
            MaySet::No => Err(Errno::EACCES),
            MaySet::Yes | MaySet::Unknown => Ok(()),
        }
    }

    async fn open_reader(
        &self,
        node: Arc<Node>,
        pull: Option<Pull>,
        tid: u32,
    ) -> Result<Opened, Errno> {
        let snapshot = match self.current(&node, pull).await {
            Ok(secret) => Snapshot::Pulled(secret),
            Err(error) if error.failure == Failure::NotFound && node.is_being_created() => {
                Snapshot::Nothing
            }
            Err(error) if error.failure == Failure::NotFound => return Err(self.gone(&node, tid)),
            Err(error) => return Err(self.report("open", &node.name, &error)),
        };
        let handle = Handle {
            fh: self.handles.reserve(),
            node,
            opener: tid,
            body: Body::Reader(snapshot),
            page_cached: AtomicBool::new(false),
        };
        let opened = Opened {
            fh: handle.fh,
            writable: false,
        };
        if let Body::Reader(snapshot) = &handle.body {
            notes::reader(&self.link, &handle, snapshot);
        }
        self.handles.insert(handle);
        Ok(opened)
    }

    async fn open_writer(
        &self,
        node: Arc<Node>,
        pull: Option<Pull>,
        access: Access,
        tid: u32,
    ) -> Result<Opened, Errno> {
        self.may_write(&node.name)?;
        let pulled = match pull {
            // Who empties the file need not wait to know what was in it.
            _ if access.truncate => pull.and_then(|pull| pull.outcome()),
            _ => Some(self.current(&node, pull).await),
        };
        let (staging, origin) = match pulled {
            Some(Ok(secret)) if secret.properties.managed => {
                return Err(errno(Failure::Managed));
            }
            Some(Ok(secret)) => {
                let origin = Origin::Current(Carried::from(&secret.properties));
                let kept = if access.truncate {
                    &[]
                } else {
                    secret.value.expose()
                };
                (Staging::from_current(kept), origin)
            }
            Some(Err(error)) => match error.failure {
                Failure::NotFound if access.truncate || node.is_being_created() => {
                    (Staging::default(), Origin::Missing)
                }
                Failure::NotFound => return Err(self.gone(&node, tid)),
                failure @ (Failure::Forbidden | Failure::Disabled | Failure::Undecodable) => {
                    let carried = Carried::of_hidden(&error);
                    if access.truncate {
                        let origin = carried.map_or(Origin::Replaced, Origin::Current);
                        (Staging::default(), origin)
                    } else if access.read {
                        return Err(self.report("open", &node.name, &error));
                    } else {
                        (Staging::default(), Origin::Hidden(failure, carried))
                    }
                }
                _ if access.truncate => (Staging::default(), Origin::Unknown),
                _ => return Err(self.report("open", &node.name, &error)),
            },
            None => (Staging::default(), Origin::Unknown),
        };
        if matches!(origin, Origin::Missing) {
            node.unset_creators.fetch_add(1, Ordering::Relaxed);
        }
        let process = self.link.process_of(tid).await;
        let writer = Writer::new(process, staging, origin, Fate::Alive);
        Ok(self.enter_writer(node, writer, tid))
    }

    fn enter_writer(&self, node: Arc<Node>, writer: Writer, tid: u32) -> Opened {
        let handle = Handle {
            fh: self.handles.reserve(),
            node,
            opener: tid,
            body: Body::Writer(writer),
            page_cached: AtomicBool::new(false),
        };
        let opened = Opened {
            fh: handle.fh,
            writable: true,
        };
        if let Body::Writer(writer) = &handle.body
            && let Ok(state) = writer.state.try_lock()
        {
            notes::writer(&self.link, &handle, writer, &state);
        }
        self.handles.insert(handle);
        opened
    }

    /// What the vault has now: the pull of the LOOKUP just before, or one of its own.
    async fn current(&self, node: &Node, pull: Option<Pull>) -> Pulled {
        let Some(pull) = pull else {
            return self.pull(node, self.deadline()).await;
        };
        let pulled = self.pulls.finish(pull).await;
        self.learn(&node.name, &pulled);
        pulled
    }

    /// The entry was provisional, or is gone since. ESTALE makes the kernel look up again, which
    /// is answered from this failure: an open with O_CREAT then creates, any other says ENOENT.
    pub(super) fn gone(&self, node: &Node, tid: u32) -> Errno {
        if self.hand_offs.failure(&node.name, tid) == Some(Failure::NotFound) {
            // It has been told, and did not look up: a file that is bind-mounted by itself.
            return Errno::ENOENT;
        }
        self.hand_offs.failed(&node.name, tid, Failure::NotFound);
        Errno::ESTALE
    }
}

/// The name of a file to be created.
fn new_name(text: &str) -> Result<NodeName, Errno> {
    if let Some(name) = NodeName::parse(text) {
        return Ok(name);
    }
    match SecretName::parse(text) {
        Err(InvalidName::TooLong) => Err(Errno::ENAMETOOLONG),
        Err(InvalidName::Characters) | Ok(_) => Err(Errno::EINVAL),
    }
}
