//! FLUSH, FSYNC, RELEASE: when the staged bytes are set, and what the writer is told.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use nix::errno::Errno;
use tokio::time::Instant;
use tracing::warn;

use super::handles::{Body, Carried, Fate, Handle, Origin, Writer, WriterState};
use super::inodes::Node;
use super::staging::Staging;
use super::{LOST, SecretFs, errno, notes};
use crate::link::{Flusher, NoteKey};
use crate::secret_bytes::SecretBytes;
use crate::secrets::{
    ENCODING_TAG, Failure, NewSecret, Pulled, Secret, SecretStore, StoreError, TAGS_MAX, encode,
};

/// What is left to do after a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// The inode whose pages the kernel still has, if any.
    pub page_cached: Option<u64>,
}

impl<S: SecretStore> SecretFs<S> {
    /// A descriptor was closed by thread `tid`: sets what waits, unless this close is not the
    /// writer's. It comes for every close of every duplicate, in every process that has one.
    pub async fn flush(&self, fh: u64, tid: u32) -> Result<(), Errno> {
        let Some(handle) = self.handles.find(fh).await else {
            return self.nothing_staged(fh);
        };
        let Body::Writer(writer) = &handle.body else {
            return Ok(());
        };
        let mut state = writer.state.lock().await;
        if !state.has_to_be_set()? {
            return Ok(());
        }
        let alone = self.handles.is_only_writer(&handle);
        match self
            .link
            .flusher(handle.node.ino, writer.process.unwrap_or(0), tid, alone)
            .await
        {
            Flusher::Final => {
                state.put_off = false;
                self.set(&handle, writer, &mut state, "close").await
            }
            // The program that opened the file goes on writing it.
            Flusher::NotYet => {
                state.put_off = true;
                Ok(())
            }
            Flusher::Killed => {
                self.drop_staged(&handle, writer, &mut state);
                Ok(())
            }
        }
    }

    /// Sets what waits, now.
    pub async fn fsync(&self, fh: u64) -> Result<(), Errno> {
        let Some(handle) = self.handles.find(fh).await else {
            return self.nothing_staged(fh);
        };
        let Body::Writer(writer) = &handle.body else {
            return Ok(());
        };
        let mut state = writer.state.lock().await;
        if !state.has_to_be_set()? {
            return Ok(());
        }
        self.set(&handle, writer, &mut state, "fsync").await
    }

    /// The last descriptor is gone. Nobody can be told of an error any more.
    pub async fn release(self: &Arc<Self>, fh: u64) -> Released {
        // A note that comes after this would stay for ever.
        self.handles.find(fh).await;
        let Some(handle) = self.handles.remove(fh) else {
            if self.fixed.close(fh) {
                return Released { page_cached: None };
            }
            let Some(page_cached) = self.scratches.close(fh) else {
                return Released { page_cached: None };
            };
            self.sweep_scratches();
            return Released { page_cached };
        };
        if let Body::Writer(writer) = &handle.body {
            let mut state = writer.state.lock().await;
            if state.put_off && state.staging.is_changed() {
                // A close said 0 since another was to come, which did not: whoever had the
                // descriptor passed it on. The log has why it fails, if it does.
                let _ = self.set(&handle, writer, &mut state, "close").await;
            }
            if matches!(state.origin, Origin::Missing) {
                handle.node.unset_creators.fetch_sub(1, Ordering::Relaxed);
            }
            if state.staging.is_changed() {
                warn!(secret = %handle.node.name, "bytes that could not be set are dropped");
            }
        }
        // Its notes go with the RELEASE: the keeper sees it.
        let page_cached = handle.page_cached.load(Ordering::Relaxed);
        Released {
            page_cached: page_cached.then_some(handle.node.ino),
        }
    }

    /// What there is to do for a file of which nothing ever reaches the vault.
    fn nothing_staged(&self, fh: u64) -> Result<(), Errno> {
        match self.fixed.is_open(fh) || self.scratches.opened(fh).is_some() {
            true => Ok(()),
            false => Err(LOST),
        }
    }

    /// Makes the staged bytes the secret's new version. If that fails they stay staged, so that
    /// a later fsync or close tries again.
    async fn set(
        &self,
        handle: &Handle,
        writer: &Writer,
        state: &mut WriterState,
        operation: &'static str,
    ) -> Result<(), Errno> {
        let node = &handle.node;
        let deadline = self.deadline();
        let carried = match &state.origin {
            Origin::Missing | Origin::Replaced | Origin::Hidden(..) => None,
            Origin::Current(carried) => Some(carried.clone()),
            Origin::Unknown | Origin::Inherited(_) => {
                self.carried(node, self.pull(node, deadline).await, operation)?
            }
        };
        let value = state.staging.to_set(self.options.trim_newline);
        let made = self
            .set_value(node, value, carried, operation, deadline)
            .await?;
        if matches!(state.origin, Origin::Missing) {
            node.unset_creators.fetch_sub(1, Ordering::Relaxed);
        }
        state.origin = Origin::Current(made);
        state.staging.set_done();
        self.unstaged(handle, writer, state);
        Ok(())
    }

