//! `keyvaultfs emulator`: an emulator that runs until it is told to stop.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};
use serde::Deserialize;

use super::control::NewVersion;
use super::policy::Permission;
use super::vault::Settings;
use super::{Emulator, Options};

/// Run a stand-in for Azure on this machine: identity endpoints and a Key Vault.
///
/// Prints one line of JSON that says where it listens, and runs until SIGINT or SIGTERM. Its
/// `control` address takes secrets, policies and faults as JSON. For tests and demonstrations:
/// any local user can read what is in it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A secret to start with; repeatable
    #[arg(long = "secret", value_name = "NAME=VALUE", value_parser = parse_secret)]
    secrets: Vec<(String, String)>,

    /// Secrets to start with, as JSON: {"NAME": "VALUE", "OTHER": {"value": "…", "tags": {…}}}
    #[arg(long, value_name = "FILE")]
    secrets_file: Option<PathBuf>,

    /// What the vault's policy grants: any of get, set and list
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "get,set"
    )]
    policy: Vec<Permission>,

    /// The vault's token audience
    #[arg(long, value_name = "URL", default_value = "https://vault.azure.net")]
    resource: String,
}

/// Runs the emulator until SIGINT or SIGTERM; says on stderr why it cannot.
pub fn run(args: Args) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keyvaultfs: the emulator cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    // Before there are other threads: they inherit the mask, so that the signals come here.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    signals.thread_block()?;

    let from_file = match &args.secrets_file {
        Some(path) => read_secrets(path)?,
        None => BTreeMap::new(),
    };
    let emulator = Emulator::start(Options {
        resource: args.resource,
        policy: args.policy.into_iter().collect(),
        ..Options::default()
    })?;
    for (name, secret) in from_file {
        let NewVersion { value, settings } = secret.into();
        emulator.set_secret_with(&name, &value, settings);
    }
    for (name, value) in args.secrets {
        emulator.set_secret(&name, &value);
    }

    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", serde_json::to_string(emulator.endpoints())?)?;
    stdout.flush()?;
    signals.wait()?;
    Ok(())
}

/// A secret in a file: its value, or its value and what goes beside it.
#[derive(Deserialize)]
#[serde(untagged)]
enum FileSecret {
    Value(String),
    Whole(NewVersion),
}

impl From<FileSecret> for NewVersion {
    fn from(secret: FileSecret) -> Self {
        match secret {
            FileSecret::Value(value) => Self {
                value,
                settings: Settings::default(),
            },
            FileSecret::Whole(new) => new,
        }
    }
}

fn read_secrets(path: &Path) -> Result<BTreeMap<String, FileSecret>, String> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn parse_secret(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err("it is not of the form NAME=VALUE".to_owned()),
    }
}
