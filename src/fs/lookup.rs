//! LOOKUP, GETATTR, FORGET: does a name exist, and how large is it.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::Instant;

use super::attributes::{Attributes, Permissions};
use super::handles::{Body, Handle, Snapshot};
use super::inodes::{Node, NodeName, ROOT};
use super::scratch::INODE_BIT;
use super::{LOST, SecretFs, errno, notes};
use crate::link::NoteKey;
use crate::secrets::{Failure, Pull, Pulled, Secret, SecretStore, StoreError};

/// How long a LOOKUP waits for the vault. The kernel holds locks over it that no signal breaks:
/// a second reader of the same cold name cannot be killed, an O_CREAT stalls the directory. The
/// request that follows waits on, interruptibly.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

impl<S: SecretStore> SecretFs<S> {
    /// Resolves a name in the directory for thread `tid`. Counts one lookup if it succeeds.
    pub async fn lookup(&self, parent: u64, name: &OsStr, tid: u32) -> Result<Attributes, Errno> {
        let text = name.to_str().ok_or(Errno::ENOENT)?;
        if let Some(fixed) = self.fixed.child(parent, text) {
            return self.lookup_fixed(fixed).await;
        }
        if parent != ROOT {
            return Err(Errno::ENOENT);
        }
        if let Some(scratch) = self.scratches.lookup(text) {
            return Ok(scratch.attributes());
        }
        let name = NodeName::parse(text).ok_or(Errno::ENOENT)?;
        let deadline = self.deadline();
        if self.policy.get_is_refused(name.secret(), Instant::now()) {
            return self.lookup_in_drop_box(&name, tid);
        }
        // The kernel sends a LOOKUP that failed on a name it knew again, at once.
        if let Some(failure) = self.hand_offs.failure(&name, tid) {
            return Err(errno(failure));
        }
        let known = self.inodes.named(&name);
        if let Some(listed) = known.and_then(|node| self.listings.attributes(node.ino, tid)) {
            // Good enough to describe the file, not to open it.
            drop(self.hand_offs.take(listed.ino, tid));
            self.remember(&name);
            return Ok(listed);
        }
        let pull = self.pulls.begin(&name.wanted(), deadline);
        let patience = Instant::now() + PATIENCE;
        let (pull, pulled) = self.pulls.wait(pull, patience).await;
        let Some(pulled) = pulled else {
            return Ok(self.provisional_entry(&name, tid, pull));
        };
        match pulled {
            Ok(secret) => {
                self.policy.get_allowed();
                let node = self.remember(&name);
                self.hand_offs.offer(node.ino, tid, pull);
                let attributes = self.attributes_of(&node, &secret);
                Ok(Attributes {
                    fresh: self.is_alone(node.ino, tid)
                        && node.has_no_other_birth(attributes.created),
                    ..attributes
                })
            }
            Err(error) => self.lookup_without_value(&name, tid, pull, &error),
        }
    }

    /// What stat(2) says of an inode; of the open file `fh`, if the kernel names one.
    pub async fn getattr(&self, ino: u64, fh: Option<u64>, tid: u32) -> Result<Attributes, Errno> {
        if ino == ROOT {
            return Ok(self.appearance.directory(ROOT));
        }
        if self.fixed.contains(ino) {
            return self.getattr_fixed(ino).await;
        }
        if let Some(fh) = fh
            && let Some(handle) = self.handles.find(fh).await
        {
            return self.attributes_of_open(&handle).await;
        }
        if ino & INODE_BIT != 0 {
            let scratch = self.scratches.get(ino).ok_or(Errno::ESTALE)?;
            return Ok(scratch.attributes());
        }
        let node = self.inodes.get(ino).ok_or(Errno::ESTALE)?;
        let pulled = if let Some(pull) = self.hand_offs.peek(ino, tid) {
            self.pulls.finish(pull).await
        } else if let Some(handle) = self.handles.stated(ino, tid) {
            return self.attributes_of_open(&handle).await;
        } else if let Some(listed) = self.listings.attributes(ino, tid) {
            // The kernel checks permissions before each GETXATTR.
            return Ok(listed);
        } else {
            self.pull(&node, self.deadline()).await
        };
        match pulled {
            Ok(secret) => Ok(self.attributes_of(&node, &secret)),
            Err(error) => match self.without_value(&node.name, &error) {
                Some(permissions) => Ok(self.appearance.file(ino, permissions, 0, None)),
                None if error.failure == Failure::NotFound && node.is_being_created() => {
                    Ok(self.attributes_of_unset(&node, tid))
                }
                None if error.failure == Failure::NotFound => Err(self.gone(&node, tid)),
                None => Err(self.report("stat", &node.name, &error)),
            },
        }
    }

