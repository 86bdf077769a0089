//! WRITE and SETATTR: what changes a file's staged bytes. Nothing here reaches the vault but
//! the question whether a name may be set.

#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use tokio::time::Instant;

use super::attributes::Attributes;
use super::handles::{Body, Carried, Fate, Handle, Origin, Writer, WriterState};
use super::inodes::ROOT;
use super::policy::MaySet;
use super::scratch::INODE_BIT;
use super::staging::{Staging, WriteAt};
use super::{LOST, SecretFs, errno, notes};
use crate::secret_bytes::SecretBytes;
use crate::secrets::{Checked, Failure, SecretStore};

/// How long a write waits to hear whether it may be. A vault that is so slow tells at close.
const CHECK_PATIENCE: Duration = Duration::from_secs(2);

/// What SETATTR asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// chmod(2).
    pub mode: Option<u32>,
    /// chown(2).
    pub uid: Option<u32>,
    /// chown(2).
    pub gid: Option<u32>,
    /// truncate(2), ftruncate(2).
    pub size: Option<u64>,
    /// utimes(2), of mtime. For a secret it succeeds and changes nothing.
    pub modified: Option<SystemTime>,
}

impl<S: SecretStore> SecretFs<S> {
    /// Stages `data`; all of it or nothing. Before the first bytes for a name the vault is asked
    /// whether it may be set, since a shell's builtin ignores the error of close(2).
    pub async fn write(&self, fh: u64, at: WriteAt, data: &SecretBytes) -> Result<u32, Errno> {
        let length = u32::try_from(data.len()).map_err(|_| Errno::EFBIG)?;
        let Some(handle) = self.handles.find(fh).await else {
            self.scratches
                .opened(fh)
                .ok_or(LOST)?
                .write(at, data.expose())?;
            return Ok(length);
        };
        let Body::Writer(writer) = &handle.body else {
            return Err(Errno::EBADF);
        };
        let mut state = writer.state.lock().await;
        self.prepare(&handle, writer, &mut state).await?;
        if let Err(errno) = state.staging.write(at, data.expose()) {
            self.too_large(&handle, writer, &mut state);
            return Err(errno);
        }
        self.staged(&handle, writer, &state);
        Ok(length)
    }

    /// Changes attributes, as far as a secret has any: modes and owners only to what they are.
    pub async fn setattr(
        &self,
        ino: u64,
        fh: Option<u64>,
        change: Change,
        tid: u32,
    ) -> Result<Attributes, Errno> {
        if ino & INODE_BIT != 0 {
            let scratch = self.scratches.get(ino).ok_or(Errno::ESTALE)?;
            scratch.change(change)?;
            return Ok(scratch.attributes());
        }
        if let Some(size) = change.size {
            let handle = match fh {
                Some(fh) => self.handles.find(fh).await,
                None => None,
            };
            match handle {
                Some(handle) => self.resize(&handle, size).await?,
                None => self.resize_unopened(ino, size, tid).await?,
            }
        }
        let now = self.getattr(ino, fh, tid).await?;
        let same_mode = change
            .mode
            .is_none_or(|mode| mode & 0o7777 == u32::from(now.mode));
        let same_owner = change.uid.is_none_or(|uid| uid == now.uid)
            && change.gid.is_none_or(|gid| gid == now.gid);
        if !same_mode || !same_owner {
            return Err(Errno::EPERM);
        }
        Ok(now)
    }

