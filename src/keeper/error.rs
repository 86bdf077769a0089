//! Why there is no mount, in words that say what to do about it.
//!
//! The keeper finds most of these out in the background; they reach the launcher, and whoever
//! typed the command, as the same enum over the readiness pipe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why there is no mount. Nothing is left mounted or running after any of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum MountError {
    /// There is nothing at the mountpoint's path.
    #[error("{0:?} does not exist; create the directory first: mkdir -p {0:?}")]
    MountpointMissing(PathBuf),
    /// The mountpoint is something else.
    #[error("{} is not a directory; a file system can only be mounted on one", .0.display())]
    NotADirectory(PathBuf),
    /// The mountpoint cannot be looked at.
    #[error("{}: {reason}; mount where this user may look", path.display())]
    MountpointUnreadable {
        /// The mountpoint.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
    },
    /// Something is mounted there.
    #[error("{} has {kind} mounted on it already; unmount that first: umount {path:?}", path.display())]
    AlreadyMounted {
        /// The mountpoint.
        path: PathBuf,
        /// The type of what is mounted.
        kind: String,
    },
    /// A mount whose processes are gone, and which could not be cleared away.
    #[error("{} has a dead mount on it: {reason}; clear it away first: umount -l {path:?}", path.display())]
    DeadMount {
        /// The mountpoint.
        path: PathBuf,
        /// Why it could not be cleared away.
        reason: String,
    },
    /// This machine, container or user has no FUSE.
    #[error(
        "FUSE cannot be used here: {0}; install the package fuse3, or give the container \
         --device /dev/fuse and the capability SYS_ADMIN"
    )]
    FuseUnavailable(String),
    /// The kernel or fusermount3 said no.
    #[error(
        "the mount was refused: {0}; it takes root, or fusermount3 and a mountpoint of one's own"
    )]
    MountRefused(String),
    /// There is no user of the name that the worker was to run as.
    #[error("the worker cannot run as asked: {0}; create the user or name another with --user")]
    NoSuchUser(String),
    /// The worker could not start.
    #[error("{0}")]
    WorkerFailed(String),
    /// The keeper could not start, or ended without saying why.
    #[error("the background process failed: {0}; see more with --foreground")]
    KeeperFailed(String),
    /// Nothing was heard in time.
    #[error("the mount was not ready in time and was given up; see more with --foreground")]
    NotReady,
    /// Whoever waited for the mount had enough, by Ctrl-C or another signal meant to end.
    #[error("interrupted before the mount was ready; nothing is mounted")]
    Interrupted,
}
