//! The command line: arguments in, a [`Config`] for the keeper or an error and an exit code out.
//! It neither mounts nor talks to the network.
//!
//! The program is also its own keeper and worker: they are exec'd with a first argument that no
//! vault can be called.

#![forbid(unsafe_code)]

mod arguments;
mod build;
mod ca_certificates;
#[cfg(feature = "emulator")]
mod demo;
mod doctor;
mod error;
pub mod exit_code;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod mount_helper;
mod mount_options;
mod ownership;
mod proxy;
mod storage;
mod values;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::process;

use clap::{FromArgMatches, Parser};

use self::arguments::{Command, MountArguments};
use self::build::Surroundings;
use self::error::Error;
use self::exit_code::ExitCode;
use self::mount_helper::HelperArguments;
use self::mount_options::{UnknownWords, unfold};
use crate::config::Config;
use crate::doctor::{CONNECT_ARGUMENT, exec_connect};
#[cfg(feature = "emulator")]
use crate::emulator;
use crate::{keeper, log, worker};

pub use self::arguments::command;

/// What the program does, from its arguments to its exit code.
pub fn main() -> process::ExitCode {
    let words: Vec<_> = env::args_os().collect();
    match words.get(1).and_then(|first| first.to_str()) {
        Some("@keeper") => return keeper::exec_keeper(),
        Some("@worker") => return worker::exec_worker(),
        Some(CONNECT_ARGUMENT) => {
            let address = words.get(2).and_then(|word| word.to_str());
            return exec_connect(address.unwrap_or_default());
        }
        _ => {}
    }
    let program = words.first().map(OsString::as_os_str).unwrap_or_default();
    if mount_helper::is_name_of_helper(program) {
        return report(mount_as_helper(&words)).as_mount_helper().into();
    }
    let first = words.get(1).map(OsString::as_os_str).unwrap_or_default();
    if arguments::command().find_subcommand(first).is_some() {
        return subcommand(&words);
    }
    report(mount(&words)).into()
}

/// The mount that a command line asks for; `None` where [`main`] says why it asks for none. For
/// benchmarks, which serve a mount without a keeper.
pub fn config(words: &[OsString]) -> Option<Config> {
    let (_, config) = requested(words).ok()??;
    Some(config)
}

/// A mount, the program by its own name.
fn mount(words: &[OsString]) -> Result<(), Error> {
    let Some((foreground, config)) = requested(words)? else {
        return Ok(());
    };
    if foreground {
        // A keeper in the background starts its own.
        log::start(config.log, log::Destination::Stderr);
    }
    Ok(keeper::mount(config, foreground)?)
}

/// What a command line asks for: a mount, in the foreground or not, or nothing but help.
fn requested(words: &[OsString]) -> Result<Option<(bool, Config)>, Error> {
    let options = match MountArguments::try_parse_from(words) {
        Ok(arguments) => arguments.options,
        // Help is asked for: that of the whole command line.
        Err(error) if !error.use_stderr() => {
            arguments::command().try_get_matches_from(words)?;
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let rest = words.get(1..).unwrap_or_default();
    let (arguments, config) = configure(&options, UnknownWords::Refuse, rest)?;
    Ok(Some((arguments.foreground, config)))
}

/// Whatever is not a mount.
fn subcommand(words: &[OsString]) -> process::ExitCode {
    let command = arguments::command()
        .try_get_matches_from(words)
        .and_then(|matches| Command::from_arg_matches(&matches));
    match command {
        Err(error) => report(Err(error.into())).into(),
        Ok(Command::Doctor(arguments)) => {
            let rest = words.get(2..).unwrap_or_default();
            report(doctor::run(&arguments.options, rest)).into()
        }
        #[cfg(feature = "emulator")]
        Ok(Command::Demo(arguments)) => report(demo::run(&arguments)).into(),
        #[cfg(feature = "emulator")]
        Ok(Command::Emulator(arguments)) => emulator::run(arguments),
    }
}

/// The program as mount(8) calls it.
fn mount_as_helper(words: &[OsString]) -> Result<(), Error> {
    let helper = HelperArguments::try_parse_from(words)?;
    helper.enter_namespace()?;
    let rest = [
        "--".as_ref(),
        helper.source.as_ref(),
        helper.mountpoint.as_os_str(),
    ];
    let (_, config) = configure(&helper.options, helper.unknown_words(), &rest)?;
    if helper.fake {
        return Ok(());
    }
    // A source that libmount made into a path does not look mounted to `mount -a`, which then asks
    // for it a second time.
    let renamed = config.source != helper.source;
    let mounts = fs::read("/proc/self/mounts").unwrap_or_default();
    if renamed && mount_helper::is_mounted(&mounts, &config.source, &config.mountpoint) {
        return Ok(());
    }
    let mountpoint = config.mountpoint.display();
    let mounted = format!("{} mounted on {mountpoint}", config.source);
    keeper::mount(config, false)?;
    if helper.verbose {
        println!("keyvaultfs: {mounted}");
    }
    Ok(())
}

/// The mount that the words of `-o` and `rest` ask for.
fn configure(
    options: &[String],
    unknown: UnknownWords,
    rest: &[impl AsRef<OsStr>],
) -> Result<(MountArguments, Config), Error> {
    let (arguments, contexts) = merge::<MountArguments>(options, unknown, rest)?;
    let mountpoint = build::mountpoint(&arguments.mountpoint)?;
    let config = build::config(
        &arguments.vault,
        mountpoint,
        &arguments.settings,
        contexts,
        &Surroundings::look(),
    )?;
    Ok((arguments, config))
}

/// The arguments that the words of `-o` and `rest` come to, `rest` counting where both speak; and
/// the words for mount(2).
fn merge<A: Parser>(
    options: &[String],
    unknown: UnknownWords,
    rest: &[impl AsRef<OsStr>],
) -> Result<(A, Vec<String>), Error> {
    let unfolded = unfold(options, &A::command(), unknown)?;
    let words = ["keyvaultfs"].iter().map(OsStr::new);
    let words = words
        .chain(unfolded.arguments.iter().map(OsStr::new))
        .chain(rest.iter().map(AsRef::as_ref));
    Ok((A::try_parse_from(words)?, unfolded.security_contexts))
}

/// Prints what went wrong, or the help that was asked for, and says how to exit.
fn report(result: Result<(), Error>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::Success;
    };
    let code = error.exit_code();
    match &error {
        Error::Arguments(help) if code == ExitCode::Success => {
            // Nobody is left to be told that stdout is closed.
            let _ = help.print();
        }
        // The report has said it.
        Error::Diagnosed(_) => {}
        _ => eprintln!("keyvaultfs: {error}"),
    }
    code
}
