//! How the program ends, as a number. The numbers are a promise to scripts: they are listed in
//! `--help` and the README, and one that was given out is never given another meaning.
//!
//! As a mount helper the program speaks mount(8)'s codes instead.

#![forbid(unsafe_code)]

/// An exit code of `keyvaultfs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Mounted; or unmounted again, in the foreground.
    Success = 0,
    /// Something that should not happen.
    Unexpected = 1,
    /// Unknown option, missing argument, bad value.
    Usage = 2,
    /// The vault is no vault's name, host or `https://` URL.
    Vault = 3,
    /// The identity options contradict each other or are malformed.
    Identity = 4,
    /// The vault's cloud is not known and `--resource` is missing.
    Resource = 5,
    /// A `--ca-cert` cannot be read or holds no certificate.
    CaCertificate = 6,
    /// The proxy is not usable.
    Proxy = 7,
    /// No such user or group.
    Account = 8,
    /// The mountpoint does not exist or cannot be reached.
    MountpointMissing = 9,
    /// The mountpoint is not a directory.
    MountpointNotDirectory = 10,
    /// Something is mounted there already.
    AlreadyMounted = 11,
    /// /dev/fuse or fusermount3 is missing.
    FuseUnavailable = 12,
    /// The kernel or fusermount3 refused the mount.
    MountRefused = 13,
    /// The process that talks to the vault did not start.
    WorkerFailed = 14,
    /// The process that owns the mount did not start.
    KeeperFailed = 15,
    /// The mount was not ready in time.
    NotReady = 16,
    /// The doctor: FUSE cannot be used here.
    DoctorFuse = 20,
    /// The doctor: there is no token.
    DoctorToken = 21,
    /// The doctor: the vault's host has no address.
    DoctorName = 22,
    /// The doctor: the vault does not answer, or not over trusted TLS.
    DoctorConnection = 23,
    /// The doctor: the clock is wrong.
    DoctorClock = 24,
    /// The doctor: secrets may not be read.
    DoctorGet = 25,
    /// The doctor: secrets may not be set.
    DoctorSet = 26,
    /// The doctor: the worker cannot reach the identity service.
    DoctorExposure = 27,
    /// Interrupted while the mount was being made. What a shell calls a death by SIGINT.
    Interrupted = 130,
}

impl ExitCode {
    /// Every code, in order.
    pub const ALL: [Self; 26] = [
        Self::Success,
        Self::Unexpected,
        Self::Usage,
        Self::Vault,
        Self::Identity,
        Self::Resource,
        Self::CaCertificate,
        Self::Proxy,
        Self::Account,
        Self::MountpointMissing,
        Self::MountpointNotDirectory,
        Self::AlreadyMounted,
        Self::FuseUnavailable,
        Self::MountRefused,
        Self::WorkerFailed,
        Self::KeeperFailed,
        Self::NotReady,
        Self::DoctorFuse,
        Self::DoctorToken,
        Self::DoctorName,
        Self::DoctorConnection,
        Self::DoctorClock,
        Self::DoctorGet,
        Self::DoctorSet,
        Self::DoctorExposure,
        Self::Interrupted,
    ];

    /// The number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// What it tells, as in `--help` and the README.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Success => "mounted, or unmounted again if in the foreground",
            Self::Unexpected => "an error that should not happen",
            Self::Usage => "unknown option, missing argument or bad value",
            Self::Vault => "not a vault's name, host or https:// URL",
            Self::Identity => "identity options that contradict each other or are malformed",
            Self::Resource => "a vault of no known cloud, and no --resource",
            Self::CaCertificate => "a --ca-cert cannot be read or holds no certificate",
            Self::Proxy => "a proxy that cannot be used",
            Self::Account => "no such user or group",
            Self::MountpointMissing => "the mountpoint does not exist or cannot be reached",
            Self::MountpointNotDirectory => "the mountpoint is not a directory",
            Self::AlreadyMounted => "something is mounted there already",
            Self::FuseUnavailable => "/dev/fuse or fusermount3 is missing",
            Self::MountRefused => "the mount was refused",
            Self::WorkerFailed => "the worker, which talks to the vault, did not start",
            Self::KeeperFailed => "the keeper, which owns the mount, did not start",
            Self::NotReady => "the mount was not ready in time",
            Self::DoctorFuse => "doctor: FUSE cannot be used here",
            Self::DoctorToken => "doctor: there is no token",
            Self::DoctorName => "doctor: the vault's host has no address",
            Self::DoctorConnection => "doctor: the vault does not answer, or not over trusted TLS",
            Self::DoctorClock => "doctor: the clock is wrong",
            Self::DoctorGet => "doctor: secrets may not be read",
            Self::DoctorSet => "doctor: secrets may not be set",
            Self::DoctorExposure => "doctor: the worker cannot reach the identity service",
            Self::Interrupted => "interrupted before the mount was ready; nothing is mounted",
        }
    }

    /// The same as a mount helper says it: mount(8), section "EXIT STATUS".
    pub fn as_mount_helper(self) -> u8 {
        const INCORRECT_INVOCATION: u8 = 1;
        const SYSTEM_ERROR: u8 = 2;
        const USER_INTERRUPT: u8 = 8;
        const MOUNT_FAILURE: u8 = 32;
        match self {
            Self::Success => 0,
            // A mount helper has no doctor.
            Self::Unexpected
            | Self::DoctorFuse
            | Self::DoctorToken
            | Self::DoctorName
            | Self::DoctorConnection
            | Self::DoctorClock
            | Self::DoctorGet
            | Self::DoctorSet
            | Self::DoctorExposure => SYSTEM_ERROR,
            Self::Usage
            | Self::Vault
            | Self::Identity
            | Self::Resource
            | Self::CaCertificate
            | Self::Proxy
            | Self::Account => INCORRECT_INVOCATION,
            Self::MountpointMissing
            | Self::MountpointNotDirectory
            | Self::AlreadyMounted
            | Self::FuseUnavailable
            | Self::MountRefused
            | Self::WorkerFailed
            | Self::KeeperFailed
            | Self::NotReady => MOUNT_FAILURE,
            Self::Interrupted => USER_INTERRUPT,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

/// The table that `--help` ends with.
pub(super) fn help() -> String {
    let rows = ExitCode::ALL.map(|code| format!("  {:>3}  {}", code.number(), code.meaning()));
    format!("Exit codes:\n{}", rows.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_given_once_and_in_order() {
        let numbers = ExitCode::ALL.map(ExitCode::number);
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    }
}
