//! Everything the command line can say when it fails: one line each, with what to do about it,
//! and the exit code that goes with it. Printed once, by [`main`](super::main).

#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

use super::exit_code::ExitCode;
use super::mount_options::InvalidMountOption;
use crate::azure::SetupError;
use crate::config::InvalidConfig;
use crate::doctor::Check;
use crate::keeper::MountError;

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The arguments are not what clap was told to expect, or ask for help.
    #[error("{}", in_one_line(.0))]
    Arguments(#[from] clap::Error),
    /// A word of `-o`.
    #[error(transparent)]
    MountOption(#[from] InvalidMountOption),
    /// A value that the parser alone could not judge.
    #[error("{option} {problem}")]
    Value {
        option: &'static str,
        problem: &'static str,
    },
    /// A namespace that cannot be entered.
    #[error("-N: cannot enter the mount namespace {path:?}: {source}")]
    Namespace { path: PathBuf, source: io::Error },
    /// The vault.
    #[error(transparent)]
    Vault(InvalidConfig),
    /// More than one identity.
    #[error("{0} both say which identity is meant; give one of them")]
    TwoIdentities(String),
    /// An identity's id that can be none.
    #[error(
        "{option} {id:?} is not 32 hexadecimal digits in five groups; \
         az identity show -g GROUP -n NAME --query {property} prints it"
    )]
    IdentityId {
        option: &'static str,
        id: String,
        property: &'static str,
    },
    /// An identity endpoint.
    #[error("{origin}: {source}")]
    IdentityEndpoint {
        origin: &'static str,
        source: InvalidConfig,
    },
    /// A vault of no known cloud, and no audience.
    #[error(
        "{0:?} is a vault of no known cloud, and no token is sent there on a guess; say which \
         audience it takes tokens for with --resource"
    )]
    UnknownCloud(String),
    /// A `--ca-cert` that cannot be read.
    #[error("--ca-cert {file:?} cannot be read: {source}; give the path of a PEM file")]
    CaUnreadable { file: PathBuf, source: io::Error },
    /// A `--ca-cert` without a certificate.
    #[error("--ca-cert {0:?} holds no certificate; give a PEM file with `BEGIN CERTIFICATE` in it")]
    CaEmpty(PathBuf),
    /// A `--ca-cert` with a broken certificate.
    #[error("--ca-cert {0:?} holds a damaged certificate; look at it with `openssl x509 -in`")]
    CaMalformed(PathBuf),
    /// A proxy. Its URL is not repeated, since it may hold a password.
    #[error("{origin} {reason}; give --proxy http://HOST:PORT")]
    Proxy {
        origin: &'static str,
        reason: &'static str,
    },
    /// A user nobody knows.
    #[error("{option}: there is no user {name:?}; `getent passwd` lists them")]
    NoSuchUser { option: &'static str, name: String },
    /// A group nobody knows.
    #[error("{option}: there is no group {name:?}; `getent group` lists them")]
    NoSuchGroup { option: &'static str, name: String },
    /// The vault's client cannot be made.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The doctor found something.
    #[error("the check {0:?} failed")]
    Diagnosed(Check),
    /// The demonstration has no place, port or signals.
    #[cfg(feature = "emulator")]
    #[error("the demonstration cannot run: {0}")]
    Demo(io::Error),
    /// The mountpoint or the mount.
    #[error(transparent)]
    Mount(#[from] MountError),
}

impl Error {
    /// The exit code that tells this error.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            // `--help` and `--version` come as errors too, and go to stdout.
            Self::Arguments(error) if !error.use_stderr() => ExitCode::Success,
            Self::Arguments(_)
            | Self::MountOption(_)
            | Self::Value { .. }
            | Self::Namespace { .. } => ExitCode::Usage,
            Self::Vault(_) => ExitCode::Vault,
            Self::TwoIdentities(_)
            | Self::IdentityId { .. }
            | Self::IdentityEndpoint { .. }
            | Self::Setup(SetupError::Identity(_)) => ExitCode::Identity,
            Self::UnknownCloud(_) => ExitCode::Resource,
            Self::CaUnreadable { .. } | Self::CaEmpty(_) | Self::CaMalformed(_) => {
                ExitCode::CaCertificate
            }
            Self::Proxy { .. } => ExitCode::Proxy,
            Self::NoSuchUser { .. } | Self::NoSuchGroup { .. } => ExitCode::Account,
            Self::Setup(SetupError::CaCertificate(_) | SetupError::NothingTrusted) => {
                ExitCode::CaCertificate
            }
            Self::Setup(SetupError::Proxy(_)) => ExitCode::Proxy,
            Self::Setup(SetupError::Http(_)) => ExitCode::Unexpected,
            Self::Diagnosed(check) => check_exit_code(*check),
            #[cfg(feature = "emulator")]
            Self::Demo(_) => ExitCode::Unexpected,
            Self::Mount(error) => mount_exit_code(error),
        }
    }
}

fn check_exit_code(check: Check) -> ExitCode {
    match check {
        Check::Fuse => ExitCode::DoctorFuse,
        Check::Identity | Check::Token => ExitCode::DoctorToken,
        Check::Name => ExitCode::DoctorName,
        Check::Connection => ExitCode::DoctorConnection,
        Check::Clock => ExitCode::DoctorClock,
        Check::Get => ExitCode::DoctorGet,
        Check::Set => ExitCode::DoctorSet,
        Check::Exposure => ExitCode::DoctorExposure,
    }
}

fn mount_exit_code(error: &MountError) -> ExitCode {
    match error {
        MountError::MountpointMissing(_) | MountError::MountpointUnreadable { .. } => {
            ExitCode::MountpointMissing
        }
        MountError::NotADirectory(_) => ExitCode::MountpointNotDirectory,
        MountError::AlreadyMounted { .. } | MountError::DeadMount { .. } => {
            ExitCode::AlreadyMounted
        }
        MountError::FuseUnavailable(_) => ExitCode::FuseUnavailable,
        MountError::MountRefused(_) => ExitCode::MountRefused,
        MountError::NoSuchUser(_) => ExitCode::Account,
        MountError::WorkerFailed(_) => ExitCode::WorkerFailed,
        MountError::KeeperFailed(_) => ExitCode::KeeperFailed,
        MountError::NotReady => ExitCode::NotReady,
        MountError::Interrupted => ExitCode::Interrupted,
    }
}

/// clap's message on one line: what is wrong, and what was meant if clap has an idea.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let mut paragraphs = text.split("\n\n").map(|paragraph| {
        let words: Vec<_> = paragraph.split_whitespace().collect();
        words.join(" ")
    });
    let wrong = paragraphs.next().unwrap_or_default();
    let similar = paragraphs
        .find_map(|paragraph| Some(paragraph.strip_prefix("tip: ")?.to_owned()))
        .filter(|tip| tip.contains("similar"))
        .map(|tip| format!("; {tip}"))
        .unwrap_or_default();
    format!("{wrong}{similar}; see `keyvaultfs --help`")
}
