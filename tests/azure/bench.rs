//! An emulator and a client of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Deref;
use std::time::{Duration, Instant};

use keyvaultfs::azure::KeyVault;
use keyvaultfs::cli;
use keyvaultfs::config::Config;
use keyvaultfs::emulator::{Emulator, Endpoints, Operation, Options};
use keyvaultfs::secret_bytes::SecretBytes;
use keyvaultfs::secrets::{
    Checked, NewSecret, Properties, Secret, SecretName, SecretStore, SecretVersion, StoreError,
};

/// How long a call may take where a test says nothing else: long enough for every retry.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// An emulator, and a client that speaks to it. Derefs to the emulator's controls.
pub(crate) struct Bench {
    emulator: Emulator,
    pub(crate) vault: KeyVault,
}

impl Deref for Bench {
    type Target = Emulator;

    fn deref(&self) -> &Emulator {
        &self.emulator
    }
}

impl Bench {
    /// Both as they are by default.
    pub(crate) fn new() -> Self {
        Self::with(Options::default(), |_| {})
    }

    /// An emulator with `options` and a client whose configuration `adjust` changes.
    pub(crate) fn with(options: Options, adjust: impl FnOnce(&mut Config)) -> Self {
        let emulator = Emulator::start(options).unwrap();
        let mut config = config(&emulator);
        adjust(&mut config);
        let vault = KeyVault::new(&config).unwrap();
        Self { emulator, vault }
    }

    /// These two.
    pub(crate) fn of(emulator: Emulator, vault: KeyVault) -> Self {
        Self { emulator, vault }
    }

    /// The same emulator, and a client whose configuration `adjust` changes, which may need to
    /// know where the emulator listens.
    pub(crate) fn rebuilt(self, adjust: impl FnOnce(&mut Config, &Endpoints)) -> Self {
        let mut config = config(&self.emulator);
        adjust(&mut config, self.emulator.endpoints());
        let vault = KeyVault::new(&config).unwrap();
        Self { vault, ..self }
    }

    /// Reads the current version of `name`.
    pub(crate) async fn get(&self, name: &str) -> Result<Secret, StoreError> {
        self.get_within(name, LONG).await
    }

    /// The same, for at most `time`.
    pub(crate) async fn get_within(
        &self,
        name: &str,
        time: Duration,
    ) -> Result<Secret, StoreError> {
        let name = SecretName::parse(name).unwrap();
        self.vault.get(&name, None, Instant::now() + time).await
    }

    /// Reads a version.
    pub(crate) async fn get_version(
        &self,
        name: &str,
        version: &str,
    ) -> Result<Secret, StoreError> {
        let name = SecretName::parse(name).unwrap();
        let version = SecretVersion::parse(version).unwrap();
        let deadline = Instant::now() + LONG;
        self.vault.get(&name, Some(&version), deadline).await
    }

    /// Sets `name`, whose current version was `previous`, for at most `time`.
    pub(crate) async fn set_within(
        &self,
        name: &str,
        value: &[u8],
        previous: Option<&str>,
        time: Duration,
    ) -> Result<Properties, StoreError> {
        let name = SecretName::parse(name).unwrap();
        let mut new = new_secret(value);
        new.previous = previous.and_then(SecretVersion::parse);
        self.vault.set(&name, &new, Instant::now() + time).await
    }

    /// Asks whether `name` may be set.
    pub(crate) async fn check_set(&self, name: &str) -> Result<Checked, StoreError> {
        let name = SecretName::parse(name).unwrap();
        self.vault.check_set(&name, Instant::now() + LONG).await
    }

    /// The values of all versions of `name`, oldest first.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let versions = self.versions(name).into_iter();
        versions.map(|version| version.value).collect()
    }

    /// How many GETs of secrets came.
    pub(crate) fn gets(&self) -> usize {
        self.count(Operation::Get)
    }

    /// How many PUTs of secrets came.
    pub(crate) fn sets(&self) -> usize {
        self.count(Operation::Set)
    }

    /// How many requests for tokens came.
    pub(crate) fn tokens(&self) -> usize {
        self.count(Operation::Token)
    }
}

/// A new version without content type and tags.
pub(crate) fn new_secret(value: &[u8]) -> NewSecret {
    NewSecret {
        value: SecretBytes::new(value.to_vec()),
        content_type: None,
        tags: BTreeMap::new(),
        expires: None,
        previous: None,
    }
}

/// A mount of the emulator's vault with tokens from its IMDS, as the command line makes it.
pub(crate) fn config(emulator: &Emulator) -> Config {
    let endpoints = emulator.endpoints();
    let words = [
        "keyvaultfs".to_owned(),
        "--identity=imds".to_owned(),
        format!("--identity-endpoint={}", endpoints.imds),
        format!("--resource={}", endpoints.resource),
        format!("--ca-cert={}", endpoints.ca_cert.display()),
        endpoints.vault.clone(),
        "/".to_owned(),
    ];
    let config = cli::config(&words.map(OsString::from)).unwrap();
    // Not the one of whoever runs the tests.
    Config {
        proxy: None,
        ..config
    }
}
