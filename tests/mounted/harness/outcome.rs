//! How a command went.

use std::process::Command;
use std::time::{Duration, Instant};

/// How a command ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Outcome {
    what: String,
    /// Its exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Outcome {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command, what: &str) -> Self {
        let started = Instant::now();
        let output = command.output().expect("the command can be run");
        Self {
            what: what.to_owned(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: started.elapsed(),
        }
    }

    /// Asserts that it succeeded. Returns what it printed.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}: {}", self.what, self.stderr);
        &self.stdout
    }

    /// Asserts that it failed by itself and said so.
    #[track_caller]
    pub(crate) fn fails_with(&self, text: &str) {
        let failed = self.code.is_some_and(|code| code != 0 && code != 124);
        assert!(failed, "{} did not fail: {self:?}", self.what);
        assert!(
            self.stderr.contains(text),
            "{} did not say {text:?}: {self:?}",
            self.what
        );
    }
}
