//! Who waits to hear that the mount is there: the launcher, on a pipe, and the service manager.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;

use super::error::MountError;
use super::signals::Interruptions;

/// How long a launcher waits to hear of a mount.
pub(super) const LIMIT: Duration = Duration::from_secs(25);

/// Who is to be told.
pub(super) struct Readiness {
    launcher: Option<File>,
    told: bool,
    /// How often the service manager wants a sign of life, halved.
    watchdog: Option<Duration>,
    fed: Instant,
}

impl Readiness {
    /// The launcher is at the other end of `pipe`, if there is one.
    pub(super) fn new(pipe: Option<OwnedFd>) -> Self {
        Self {
            launcher: pipe.map(File::from),
            told: false,
            watchdog: None,
            fed: Instant::now(),
        }
    }

    /// Everybody has been told by a program that served in this process before.
    pub(super) fn resumed() -> Self {
        let mut readiness = Self::new(None);
        readiness.told = true;
        readiness
    }

    /// The program is being changed.
    pub(super) fn changing(&mut self) {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now());
        notify(&states);
    }

    /// The program has been changed, or that failed.
    pub(super) fn changed(&mut self) {
        notify(&[NotifyState::Ready]);
    }

    /// From now on the service manager gets its signs of life, if it wants any.
    pub(super) fn watch(&mut self) {
        self.watchdog = sd_notify::watchdog_enabled().map(|period| period / 2);
    }

    /// The mount is there. Says so once.
    pub(super) fn ready(&mut self) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        self.tell(&Ok(()));
        notify(&[NotifyState::Ready, NotifyState::MainPid(std::process::id())]);
    }

    /// The mount will not be. For the launcher, if it still waits.
    pub(super) fn tell(&mut self, outcome: &Result<(), MountError>) {
        if let Some(mut launcher) = self.launcher.take()
            && let Ok(text) = serde_json::to_vec(outcome)
        {
            // Nobody left to read it is nobody left to tell.
            let _ = launcher.write_all(&text);
        }
    }

    /// The mount is about to end.
    pub(super) fn stopping(&self) {
        if self.told {
            notify(&[NotifyState::Stopping]);
        }
    }

    /// When the service manager wants the next sign of life.
    pub(super) fn watchdog_due(&self) -> Option<Instant> {
        self.watchdog.map(|period| self.fed + period)
    }

    /// Gives it, if it is due.
    pub(super) fn feed_watchdog(&mut self) {
        let now = Instant::now();
        if self.watchdog_due().is_some_and(|due| due <= now) {
            self.fed = now;
            notify(&[NotifyState::Watchdog]);
        }
    }
}

/// What a launcher hears.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// What [`Readiness::tell`] told; an error if the keeper is gone without a word.
    Outcome(Result<(), MountError>),
    /// Nothing within [`LIMIT`].
    Nothing,
    /// Somebody wants it to end.
    Interruption,
}

/// Waits for what [`Readiness::tell`] tells at the other end of the pipe.
pub(super) fn wait(pipe: OwnedFd, interruptions: &Interruptions) -> Heard {
    let limit = Instant::now() + LIMIT;
    let failed = |text: String| Heard::Outcome(Err(MountError::KeeperFailed(text)));
    let mut pipe = File::from(pipe);
    let mut text = Vec::new();
    loop {
        let Some(left) = limit.checked_duration_since(Instant::now()) else {
            return Heard::Nothing;
        };
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut descriptors = [
            PollFd::new(pipe.as_fd(), PollFlags::POLLIN),
            PollFd::new(interruptions.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut descriptors, timeout) {
            Ok(0) => return Heard::Nothing,
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return failed(error.to_string()),
        }
        if interruptions.have_come() {
            return Heard::Interruption;
        }
        let mut chunk = [0; 4096];
        match pipe.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return failed(error.to_string()),
        }
    }
    match serde_json::from_slice(&text) {
        Ok(outcome) => Heard::Outcome(outcome),
        Err(_) => failed("it ended without a word".into()),
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // Does nothing where no service manager asked.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::pthread::{pthread_kill, pthread_self};
    use nix::sys::signal::Signal;

    use super::*;

    fn heard(pipe: OwnedFd) -> Heard {
        wait(pipe, &Interruptions::listen().unwrap())
    }

    #[test]
    fn an_error_crosses_the_pipe_whole() {
        for outcome in [
            Ok(()),
            Err(MountError::WorkerFailed("no \"CA\" in there".into())),
            Err(MountError::NotReady),
        ] {
            let (reader, writer) = nix::unistd::pipe().unwrap();
            Readiness::new(Some(writer)).tell(&outcome);
            assert_eq!(heard(reader), Heard::Outcome(outcome));
        }
    }

    #[test]
    fn a_keeper_that_ends_without_a_word_is_an_error() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(writer);
        assert!(matches!(
            heard(reader),
            Heard::Outcome(Err(MountError::KeeperFailed(_)))
        ));
    }

    #[test]
    fn an_interruption_ends_the_wait_and_only_the_wait() {
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        let interruptions = Interruptions::listen().unwrap();
        pthread_kill(pthread_self(), Signal::SIGTERM).unwrap();
        assert_eq!(wait(reader, &interruptions), Heard::Interruption);
        // What comes after that is no reason to die either.
        pthread_kill(pthread_self(), Signal::SIGTERM).unwrap();
        drop(interruptions);
    }
}
