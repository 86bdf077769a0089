//! Everything a test may do to a running emulator, from any thread.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::mpsc;

use super::azure_arc::Agent;
use super::certificates::CertificateFormat;
use super::credentials::Credentials;
use super::faults::Fault;
use super::identity::Identity;
use super::log::{Entry, Operation};
use super::policy::Permission;
use super::request::Service;
use super::resource_manager::{KeyAccess, StorageAccount};
use super::server::{Command, Order};
use super::state::{State, random_hex};
use super::tls::Certificate;
use super::vault::{Deletion, SecretVersion, Settings};

/// Where an emulator listens, and what a client must be told to use it.
#[derive(Debug, Clone, Serialize)]
pub struct Endpoints {
    /// The vault's URL, without a slash at the end.
    pub vault: String,
    /// The Instance Metadata Service's token endpoint.
    pub imds: String,
    /// The VM extension's token endpoint.
    pub vm_extension: String,
    /// The token endpoint of App Service, `IDENTITY_ENDPOINT`.
    pub app_service: String,
    /// Azure Machine Learning's, `MSI_ENDPOINT`.
    pub azure_ml: String,
    /// That of Azure Arc's agent, `IDENTITY_ENDPOINT`. Its keys are in the directory of Arc's,
    /// below `root`.
    pub azure_arc: String,
    /// Service Fabric's, `IDENTITY_ENDPOINT`.
    pub service_fabric: String,
    /// Cloud Shell's, `MSI_ENDPOINT`.
    pub cloud_shell: String,
    /// The directory, `AZURE_AUTHORITY_HOST`.
    pub entra: String,
    /// Azure Resource Manager's URL, without a slash at the end.
    pub resource_manager: String,
    /// What the identity services know their clients by.
    pub credentials: Credentials,
    /// The emulator's controls.
    pub control: String,
    /// The vault's token audience.
    pub resource: String,
    /// The certificate to trust, in PEM.
    pub ca_cert: PathBuf,
    /// The emulator's own directory, which ends with it; in place of `/` for Azure Arc's keys.
    pub root: PathBuf,
}

impl Endpoints {
    /// Names the ports, and writes the certificate where other users can read it too.
    pub(super) fn new(
        port: impl Fn(Service) -> u16,
        resource: &str,
        ca_pem: &str,
        credentials: &Credentials,
    ) -> io::Result<Self> {
        let (root, ca_cert) = write_certificate(ca_pem)?;
        let at = |service, path| format!("http://127.0.0.1:{}{path}", port(service));
        let over_tls = |service, path| format!("https://localhost:{}{path}", port(service));
        let token = "/metadata/identity/oauth2/token";
        Ok(Self {
            vault: over_tls(Service::KeyVault, ""),
            app_service: at(Service::AppService, "/msi/token"),
            azure_ml: at(Service::AzureMl, "/MSI/auth"),
            azure_arc: at(Service::AzureArc, token),
            service_fabric: over_tls(Service::ServiceFabric, token),
            cloud_shell: at(Service::CloudShell, "/oauth2/token"),
            entra: over_tls(Service::Entra, "/"),
            resource_manager: over_tls(Service::ResourceManager, ""),
            credentials: credentials.clone(),
            imds: at(Service::Imds, token),
            vm_extension: at(Service::VmExtension, "/oauth2/token"),
            control: at(Service::Control, ""),
            resource: resource.to_owned(),
            ca_cert,
            root,
        })
    }
}

/// A handle on a running emulator; clones mean the same one. Once it has stopped, what is known
/// can still be read.
#[derive(Debug, Clone)]
pub struct Controls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    endpoints: Endpoints,
    orders: mpsc::UnboundedSender<Order>,
}