    /// Makes `value` the secret's new version, and everything that is remembered of it old.
    pub(super) async fn set_value(
        &self,
        node: &Node,
        value: SecretBytes,
        carried: Option<Carried>,
        operation: &'static str,
        deadline: Instant,
    ) -> Result<Carried, Errno> {
        let name = node.name.secret();
        // Writes were refused that cannot fit; a character cut off at the end may still make
        // text into base64, which is longer.
        let stored = encode(value.expose());
        if !stored.fits() {
            return Err(Errno::EFBIG);
        }
        self.tags_fit(node, carried.as_ref(), stored.encoding.is_some(), operation)?;
        drop(stored);
        let new = self.new_version(value, carried);
        match self.store.set(name, &new, deadline.into_std()).await {
            Ok(properties) => {
                // Before anybody is told that it is done: no later open may get the old value.
                let carried = Carried::from(&properties);
                let value = new.value;
                self.pulls.replace(name, Secret { value, properties });
                self.hand_offs.outdate(node.ino, &node.name);
                self.listings.outdate(node.ino);
                self.policy.set_was(true, name, Instant::now());
                Ok(carried)
            }
            Err(error) => {
                if error.failure == Failure::Forbidden {
                    self.policy.set_was(false, name, Instant::now());
                }
                Err(self.report(operation, &node.name, &error))
            }
        }
    }

    /// A value with what it keeps of the version before, and what the mount puts on every set.
    fn new_version(&self, value: SecretBytes, carried: Option<Carried>) -> NewSecret {
        let (previous, content_type, mut tags) = match carried {
            Some(carried) => (Some(carried.version), carried.content_type, carried.tags),
            None => Default::default(),
        };
        let on_set = &self.options.on_set;
        tags.extend(on_set.tags.clone());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let expires = on_set
            .expires_in
            .and_then(|lifetime| Some(now.ok()? + lifetime));
        NewSecret {
            value,
            content_type: on_set.content_type.clone().or(content_type),
            tags,
            expires: expires.and_then(|time| i64::try_from(time.as_secs()).ok()),
            previous,
        }
    }

    /// Whether a vault takes the tags that [`Self::new_version`] puts together, and one more if
    /// the value is `encoded`; E2BIG otherwise, with a line in the log.
    pub(super) fn tags_fit(
        &self,
        node: &Node,
        carried: Option<&Carried>,
        encoded: bool,
        operation: &'static str,
    ) -> Result<(), Errno> {
        let own = &self.options.on_set.tags;
        let is_kept = |tag: &&String| *tag != ENCODING_TAG && !own.contains_key(*tag);
        let kept = carried.map_or(0, |carried| carried.tags.keys().filter(is_kept).count());
        let count = own.len() + kept + usize::from(encoded);
        if count <= TAGS_MAX {
            return Ok(());
        }
        let what = format!("set secret {}: {count} tags, with those kept", node.name);
        let hint = "a vault takes 15: remove some in the vault, or mount with fewer --tag";
        let error = StoreError::new(Failure::TooManyTags, what).with_hint(hint);
        Err(self.report(operation, &node.name, &error))
    }

    /// The content type and tags that a new version gets from the one that was pulled.
    pub(super) fn carried(
        &self,
        node: &Node,
        current: Pulled,
        operation: &'static str,
    ) -> Result<Option<Carried>, Errno> {
        match current {
            Ok(secret) if secret.properties.managed => Err(errno(Failure::Managed)),
            Ok(secret) => Ok(Some(Carried::from(&secret.properties))),
            Err(error) => match error.failure {
                Failure::NotFound
                | Failure::Forbidden
                | Failure::Disabled
                | Failure::Undecodable => Ok(Carried::of_hidden(&error)),
                _ => Err(self.report(operation, &node.name, &error)),
            },
        }
    }

    /// Drops what a program had written when a signal killed it.
    pub(super) fn drop_staged(&self, handle: &Handle, writer: &Writer, state: &mut WriterState) {
        state.fate = Fate::Killed;
        state.staging = Staging::default();
        self.unstaged(handle, writer, state);
        warn!(
            secret = %handle.node.name,
            "a signal killed the program that was writing; nothing was set"
        );
    }

    /// Nothing of this writer waits any more.
    pub(super) fn unstaged(&self, handle: &Handle, writer: &Writer, state: &WriterState) {
        self.link.withdraw(NoteKey::Staged(handle.fh));
        notes::writer(&self.link, handle, writer, state);
    }
}
