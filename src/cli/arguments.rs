//! The command line as clap sees it: names, help texts and the shape of single values. Whether
//! the values make sense together is [`build`](super::build)'s concern, and `-o` is unfolded into
//! these very options by [`mount_options`](super::mount_options).

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

#[cfg(feature = "emulator")]
use super::demo;
use super::exit_code;
use super::values::{content_type, duration, permission_bits, positive_duration, tag};
use crate::config::{IdentityKind, LogFormat, LogLevel, StorageAccount};
#[cfg(feature = "emulator")]
use crate::emulator;

const UNMOUNT: &str = "Unmount with `umount MOUNTPOINT`, or `fusermount3 -u MOUNTPOINT` if you are \
                       not root.";

/// Mount an Azure Key Vault: its secrets as files, by the machine's managed identity
#[derive(Debug, Parser)]
#[command(
    name = "keyvaultfs",
    version,
    max_term_width = 100,
    args_override_self = true,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = UNMOUNT,
    after_long_help = format!("{UNMOUNT}\n\n{}", exit_code::help()),
)]
pub(super) struct MountArguments {
    /// The vault: its name, its host or its https:// URL
    pub vault: String,

    /// The directory to mount it on
    pub mountpoint: PathBuf,

    /// Stay in the foreground and log to stderr
    #[arg(short, long)]
    pub foreground: bool,

    /// Options as mount(8) gives them: every long option below without its dashes, and mount's own
    /// words
    ///
    /// For example `-o ro,allow_other,client-id=…`. A value with a comma stands in double quotes, or
    /// has a backslash before the comma. Options given both ways: the one outside `-o` counts.
    #[arg(short, value_name = "OPT[,OPT…]")]
    pub options: Vec<String>,

    #[command(flatten)]
    pub settings: Settings,
}

/// Everything a mount can be told but what and where.
#[derive(Debug, Args)]
pub(super) struct Settings {
    #[command(flatten)]
    pub connection: ConnectionArguments,

    #[command(flatten)]
    pub files: FileArguments,

    #[command(flatten)]
    pub process: ProcessArguments,
}

// What else the program does, if it is the first argument. No doc comment: clap would take it for
// the program's.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Doctor(Box<DoctorArguments>),
    #[cfg(feature = "emulator")]
    Demo(demo::Arguments),
    #[cfg(feature = "emulator")]
    Emulator(emulator::Args),
}

/// Say what works and what does not between this machine and a vault, and what mends it
///
/// Takes the options of the mount that is to work, and asks with them. Nothing is mounted, stored or
/// listed. The exit code tells the first check that failed.
#[derive(Debug, Parser)]
#[command(name = "doctor", args_override_self = true)]
pub(super) struct DoctorArguments {
    /// The vault: its name, its host or its https:// URL
    pub vault: String,

    /// Print JSON, for machines
    #[arg(long)]
    pub json: bool,

    /// The mount's options, as mount(8) has them
    #[arg(short, value_name = "OPT[,OPT…]")]
    pub options: Vec<String>,

    #[command(flatten)]
    pub settings: Settings,
}

/// The whole command line: that of a mount, and the subcommands beside it.
pub fn command() -> clap::Command {
    Command::augment_subcommands(MountArguments::command())
}

/// How the vault is reached, and as whom.
#[derive(Debug, Args)]
pub(super) struct ConnectionArguments {
    /// Which service hands out tokens
    #[arg(
        long,
        value_name = "KIND",
        default_value = "auto",
        help_heading = "Identity"
    )]
    pub identity: IdentityKind,

    /// Where to ask for tokens, in place of the kind's own address
    ///
    /// A URL without a path gets the kind's standard path. It must be https, or http on this
    /// machine (loopback or link-local). AZURE_POD_IDENTITY_AUTHORITY_HOST sets it for `imds`.
    #[arg(long, value_name = "URL", help_heading = "Identity")]
    pub identity_endpoint: Option<String>,

    /// The user-assigned identity, or the application, with this client id
    #[arg(long, value_name = "ID", help_heading = "Identity")]
    pub client_id: Option<String>,

    /// The user-assigned identity with this object (principal) id
    #[arg(long, value_name = "ID", help_heading = "Identity")]
    pub object_id: Option<String>,

    /// The user-assigned identity with this Azure resource id
    #[arg(long, value_name = "ID", help_heading = "Identity")]
    pub identity_resource_id: Option<String>,

    /// The directory (tenant) of the application that is meant, for `workload-identity` and
    /// `client-secret` [default: AZURE_TENANT_ID]
    #[arg(long, value_name = "ID", help_heading = "Identity")]
    pub tenant_id: Option<String>,

    /// The file with the application's secret, for `client-secret`, which the worker's user must
    /// be able to read [default: the secret in AZURE_CLIENT_SECRET]
    #[arg(long, value_name = "PATH", help_heading = "Identity")]
    pub client_secret_file: Option<PathBuf>,

    /// The audience of tokens; needed for a vault whose host is of no known cloud [default: from
    /// the vault's host]
    #[arg(long, value_name = "URL", help_heading = "Identity")]
    pub resource: Option<String>,

    /// Key Vault's data-plane version
    #[arg(
        long,
        value_name = "VERSION",
        default_value = "7.6",
        help_heading = "Vault"
    )]
    pub api_version: String,

    /// Trust the certificates in this PEM file too; may be repeated
    #[arg(long, value_name = "PEM", help_heading = "Vault")]
    pub ca_cert: Vec<PathBuf>,

    /// The longest any file operation may take
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = positive_duration,
        help_heading = "Vault"
    )]
    pub timeout: Duration,

    /// How long an idle connection is kept
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5s",
        value_parser = duration,
        help_heading = "Vault"
    )]
    pub keep_alive: Duration,

    /// How long a pulled value may serve later opens; 0: every open pulls
    ///
    /// A set through this mount replaces what is kept at once. That a name is not there is
    /// remembered as long, at most 5 seconds.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "0",
        value_parser = duration,
        help_heading = "Vault"
    )]
    pub cache_ttl: Duration,

    /// How long past that a value may serve when the vault cannot be reached
    ///
    /// Or when it answers 408, 429 or 5xx; never when it answers 401, 403 or 404.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "0",
        value_parser = duration,
        help_heading = "Vault"
    )]
    pub stale_if_error: Duration,

    /// Azure Resource Manager, for storage accounts' keys [default: the cloud's]
    #[arg(long, value_name = "URL", help_heading = "Vault")]
    pub arm_endpoint: Option<String>,

    /// The proxy to the vault; never used for identity [default: HTTPS_PROXY, unless NO_PROXY
    /// names the vault's host]
    #[arg(long, value_name = "URL", help_heading = "Vault")]
    pub proxy: Option<String>,
}