impl Controls {
    pub(super) fn new(
        state: State,
        endpoints: Endpoints,
        orders: mpsc::UnboundedSender<Order>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                endpoints,
                orders,
            }),
        }
    }

    /// Works on the state, alone.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.shared.state.lock())
    }

    /// Where the emulator listens.
    pub fn endpoints(&self) -> &Endpoints {
        &self.shared.endpoints
    }

    /// Puts Azure Arc's keys below this root, such as `/`, in place of the emulator's own.
    pub fn set_arc_root(&self, root: &Path) {
        self.with(|state| state.arc = Agent::new(root));
    }

    /// Gives a secret a new version with this value, whatever the policy. Returns the version.
    pub fn set_secret(&self, name: &str, value: &str) -> String {
        self.set_secret_with(name, value, Settings::default())
    }

    /// The same, with content type, tags and the rest.
    pub fn set_secret_with(&self, name: &str, value: &str, settings: Settings) -> String {
        self.with(|state| {
            let now = state.clock.now();
            state
                .vault
                .add_version(name, value.to_owned(), settings, now)
        })
    }

    /// All versions of a secret, oldest first; empty if there is none.
    pub fn versions(&self, name: &str) -> Vec<SecretVersion> {
        self.with(|state| {
            let secret = state.vault.secret(name);
            secret
                .map(|found| found.versions.clone())
                .unwrap_or_default()
        })
    }

    /// The names of all secrets, as they were first spelled.
    pub fn secret_names(&self) -> Vec<String> {
        self.with(|state| {
            let secrets = state.vault.secrets();
            secrets.map(|secret| secret.name.clone()).collect()
        })
    }

    /// Enables or disables the current version. `false` if there is no such secret.
    pub fn set_enabled(&self, name: &str, enabled: bool) -> bool {
        self.with(|state| {
            let now = state.clock.now();
            let Some(version) = state
                .vault
                .secret_mut(name)
                .and_then(|secret| secret.versions.last_mut())
            else {
                return false;
            };
            version.settings.enabled = enabled;
            version.updated = now;
            true
        })
    }

    /// Makes a certificate for `host` and keeps it, so that a secret of the same name has its key
    /// and its chain. Returns the version.
    ///
    /// # Errors
    ///
    /// No certificate could be made, as for a host that is no name.
    pub fn keep_certificate(
        &self,
        name: &str,
        host: &str,
        format: CertificateFormat,
    ) -> io::Result<String> {
        let value = format.issue(host)?;
        let settings = Settings {
            content_type: Some(format.content_type().to_owned()),
            ..Settings::default()
        };
        let version = self.set_secret_with(name, &value, settings);
        self.set_managed(name, true);
        Ok(version)
    }

    /// Gives the storage account with this resource id new keys, and lets them be listed or not;
    /// makes the account if it is not there. Returns the keys.
    pub fn set_storage_account(&self, id: &str, access: KeyAccess) -> [String; 2] {
        let account = StorageAccount {
            access,
            ..StorageAccount::new()
        };
        let keys = account.keys.clone();
        self.with(|state| {
            state
                .storage_accounts
                .insert(id.to_ascii_lowercase(), account)
        });
        keys
    }

    /// Puts a secret in the care of a certificate, or takes it out. `false` if there is none.
    pub fn set_managed(&self, name: &str, managed: bool) -> bool {
        self.with(|state| match state.vault.secret_mut(name) {
            Some(secret) => {
                secret.managed = managed;
                true
            }
            None => false,
        })
    }

    /// Deletes or recovers a secret. `false` if there is no such secret.
    pub fn set_deletion(&self, name: &str, deletion: Deletion) -> bool {
        self.with(|state| match state.vault.secret_mut(name) {
            Some(secret) => {
                secret.deletion = deletion;
                true
            }
            None => false,
        })
    }

    /// Replaces what the vault's policy grants.
    pub fn set_policy(&self, granted: impl IntoIterator<Item = Permission>) {
        let granted: BTreeSet<Permission> = granted.into_iter().collect();
        self.with(|state| state.policy = granted);
    }

    /// Replaces the machine's identities. Tokens of those that go stay valid.
    pub fn set_identities(&self, identities: impl IntoIterator<Item = Identity>) {
        let identities: Vec<Identity> = identities.into_iter().collect();
        self.with(|state| state.identities = identities);
    }

    /// How many requests a second the vault answers; it throttles the rest.
    pub fn set_rate_limit(&self, limit: Option<u32>) {
        self.with(|state| state.budget.limit = limit);
    }

    /// How long tokens live that are issued from now on, in seconds.
    pub fn set_token_lifetime(&self, seconds: i64) {
        self.with(|state| state.tokens.lifetime = seconds);
    }

    /// Makes the vault refuse every token issued so far.
    pub fn revoke_tokens(&self) {
        self.with(|state| state.tokens.revoke_all());
    }

    /// Makes vault and Resource Manager refuse every token that the directory was not asked for with these claims, in
    /// JSON.
    pub fn demand_claims(&self, claims: &str) {
        self.with(|state| state.tokens.demanded = Some(claims.to_owned()));
    }

    /// Sets how many seconds the emulator's clock is ahead of this machine's.
    pub fn set_clock_skew(&self, seconds: i64) {
        self.with(|state| state.clock.skew = seconds);
    }

    /// Adds a fault. Returns the number it can be removed by.
    pub fn add_fault(&self, fault: Fault) -> u64 {
        self.with(|state| state.faults.add(fault))
    }

    /// Removes a fault and releases what hangs on it. `false` if there is none of that number.
    pub fn remove_fault(&self, id: u64) -> bool {
        self.with(|state| state.faults.remove(id))
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.with(|state| state.faults.clear());
    }

    /// The requests since the start or the last [`Controls::clear_log`], in order of arrival.
    pub fn log(&self) -> Vec<Entry> {
        self.with(|state| state.log.entries().to_vec())
    }

    /// How many of them asked for that.
    pub fn count(&self, operation: Operation) -> usize {
        self.with(|state| {
            let entries = state.log.entries().iter();
            entries.filter(|entry| entry.operation == operation).count()
        })
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.with(|state| state.log.clear());
    }

    /// Closes a service's port and its connections: clients are refused until it is resumed.
    ///
    /// # Errors
    ///
    /// The emulator has stopped, or the port could not be kept.
    pub fn pause(&self, service: Service) -> io::Result<()> {
        self.order(Command::Listen(service, false))
    }

    /// Opens the port again.
    ///
    /// # Errors
    ///
    /// The emulator has stopped, or the port could not be opened.
    pub fn resume(&self, service: Service) -> io::Result<()> {
        self.order(Command::Listen(service, true))
    }

    /// Shows another certificate from now on, and closes the vault's connections.
    ///
    /// # Errors
    ///
    /// The emulator has stopped, or no certificate could be made.
    pub fn set_certificate(&self, certificate: Certificate) -> io::Result<()> {
        self.order(Command::Show(certificate))
    }

    fn order(&self, command: Command) -> io::Result<()> {
        let stopped = || io::Error::new(io::ErrorKind::NotConnected, "the emulator has stopped");
        let (done, finished) = std::sync::mpsc::channel();
        self.shared
            .orders
            .send((command, done))
            .map_err(|_| stopped())?;
        finished.recv().map_err(|_| stopped())?
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Whoever removed it before has done what is wanted.
        let _ = std::fs::remove_dir_all(&self.endpoints.root);
    }
}

/// Writes the certificate into a new directory of the temporary one. Returns both.
fn write_certificate(pem: &str) -> io::Result<(PathBuf, PathBuf)> {
    let name = format!("keyvaultfs-emulator-{}", random_hex::<8>());
    let directory = std::env::temp_dir().join(name);
    // A name nobody can guess, and never a directory that is there already.
    std::fs::DirBuilder::new().mode(0o755).create(&directory)?;
    let path = directory.join("ca.pem");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&path)?;
    io::Write::write_all(&mut file, pem.as_bytes())?;
    Ok((directory, path))
}
