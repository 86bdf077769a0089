//! Which of the mounter's environment variables the processes of a mount keep.
//!
//! These and no others: a daemon has its environment in memory, and root finds it in /proc, for
//! as long as it lives, which may be months.

#![forbid(unsafe_code)]

use super::IdentityKind;

/// A process that lives as long as the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The keeper; it also keeps what its workers are to have.
    Keeper,
    /// A worker.
    Worker,
}

/// Where programs are found, backtraces, and whether stderr is the journal: systemd.exec(5).
const BOTH: [&str; 3] = ["JOURNAL_STREAM", "PATH", "RUST_BACKTRACE"];

/// The service manager: sd_notify(3), sd_watchdog_enabled(3).
const SERVICE_MANAGER: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// The certificates to trust, and what identity services and Microsoft's SDKs put into the
/// environment that is no secret.
const WORKER: [&str; 12] = [
    "AZURE_AUTHORITY_HOST",
    "AZURE_CLIENT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "AZURE_TENANT_ID",
    "DEFAULT_IDENTITY_CLIENT_ID",
    "IDENTITY_ENDPOINT",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// What az needs to find its user's login and to reach Entra.
const AZ: [&str; 16] = [
    "ALL_PROXY",
    "AZURE_CONFIG_DIR",
    "AZURE_EXTENSION_DIR",
    "CURL_CA_BUNDLE",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LC_ALL",
    "NO_PROXY",
    "REQUESTS_CA_BUNDLE",
    "USER",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Whether `process` keeps the variable `name` for tokens of this kind. A secret is kept only for
/// the kinds that use it.
pub fn is_kept(name: &str, process: Process, kind: IdentityKind) -> bool {
    use IdentityKind::{AppService, Auto, AzureCli, AzureMl, ClientSecret, ServiceFabric};
    let kinds: &[IdentityKind] = match name {
        _ if BOTH.contains(&name) || WORKER.contains(&name) => return true,
        _ if SERVICE_MANAGER.contains(&name) => return process == Process::Keeper,
        "AZURE_CLIENT_SECRET" => &[Auto, ClientSecret],
        "IDENTITY_HEADER" => &[Auto, AppService, ServiceFabric],
        "MSI_SECRET" => &[Auto, AzureMl],
        _ if AZ.contains(&name) => &[Auto, AzureCli],
        _ => &[],
    };
    kinds.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_kept_for_the_kinds_that_use_them() {
        let kept = |name, kind| is_kept(name, Process::Worker, kind);
        for (name, kind) in [
            ("AZURE_CLIENT_SECRET", IdentityKind::ClientSecret),
            ("IDENTITY_HEADER", IdentityKind::AppService),
            ("IDENTITY_HEADER", IdentityKind::ServiceFabric),
            ("MSI_SECRET", IdentityKind::AzureMl),
            ("HTTPS_PROXY", IdentityKind::AzureCli),
        ] {
            assert!(kept(name, kind) && kept(name, IdentityKind::Auto), "{name}");
            assert!(!kept(name, IdentityKind::Imds), "{name}");
        }
        assert!(!kept("AWS_SECRET_ACCESS_KEY", IdentityKind::Auto));
        assert!(!kept("AZURE_STORAGE_KEY", IdentityKind::AzureCli));
    }

    #[test]
    fn the_service_manager_is_the_keepers_affair() {
        for (process, kept) in [(Process::Keeper, true), (Process::Worker, false)] {
            assert_eq!(is_kept("NOTIFY_SOCKET", process, IdentityKind::Imds), kept);
        }
    }
}
