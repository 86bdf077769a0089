//! From `keyvaultfs VAULT MOUNTPOINT` to a keeper in the background.
//!
//! A background keeper is this program started anew, so that it has nothing of the launcher's
//! memory, threads or descriptors; it is told what to mount through a memory file and says on a
//! pipe how that went. A keeper that makes way for a newer program starts it the same way.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Child;

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use serde::{Deserialize, Serialize};

use super::begin::{self, LAST_DESCRIPTOR};
use super::error::MountError;
use super::readiness::{self, Readiness};
use super::renewal::State;
use crate::config::Config;
use crate::log;
use crate::sys::descriptors::{inherited, memory_file, moved_above, reserve_up_to};
use crate::sys::process::{FIRST_DESCRIPTOR, Start};

/// The hidden argument that makes the program a keeper.
pub(super) const ARGUMENT: &str = "@keeper";

/// What a keeper started anew is told.
#[derive(Serialize, Deserialize)]
pub(super) enum Assignment {
    /// To mount this, and say on the pipe beside how that went.
    Mount(Box<Config>),
    /// To go on where another program left off in this process.
    Resume(Box<State>),
    /// To say by its exit status whether it could.
    Try(Box<State>),
}

/// Starts a keeper in the background and waits until it serves or says why not.
pub(super) fn in_background(config: Config) -> Result<(), MountError> {
    let (outcome, mut keeper) = start_keeper(config).map_err(begin::keeper_failed)?;
    match readiness::wait(outcome) {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => {
            let _ = keeper.wait();
            Err(error)
        }
        None => {
            let _ = kill(Pid::from_raw(keeper.id().cast_signed()), Signal::SIGTERM);
            let _ = keeper.wait();
            Err(MountError::NotReady)
        }
    }
}

/// Does what the first descriptor says, as [`in_background`] or a keeper before left it.
pub(super) fn as_keeper() -> io::Result<()> {
    let assignment = File::from(inherited(FIRST_DESCRIPTOR)?);
    let ended = match serde_json::from_reader(io::BufReader::new(assignment))? {
        Assignment::Mount(config) => {
            // Out of the way of what is reserved: it is closed before the first worker dies.
            let pipe = moved_above(LAST_DESCRIPTOR, inherited(FIRST_DESCRIPTOR + 1)?)?;
            log::start(config.log, log::Destination::Syslog);
            std::env::set_current_dir("/")?;
            begin::serve(*config, false, Readiness::new(Some(pipe)))
        }
        Assignment::Resume(state) => {
            log::start(state.config.log, log_destination(state.foreground));
            begin::resume(*state)
        }
        Assignment::Try(_) => Ok(()),
    };
    ended.map_err(io::Error::other)
}

fn log_destination(foreground: bool) -> log::Destination {
    if foreground {
        log::Destination::Stderr
    } else {
        log::Destination::Syslog
    }
}

fn start_keeper(config: Config) -> io::Result<(OwnedFd, Child)> {
    let _reserved = reserve_up_to(LAST_DESCRIPTOR)?;
    let (source, mountpoint) = (config.source.clone(), config.mountpoint.clone());
    let assignment = serde_json::to_vec(&Assignment::Mount(Box::new(config)))?;
    let assignment = memory_file("assignment", &assignment)?;
    let (outcome, tell) = pipe2(OFlag::O_CLOEXEC)?;
    let keeper = Start {
        program: Path::new("/proc/self/exe"),
        arguments: &[
            OsStr::new("keyvaultfs"),
            OsStr::new(ARGUMENT),
            OsStr::new(&source),
            mountpoint.as_os_str(),
        ],
        descriptors: &[assignment.as_fd(), tell.as_fd()],
        identity: None,
        own_session: true,
        dependent: false,
        shares_stderr: false,
    }
    .spawn()?;
    Ok((outcome, keeper))
}