    /// The same with the birth time, which the kernel remembers until it is told another.
    pub async fn statx(&self, ino: u64, tid: u32) -> Result<Attributes, Errno> {
        let attributes = self.getattr(ino, None, tid).await?;
        if let Some(node) = self.inodes.get(ino) {
            node.tell_birth(attributes.created);
        }
        Ok(attributes)
    }

    /// The kernel forgets `lookups` lookups of an inode.
    pub fn forget(&self, ino: u64, lookups: u64) {
        if ino & INODE_BIT != 0 {
            self.scratches.forget(ino, lookups);
        } else if self.inodes.forget(ino, lookups) {
            self.link.withdraw(NoteKey::Inode(ino));
        }
    }

    /// Whether thread `tid` alone is about to use a file that nobody has open. Else another's
    /// look-up would change the size that it sees of what it has open.
    fn is_alone(&self, ino: u64, tid: u32) -> bool {
        tid != 0 && !self.handles.is_open(ino) && !self.hand_offs.has_others(ino, tid)
    }

    /// Pulls what a node shows; a refusal that is remembered costs no request.
    pub(super) async fn pull(&self, node: &Node, deadline: Instant) -> Pulled {
        if self
            .policy
            .get_is_refused(node.name.secret(), Instant::now())
        {
            return Err(refused(&node.name));
        }
        let pulled = self.pulls.pull(&node.name.wanted(), deadline).await;
        self.learn(&node.name, &pulled);
        pulled
    }

    /// Remembers what the vault's policy was seen to allow. Who is refused is told here and now:
    /// a program without the right to read the file is stopped by the kernel before it opens it.
    pub(super) fn learn(&self, name: &NodeName, pulled: &Pulled) {
        match pulled {
            Ok(_) => self.policy.get_allowed(),
            Err(error) if error.failure == Failure::NotFound => self.policy.get_allowed(),
            Err(error) if error.failure == Failure::Forbidden => {
                if self.policy.get_refused(name.secret(), Instant::now()) {
                    self.report("get", name, error);
                }
            }
            Err(_) => {}
        }
    }

    pub(super) fn attributes_of(&self, node: &Node, secret: &Secret) -> Attributes {
        let size = secret.value.len();
        self.appearance
            .file(node.ino, permissions(&node.name), size, Some(secret))
    }

    /// How a secret is shown whose value is not: `None` if the error says nothing about it.
    pub(super) fn without_value(&self, name: &NodeName, error: &StoreError) -> Option<Permissions> {
        match error.failure {
            _ if !name.is_secret() => None,
            // It exists as far as one can tell, and may be written.
            Failure::Forbidden => Some(Permissions::WriteOnly),
            // It exists and may be overwritten; opening it for reading tells why not.
            Failure::Disabled | Failure::Undecodable => Some(Permissions::All),
            _ => None,
        }
    }

    fn lookup_without_value(
        &self,
        name: &NodeName,
        tid: u32,
        pull: Pull,
        error: &StoreError,
    ) -> Result<Attributes, Errno> {
        self.learn(name, &Err(error.clone()));
        if error.failure == Failure::Forbidden {
            return self.lookup_in_drop_box(name, tid);
        }
        if let Some(permissions) = self.without_value(name, error) {
            let node = self.remember(name);
            self.hand_offs.offer(node.ino, tid, pull);
            return Ok(self.appearance.file(node.ino, permissions, 0, None));
        }
        let known = self.inodes.named(name);
        if error.failure == Failure::NotFound
            && known.as_ref().is_some_and(|node| node.is_being_created())
        {
            let node = self.remember(name);
            self.hand_offs.offer(node.ino, tid, pull);
            return Ok(self.attributes_of_unset(&node, tid));
        }
        if known.is_some() {
            self.hand_offs.failed(name, tid, error.failure);
        }
        Err(self.report("lookup", name, error))
    }

