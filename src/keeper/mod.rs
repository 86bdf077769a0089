//! The process that owns the mount and never dies.
//!
//! It mounts, passes FUSE messages between the kernel and a worker, answers for the worker when
//! that is late, interrupted or dead, and starts another. It speaks to no network, and knows of
//! secrets no more than that a message may carry one. What a file is, is the worker's to say.
//!
//! ```text
//! launch ─→ begin ─→ supervise (succession, renewal, deadlines, ending)
//!                        ├─→ relay ─→ in_flight, line, notes, notifications, gate, patience ─→ protocol
//!                        ├─→ worker_process ─→ questions
//!                        └─→ interrupts, restarts, readiness, signals, mounted
//! ```

#![forbid(unsafe_code)]

mod begin;
mod deadlines;
mod ending;
mod error;
mod events;
mod gate;
mod in_flight;
mod interrupts;
mod launch;
mod line;
mod mounted;
mod mountpoint;
mod notes;
mod notifications;
mod patience;
mod protocol;
mod questions;
mod readiness;
mod relay;
mod renewal;
mod restarts;
mod signals;
mod succession;
mod supervise;
mod worker_process;

use std::process::ExitCode;

use crate::config::Config;
pub use error::MountError;
use readiness::Readiness;

/// Mounts what `config` says. Returns when the mount is there, with a keeper in the background;
/// or, with `foreground`, when it has been unmounted, this process having been the keeper.
///
/// In the foreground it is to be called before there are other threads: they would take the
/// signals that are the keeper's.
pub fn mount(config: Config, foreground: bool) -> Result<(), MountError> {
    mountpoint::prepare(&config.mountpoint)?;
    if foreground {
        return begin::serve(config, foreground, Readiness::new(None));
    }
    launch::in_background(config)
}

/// Is the background keeper, in a process that was started for it with the hidden argument
/// `@keeper`. Returns when the mount has ended.
pub fn exec_keeper() -> ExitCode {
    match launch::as_keeper() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the keeper ends");
            ExitCode::FAILURE
        }
    }
}
