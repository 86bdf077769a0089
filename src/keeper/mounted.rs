//! The mount itself, once made, and how it is taken away: only while it is still there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::MountError;
use super::mountpoint;
use crate::config::Config;
use crate::sys::fuse_mount::{self, FuseMount, Refusal};

/// A mount this keeper made.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Mounted {
    path: PathBuf,
    /// Its device, as mountinfo names it.
    pub(super) device: String,
}

/// Mounts as configured. Returns the descriptor of /dev/fuse with the mount.
pub(super) fn mount(config: &Config) -> Result<(std::os::fd::OwnedFd, Mounted), MountError> {
    let mount = FuseMount {
        source: &config.source,
        mountpoint: &config.mountpoint,
        allow_other: config.allow_other,
        read_only: config.read_only,
        security_contexts: &config.security_contexts,
    };
    let descriptor = mount.mount().map_err(|refusal| match refusal {
        Refusal::Unavailable(text) => MountError::FuseUnavailable(text),
        Refusal::Refused(text) => MountError::MountRefused(text),
    })?;
    let path = config.mountpoint.clone();
    match mountpoint::top(&path) {
        Some(found) => Ok((
            descriptor,
            Mounted {
                path,
                device: found.device,
            },
        )),
        None => {
            let _ = fuse_mount::unmount(&path);
            let text = format!("{} is not in /proc/self/mountinfo", path.display());
            Err(MountError::MountRefused(text))
        }
    }
}

impl Mounted {
    /// Takes the mount off its path, unless somebody did, or mounted something else over it.
    /// Files still open keep what they have until the keeper ends.
    pub(super) fn unmount(&self) {
        if !mountpoint::is_there(&self.path, &self.device) {
            return;
        }
        if let Err(error) = fuse_mount::unmount(&self.path) {
            tracing::error!(%error, path = %self.path.display(), "cannot unmount");
        }
    }
}
