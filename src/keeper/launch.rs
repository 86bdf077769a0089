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
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use serde::{Deserialize, Serialize};

use super::begin::{self, LAST_DESCRIPTOR};
use super::error::MountError;
use super::mountpoint;
use super::readiness::{self, Heard, Readiness};
use super::renewal::State;
use super::signals::Interruptions;
use crate::config::Config;
use crate::config::environment::{Process, is_kept};
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

/// How long a keeper that is to end may take to, and how long one that was killed.
const ENDING_LIMIT: Duration = Duration::from_secs(4);
const KILLED_LIMIT: Duration = Duration::from_secs(1);

/// Starts a keeper in the background and waits until it serves or says why not. Takes at most 30
/// seconds, [`readiness::LIMIT`] and the limits here, whatever became of the keeper.
pub(super) fn in_background(config: Config) -> Result<(), MountError> {
    let mountpoint = config.mountpoint.clone();
    // Before there is a keeper that an interruption would leave behind.
    let interruptions = Interruptions::listen().map_err(io_failed)?;
    let (outcome, mut keeper) = start_keeper(config).map_err(begin::keeper_failed)?;
    let error = match readiness::wait(outcome, &interruptions) {
        Heard::Outcome(Ok(())) if !interruptions.have_come() => return Ok(()),
        Heard::Outcome(Ok(())) | Heard::Interruption => MountError::Interrupted,
        Heard::Nothing => MountError::NotReady,
        // It ends by itself.
        Heard::Outcome(Err(error)) => {
            see_off(&mut keeper, &mountpoint, ENDING_LIMIT);
            return Err(error);
        }
    };
    let _ = kill(Pid::from_raw(keeper.id().cast_signed()), Signal::SIGTERM);
    see_off(&mut keeper, &mountpoint, ENDING_LIMIT);
    Err(error)
}

fn io_failed(errno: Errno) -> MountError {
    begin::keeper_failed(errno.into())
}

/// Waits for a keeper that is ending. One that does not within `limit` is killed, and the mount
/// cleared away that it leaves behind.
fn see_off(keeper: &mut Child, mountpoint: &Path, limit: Duration) {
    if has_ended(keeper, limit) {
        return;
    }
    let _ = keeper.kill();
    // Not if it cannot even be killed: a look at its mount might hang like it.
    if has_ended(keeper, KILLED_LIMIT) {
        let _ = mountpoint::prepare(mountpoint);
    }
}

fn has_ended(process: &mut Child, limit: Duration) -> bool {
    let limit = Instant::now() + limit;
    loop {
        match process.try_wait() {
            Ok(None) if Instant::now() < limit => thread::sleep(Duration::from_millis(2)),
            Ok(ended) => return ended.is_some(),
            Err(_) => return true,
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
    let kind = config.identity.kind;
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
        environment: &|name| is_kept(name, Process::Keeper, kind),
        identity: None,
        own_session: true,
        dependent: false,
        shares_stderr: false,
    }
    .spawn()?;
    Ok((outcome, keeper))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_keeper_that_does_not_end_is_killed_in_time() {
        let mut keeper = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        see_off(&mut keeper, Path::new("/"), Duration::from_millis(50));
        assert!(began.elapsed() < Duration::from_secs(2));
        let ended = keeper.try_wait().unwrap().expect("it is dead");
        assert!(!ended.success());
    }

    #[test]
    fn a_keeper_that_ends_is_not_waited_for_any_longer() {
        let mut keeper = Command::new("true").spawn().unwrap();
        see_off(&mut keeper, Path::new("/"), Duration::from_secs(60));
        assert!(
            keeper
                .try_wait()
                .unwrap()
                .is_some_and(|ended| ended.success())
        );
    }
}
