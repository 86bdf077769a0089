//! `keyvaultfs doctor`: what works and what does not between this machine and a vault, and the
//! command that mends it.
//!
//! [`examine`] asks one thing after the other, each question of its own file, and goes on after a
//! failure as far as that makes sense. Nothing is mounted, stored, listed or deleted.

#![forbid(unsafe_code)]

mod exposure;
mod fuse;
mod identity;
mod report;
mod vault;

use std::time::Instant;

use crate::azure::{Diagnosis, SetupError};
use crate::config::Config;
use crate::secrets::Failure;

pub use exposure::{ARGUMENT as CONNECT_ARGUMENT, exec_connect};
pub use report::{Check, Finding, Outcome, Report};

/// Examines the machine and the vault of `config`.
///
/// # Errors
///
/// If no client could be made of the configuration, or no runtime for it.
pub fn examine(config: &Config) -> Result<Report, SetupError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| SetupError::Http(error.to_string()))?;
    let diagnosis = Diagnosis::new(config)?;
    let deadline = || Instant::now() + config.timeout;

    let mut report = Report::default();
    report.add(fuse::check(config.allow_other));
    let token = runtime.block_on(diagnosis.token(deadline()));
    report.add(identity::kind(config, &diagnosis));
    report.add(identity::token(&token));
    let name = vault::name(config);
    let named = name.outcome != Outcome::Fail;
    report.add(name);
    let reached = named.then(|| runtime.block_on(diagnosis.reach(deadline())));
    report.add(vault::connection(config, reached.as_ref()));
    report.add(vault::clock(reached.as_ref()));
    let open = token.is_ok() && matches!(reached, Some(Ok(_)));
    let get = open.then(|| runtime.block_on(diagnosis.get(deadline())));
    // What fails for another reason than a missing permission fails for both.
    let set_is_a_question = match &get {
        None | Some(Ok(())) => true,
        Some(Err(error)) => error.failure == Failure::Forbidden,
    };
    report.add(vault::permission(Check::Get, get));
    report.add(if config.read_only {
        Finding::skipped(Check::Set, "the mount is to be read-only")
    } else if set_is_a_question {
        let set = open.then(|| runtime.block_on(diagnosis.set(deadline())));
        vault::permission(Check::Set, set)
    } else {
        Finding::skipped(Check::Set, "it would fail like get")
    });
    report.add(match &token {
        Ok(_) => match diagnosis.identity_endpoint() {
            Some(endpoint) => exposure::check(config, &endpoint),
            None => Finding::skipped(Check::Exposure, "a program hands out the tokens"),
        },
        Err(_) => Finding::skipped(Check::Exposure, "there is no token to get"),
    });
    Ok(report)
}