    async fn resize(&self, handle: &Handle, size: u64) -> Result<(), Errno> {
        let Body::Writer(writer) = &handle.body else {
            return Err(Errno::EBADF);
        };
        let mut state = writer.state.lock().await;
        if size > 0 {
            self.prepare(handle, writer, &mut state).await?;
        } else if state.fate == Fate::Lost {
            return Err(Errno::EIO);
        }
        let was_changed = state.staging.is_changed() || state.fate == Fate::TooLarge;
        if state.fate == Fate::TooLarge {
            state.fate = Fate::Alive;
        }
        state.staging.resize(size)?;
        if size == 0 {
            state.origin = match &state.origin {
                Origin::Hidden(_, Some(carried)) => Origin::Current(carried.clone()),
                Origin::Hidden(Failure::Forbidden, None) => Origin::Replaced,
                Origin::Hidden(_, None) | Origin::Inherited(_) => Origin::Unknown,
                origin => origin.clone(),
            };
        }
        if state.staging.is_changed() {
            self.staged(handle, writer, &state);
        } else {
            if was_changed {
                self.unstaged(handle, writer, &state);
            } else {
                notes::writer(&self.link, handle, writer, &state);
            }
            writer
                .length
                .store(state.staging.bytes().len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// truncate(2) on a path: there is no close that could set the result or say why not.
    async fn resize_unopened(&self, ino: u64, size: u64, tid: u32) -> Result<(), Errno> {
        if self.fixed.contains(ino) {
            return Err(Errno::EROFS);
        }
        if ino == ROOT {
            return Err(Errno::EISDIR);
        }
        if self.getattr(ino, None, tid).await?.size == size {
            return Ok(());
        }
        Err(if self.options.read_only {
            Errno::EROFS
        } else {
            Errno::EPERM
        })
    }

    /// Everything that must be true before bytes are staged.
    async fn prepare(
        &self,
        handle: &Handle,
        writer: &Writer,
        state: &mut WriterState,
    ) -> Result<(), Errno> {
        // A writer that lost bytes must not put together a value of what is left.
        if let Some(errno) = state.fate.errno() {
            return Err(errno);
        }
        let deadline = self.deadline();
        self.load(handle, writer, state, deadline).await?;
        if let Origin::Hidden(failure, _) = state.origin {
            return Err(errno(failure));
        }
        if let Origin::Current(carried) = &state.origin {
            self.tags_fit(&handle.node, Some(carried), false, "write")?;
        }
        self.ask_to_set(handle, deadline).await
    }

    async fn ask_to_set(&self, handle: &Handle, deadline: Instant) -> Result<(), Errno> {
        let name = handle.node.name.secret();
        match self.policy.may_set(name, Instant::now()) {
            MaySet::Yes => return Ok(()),
            MaySet::No => return Err(Errno::EACCES),
            MaySet::Unknown if !self.options.set_check => return Ok(()),
            MaySet::Unknown => {}
        }
        let patience = deadline.min(Instant::now() + CHECK_PATIENCE);
        match self.store.check_set(name, patience.into_std()).await {
            Ok(Checked::Allowed) => {
                self.policy.set_was(true, name, Instant::now());
                Ok(())
            }
            // The set itself will tell.
            Ok(Checked::Unknown) => Ok(()),
            Err(error) => {
                if error.failure == Failure::Forbidden {
                    self.policy.set_was(false, name, Instant::now());
                }
                Err(self.report("write", &handle.node.name, &error))
            }
        }
    }

    /// Pulls the bytes that a handle of an earlier worker was opened on.
    pub(super) async fn load(
        &self,
        handle: &Handle,
        writer: &Writer,
        state: &mut WriterState,
        deadline: Instant,
    ) -> Result<(), Errno> {
        let Origin::Inherited(version) = &state.origin else {
            return Ok(());
        };
        let name = &handle.node.name;
        let wanted = name.wanted_at(version);
        match self.pulls.pull(&wanted, deadline).await {
            Ok(secret) => {
                state.staging = Staging::from_current(secret.value.expose());
                state.origin = Origin::Current(Carried::from(&secret.properties));
                writer
                    .length
                    .store(secret.value.len() as u64, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(self.report("write", name, &error)),
        }
    }

    /// More was written than a vault stores: nothing of it is set, whoever ignores the error.
    fn too_large(&self, handle: &Handle, writer: &Writer, state: &mut WriterState) {
        state.fate = Fate::TooLarge;
        state.staging = Staging::default();
        self.staged(handle, writer, state);
    }

    fn staged(&self, handle: &Handle, writer: &Writer, state: &WriterState) {
        writer
            .length
            .store(state.staging.bytes().len() as u64, Ordering::Relaxed);
        // Before the write is acknowledged: whoever takes over must know what is lost with us.
        notes::staged(&self.link, handle, writer);
    }
}