/// What the files look like, and what may be done to them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
pub(super) struct FileArguments {
    /// Show the keys of the storage account with this Azure resource id, under .storage; may be
    /// repeated
    #[arg(long, value_name = "ARM_ID", value_parser = StorageAccount::parse)]
    pub storage_account: Vec<StorageAccount>,

    /// Owner of the files, by name or number [default: who mounts]
    #[arg(long, value_name = "USER")]
    pub uid: Option<String>,

    /// Group of the files, by name or number [default: who mounts]
    #[arg(long, value_name = "GROUP")]
    pub gid: Option<String>,

    /// Permissions of the files, in octal, out of 0666 [default: 0600]
    #[arg(long, value_name = "MODE", value_parser = permission_bits::<0o666>)]
    pub file_mode: Option<u16>,

    /// Permissions of the directory, in octal, out of 0333 [default: from the file mode]
    ///
    /// By default `x` for whoever may read or write files and `w` for whoever may write them: 0600
    /// gives 0300, 0440 gives 0110. Never `r`: the vault is not listed.
    #[arg(long, value_name = "MODE", value_parser = permission_bits::<0o333>)]
    pub dir_mode: Option<u16>,

    /// Let other users in, as far as owner and permissions let them
    #[arg(long)]
    pub allow_other: bool,

    /// Refuse every write locally; files are 0400, the directory 0100
    #[arg(long)]
    pub read_only: bool,

    /// Do not ask, before the first write to a name, whether it may be set
    #[arg(long)]
    pub no_set_check: bool,

    /// Drop one trailing newline from what is written
    #[arg(long)]
    pub trim_newline: bool,

    /// Let what is written expire this long after it is set
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub expires_in: Option<Duration>,

    /// Give what is written this content type [default: that of the version before]
    #[arg(long, value_name = "TYPE", value_parser = content_type)]
    pub content_type: Option<String>,

    /// Give what is written this tag, besides those of the version before; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag)]
    pub tag: Vec<(String, String)>,
}

/// The processes behind the mount.
#[derive(Debug, Args)]
#[command(next_help_heading = "Process")]
pub(super) struct ProcessArguments {
    /// Whom the worker runs as, if root mounts; in fstab `worker-user` [default: keyvaultfs if
    /// there is such a user, else nobody]
    // mount(8) takes `user=NAME` in fstab for itself and passes on a bare `user`.
    #[arg(long, value_name = "NAME", visible_alias = "worker-user")]
    pub user: Option<String>,

    /// The least severe level that is logged
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,

    /// How a log line looks
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

impl ValueEnum for IdentityKind {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Auto => "Whichever this machine offers, in the order of Microsoft's SDKs",
            Self::Imds => "The Instance Metadata Service, at 169.254.169.254",
            Self::VmExtension => "The VM extension of the Data Science VM, at localhost:50342",
            Self::AppService => "App Service, Functions and Container Apps",
            Self::AzureMl => "Azure Machine Learning",
            Self::AzureArc => "The agent of Azure Arc, on machines outside Azure",
            Self::ServiceFabric => "A Service Fabric node",
            Self::CloudShell => "Cloud Shell: the tokens are the user's",
            Self::WorkloadIdentity => "An application, for a token that Kubernetes signed",
            Self::ClientSecret => "An application, for its secret",
            Self::AzureCli => "Whoever is logged in with az",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl ValueEnum for LogLevel {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Error,
            Self::Warn,
            Self::Info,
            Self::Debug,
            Self::Trace,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }))
    }
}

impl ValueEnum for LogFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Text, Self::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Text => "text",
            Self::Json => "json",
        }))
    }
}
