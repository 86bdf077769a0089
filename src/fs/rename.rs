//! UNLINK and RENAME: of temporary files alone. A temporary file renamed onto a secret's name
//! sets the secret. Also what becomes of temporary files that are left behind.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::inodes::{NodeName, ROOT};
use super::scratch::{Expired, InUse, Scratch};
use super::{SecretFs, editors};
use crate::secrets::SecretStore;

impl<S: SecretStore> SecretFs<S> {
    /// Removes a temporary file. The vault grants no delete, so nothing else can be removed.
    pub fn unlink(&self, parent: u64, name: &OsStr) -> Result<(), Errno> {
        let scratch = name.to_str().filter(|_| parent == ROOT);
        let removed = scratch.and_then(|name| self.scratches.unlink(name));
        removed.map(|_| ()).ok_or(Errno::EPERM)
    }

    /// Renames a temporary file for thread `tid`. The kernel holds the directory meanwhile, so a
    /// set takes the operation's time limit at most. If it fails the file stays as it was.
    pub async fn rename(
        &self,
        from: (u64, &OsStr),
        to: (u64, &OsStr),
        tid: u32,
    ) -> Result<(), Errno> {
        if (from.0, to.0) != (ROOT, ROOT) {
            return Err(Errno::EPERM);
        }
        let (from, to) = from.1.to_str().zip(to.1.to_str()).ok_or(Errno::EINVAL)?;
        let scratch = self.scratches.named(from).ok_or(Errno::EPERM)?;
        let target = NodeName::parse(to);
        let temporary = target.is_none() && self.scratches.named(to).is_some();
        if temporary || editors::is_editors(to, true) {
            self.scratches.rename(from, to);
            return Ok(());
        }
        let target = target.ok_or(Errno::EINVAL)?;
        // Its time does not run meanwhile, or it would be set under its own name too.
        let scratch = InUse::new(scratch);
        self.set_from(&scratch, &target, "rename", Some(tid))
            .await?;
        self.scratches.unlink(from);
        // A file made like a temporary one may have waited there to be set.
        self.scratches.unlink(to);
        Ok(())
    }

    /// The mount has ended: what was closed without an error and waits for its time is set now.
    pub async fn finish(self: &Arc<Self>) {
        let mut ends = JoinSet::new();
        for expired in self.scratches.expire_all() {
            let fs = Arc::clone(self);
            ends.spawn(async move { fs.bury(expired).await });
        }
        ends.join_all().await;
    }

    /// Sets a secret to a temporary file's bytes.
    async fn set_from(
        &self,
        scratch: &Scratch,
        name: &NodeName,
        operation: &'static str,
        tid: Option<u32>,
    ) -> Result<(), Errno> {
        self.may_write(name)?;
        if scratch.is_cut() {
            return Err(Errno::EFBIG);
        }
        let deadline = self.deadline();
        let node = self.inodes.passing(name);
        let pull = tid.and_then(|tid| self.hand_offs.take(node.ino, tid));
        let current = match pull {
            Some(pull) => self.pulls.finish(pull).await,
            None => self.pull(&node, deadline).await,
        };
        let carried = self.carried(&node, current, operation)?;
        let value = scratch.value(self.options.trim_newline);
        self.set_value(&node, value, carried, operation, deadline)
            .await
            .map(|_| ())
    }

    /// Sees to it that temporary files do not stay longer than their time.
    pub(super) fn sweep_scratches(self: &Arc<Self>) {
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let fs = Arc::clone(self);
        tokio::spawn(async move {
            while !fs.scratches.is_empty() {
                sleep(Duration::from_secs(1)).await;
                for expired in fs.scratches.expire(Instant::now()) {
                    fs.bury(expired).await;
                }
            }
            fs.sweeping.store(false, Ordering::Release);
            // One may have come between the look and the store.
            if !fs.scratches.is_empty() {
                fs.sweep_scratches();
            }
        });
    }

    async fn bury(&self, expired: Expired) {
        match expired {
            Expired::Dropped(name) => warn!(name, "a temporary file left behind is dropped"),
            Expired::Secret { name, file, last } => {
                let secret = name.to_string();
                let name = NodeName::Secret(name);
                match self.set_from(&file, &name, "set", None).await {
                    Ok(()) => info!(secret, "set from a file made like a temporary one"),
                    Err(_) if !last => return,
                    Err(errno) => warn!(secret, %errno, "a file made like a temporary one is lost"),
                }
                self.scratches.remove(&file);
            }
        }
    }
}