    /// A file that is being created and not in the vault yet.
    fn attributes_of_unset(&self, node: &Node, tid: u32) -> Attributes {
        let handle = self.handles.stated(node.ino, tid);
        let length = handle.map_or(0, |handle| staged(&handle));
        self.appearance
            .file(node.ino, Permissions::All, length, None)
    }

    /// A name whose value may not be got: taken to exist, until somebody asks for too many.
    fn lookup_in_drop_box(&self, name: &NodeName, tid: u32) -> Result<Attributes, Errno> {
        if !name.is_secret() {
            return Err(Errno::EACCES);
        }
        if self.policy.is_searching(tid, name.secret(), Instant::now()) {
            return Err(Errno::ENOENT);
        }
        let node = self.remember(name);
        Ok(self
            .appearance
            .file(node.ino, Permissions::WriteOnly, 0, None))
    }

    /// An entry for a name the vault has not answered for: the GETATTR or OPEN that follows
    /// waits for the same pull, and tells the truth.
    fn provisional_entry(&self, name: &NodeName, tid: u32, pull: Pull) -> Attributes {
        let node = self.remember(name);
        self.hand_offs.offer(node.ino, tid, pull);
        self.appearance.file(node.ino, permissions(name), 0, None)
    }

    pub(super) fn remember(&self, name: &NodeName) -> Arc<Node> {
        let (node, new) = self.inodes.remember(name);
        if new {
            notes::inode(&self.link, &node);
        }
        node
    }

    async fn attributes_of_open(&self, handle: &Handle) -> Result<Attributes, Errno> {
        let node = &handle.node;
        match &handle.body {
            Body::Writer(_) => {
                Ok(self
                    .appearance
                    .file(node.ino, permissions(&node.name), staged(handle), None))
            }
            Body::Reader(snapshot) => {
                let secret = self.snapshot(node, snapshot).await?;
                let size = secret.as_ref().map_or(0, |secret| secret.value.len());
                let permissions = permissions(&node.name);
                Ok(self
                    .appearance
                    .file(node.ino, permissions, size, secret.as_deref()))
            }
        }
    }

    /// The secret a reader reads, pulled again if an earlier worker had it; `None`: no bytes.
    pub(super) async fn snapshot(
        &self,
        node: &Node,
        snapshot: &Snapshot,
    ) -> Result<Option<Arc<Secret>>, Errno> {
        match snapshot {
            Snapshot::Nothing => Ok(None),
            Snapshot::Pulled(secret) => Ok(Some(Arc::clone(secret))),
            Snapshot::Inherited(version, pulled) => {
                let wanted = node.name.wanted_at(version);
                let pull = || self.pulls.pull(&wanted, self.deadline());
                match pulled.get_or_try_init(pull).await {
                    Ok(secret) if is_another(&node.name, secret) => Err(LOST),
                    Ok(secret) => Ok(Some(Arc::clone(secret))),
                    Err(error) => Err(self.report("read", &node.name, &error)),
                }
            }
        }
    }
}

pub(super) fn permissions(name: &NodeName) -> Permissions {
    match name {
        NodeName::Secret(_) => Permissions::All,
        NodeName::Version(..) | NodeName::Certificate(..) => Permissions::ReadOnly,
    }
}

/// Whether what was pulled again for an open file need not be the bytes that were read of it.
fn is_another(name: &NodeName, secret: &Secret) -> bool {
    match name {
        NodeName::Secret(_) | NodeName::Version(..) => false,
        NodeName::Certificate(_, form) => !form.is_reproducible(&secret.properties),
    }
}

/// The error of a get that is not even asked for, since it was refused a moment ago.
pub(super) fn refused(name: &NodeName) -> StoreError {
    StoreError::new(
        Failure::Forbidden,
        format!("get secret {name}: refused a moment ago"),
    )
}

fn staged(handle: &Handle) -> usize {
    match &handle.body {
        Body::Writer(writer) => {
            let length = writer.length.load(std::sync::atomic::Ordering::Relaxed);
            usize::try_from(length).unwrap_or(usize::MAX)
        }
        Body::Reader(_) => 0,
    }
}
