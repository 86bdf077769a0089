//! `keyvaultfs doctor`: the arguments of a mount, examined instead of mounted.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use super::arguments::DoctorArguments;
use super::build::{self, Surroundings};
use super::error::Error;
use super::merge;
use super::mount_options::UnknownWords;
use crate::config::LogLevel;
use crate::doctor::examine;
use crate::log;

/// Examines what `options`, the words of `-o`, and `rest` describe, and prints what was found.
pub(super) fn run(options: &[String], rest: &[OsString]) -> Result<(), Error> {
    let (arguments, contexts) = merge::<DoctorArguments>(options, UnknownWords::Refuse, rest)?;
    let config = build::config(
        &arguments.vault,
        // Nothing is mounted.
        PathBuf::new(),
        &arguments.settings,
        contexts,
        &Surroundings::look(),
    )?;
    let mut lines = config.log;
    if lines.level == LogLevel::Info {
        // The report says what went wrong; the log says how, to who asks for it.
        lines.level = LogLevel::Error;
    }
    log::start(lines, log::Destination::Stderr);
    let report = examine(&config)?;
    let text = if arguments.json {
        format!("{:#}\n", report.to_json())
    } else {
        report.to_string()
    };
    // Who has closed the pipe has read enough; the exit code still says what was found.
    let _ = std::io::stdout().write_all(text.as_bytes());
    match report.first_failure() {
        Some(check) => Err(Error::Diagnosed(check)),
        None => Ok(()),
    }
}
