//! Azure Key Vault as a [`SecretStore`]: GET and PUT of secrets, and nothing else.
//!
//! Here it is decided what may be repeated: a GET always, a PUT only if the vault cannot have
//! carried it out, or after a look at the current version. The vault is never asked to list or
//! delete.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use reqwest::Method;

use super::bundle::{Bundle, body_to_set};
use super::http::{Connection, Http};
use super::retry::{self, Attempts, Cause};
use super::set_outcome::{self, Current, Outcome};
use super::storage_keys::StorageAccounts;
use super::tls::{self, SetupError};
use super::token::{Surroundings, TokenCache, TokenSource};
use super::vault_client::{Call, Effect, Failed, VaultClient};
use crate::config::{Config, StorageAccount};
use crate::secrets::{
    self, Checked, ENCODING_TAG, Failure, NewSecret, Properties, Secret, SecretName, SecretStore,
    SecretVersion, StorageKeys, StoreError, Stored,
};

/// How long the first token is waited for, in the background.
const WARM_UP: Duration = Duration::from_secs(30);

/// What is put where a PUT must not store anything: no service can take it for JSON.
const NOT_JSON: &[u8] = b"not JSON: only asks whether this secret may be set";

/// A vault and the identity that opens it.
pub struct KeyVault {
    pub(super) client: VaultClient,
    api_version: String,
    storage: Option<StorageAccounts>,
}

impl KeyVault {
    /// A client for the vault of `config`. Sends nothing yet; needs a tokio runtime when used.
    ///
    /// # Errors
    ///
    /// If a CA certificate or the proxy cannot be used, or what the identity service needs is not
    /// there.
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        Self::within(config, Surroundings::of_this_process())
    }

    /// The same, where identity services have left these surroundings instead of the process's.
    ///
    /// # Errors
    ///
    /// As for [`KeyVault::new`].
    pub fn within(config: &Config, surroundings: Surroundings) -> Result<Self, SetupError> {
        let tls = tls::client_config(&config.ca_certificates)?;
        let surroundings = Arc::new(surroundings);
        let storage = storage_accounts(config, &tls, &surroundings)?;
        let source = TokenSource::new(config, surroundings)?;
        let tokens = TokenCache::new(source, Http::for_identity(&tls)?);
        let http = Http::for_vault(config, &tls)?;
        Ok(Self {
            client: VaultClient::new(config, tokens, http),
            storage,
            api_version: config.api_version.clone(),
        })
    }

    /// Fetches the first token, so that the first file operation need not wait for it. The vault
    /// is not spoken to. That it failed is logged; whoever needs a token then will be told.
    pub async fn warm_up(&self) {
        self.client.warm_up(Instant::now() + WARM_UP).await;
    }

    /// Sends a PUT that stores nothing. An error of status 400 means that it may be set.
    pub(super) async fn ask_set(
        &self,
        name: &SecretName,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let mut call = self
            .call(Method::PUT, name, None)
            .with_json(NOT_JSON.to_vec());
        call.what.insert_str(0, "asking for permission by ");
        let sent = self.client.send(&call, Connection::Kept, deadline).await;
        sent.map(drop).map_err(|failed| failed.error)
    }

    /// The request that `method` makes of a secret's address.
    pub(super) fn call(
        &self,
        method: Method,
        name: &SecretName,
        version: Option<&SecretVersion>,
    ) -> Call {
        let vault = self.client.vault();
        let mut url = vault.url().clone();
        let (path, shown) = match version {
            Some(version) => (format!("{name}/{version}"), format!("{name}@{version}")),
            None => (name.to_string(), name.to_string()),
        };
        url.set_path(&format!("/secrets/{path}"));
        url.query_pairs_mut()
            .append_pair("api-version", &self.api_version);
        let direction = if method == Method::GET { "from" } else { "to" };
        let what = format!("{method} secret {shown} {direction} {}", vault.host());
        Call::new(what, method, url)
    }

    /// Gets a bundle, again and again within reason, and when the vault said it was made.
    async fn fetch(
        &self,
        name: &SecretName,
        version: Option<&SecretVersion>,
        deadline: Instant,
    ) -> Result<Fetched, StoreError> {
        let call = self.call(Method::GET, name, version);
        let mut attempts = Attempts::default();
        let mut connection = Connection::Kept;
        loop {
            let failed = match self.client.send(&call, connection, deadline).await {
                Ok(answer) => match Bundle::parse(answer.body.expose(), name, version) {
                    Ok(bundle) => {
                        let date = retry::date(&answer.headers);
                        return Ok(Fetched { bundle, date });
                    }
                    Err(_) => self.client.malformed(&call, &answer),
                },
                Err(failed) => failed,
            };
            connection = next_connection(&failed, connection);
            failed.pause(&mut attempts, deadline).await?;
        }
    }

    /// What became of a set that got no clear answer, sent first at `began`.
    async fn outcome(
        &self,
        name: &SecretName,
        new: &NewSecret,
        stored: &Stored,
        began: Instant,
        deadline: Instant,
    ) -> (Outcome, Option<Properties>) {
        let previous = new.previous.as_ref();
        let fetched = match self.fetch(name, None, deadline).await {
            Ok(fetched) => fetched,
            Err(error) if error.failure == Failure::NotFound => {
                return (set_outcome::judge(None, previous, None), None);
            }
            Err(error) => {
                tracing::debug!(%error, "cannot see whether a set was carried out");
                return (Outcome::Unknown, None);
            }
        };
        let value = fetched.bundle.stored.as_ref();
        let same_value = value.is_some_and(|value| value.expose() == stored.text.as_bytes());
        let now = fetched
            .date
            .and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        let started = now.and_then(|now| now.checked_sub(began.elapsed()));
        let current = Current {
            same: same_value && fetched.bundle.encoding() == stored.encoding,
            version: fetched.bundle.properties.version.clone(),
            created: fetched.bundle.properties.created,
        };
        let started = started.and_then(|started| i64::try_from(started.as_secs()).ok());
        let outcome = set_outcome::judge(Some(&current), previous, started);
        (outcome, Some(fetched.bundle.properties))
    }
}

/// The storage accounts of `config`, if it has any, with a token for Resource Manager from where
/// the vault's comes from.
fn storage_accounts(
    config: &Config,
    tls: &rustls::ClientConfig,
    surroundings: &Arc<Surroundings>,
) -> Result<Option<StorageAccounts>, SetupError> {
    let Some(storage) = &config.storage else {
        return Ok(None);
    };
    let for_resource_manager = Config {
        resource: storage.audience.clone(),
        ..config.clone()
    };
    let source = TokenSource::new(&for_resource_manager, Arc::clone(surroundings))?;
    let tokens = TokenCache::new(source, Http::for_identity(tls)?);
    let http = Http::for_resource_manager(config, tls)?;
    let client = VaultClient::of_resource_manager(storage, tokens, http);
    Ok(Some(StorageAccounts::new(storage, client)))
}

/// A bundle and the vault's clock when it was handed out.
struct Fetched {
    bundle: Bundle,
    date: Option<std::time::SystemTime>,
}

impl SecretStore for KeyVault {
    async fn get(
        &self,
        name: &SecretName,
        version: Option<&SecretVersion>,
        deadline: Instant,
    ) -> Result<Secret, StoreError> {
        let Fetched { bundle, .. } = self.fetch(name, version, deadline).await?;
        let properties = bundle.properties;
        let fail = |failure, what: &str, properties| {
            let host = self.client.vault().host();
            let mut error = StoreError::new(failure, format!("secret {name} of {host}: {what}"));
            error.hint = self.client.hint(failure);
            error.properties = Some(Box::new(properties));
            error
        };
        if !properties.enabled {
            let what = "the version is disabled";
            return Err(fail(Failure::Disabled, what, properties));
        }
        let Some(stored) = bundle.stored else {
            let what = "the answer has no value";
            return Err(fail(Failure::Malformed, what, properties));
        };
        let encoding = properties.tags.get(ENCODING_TAG);
        match secrets::decode(stored, encoding.map(String::as_str)) {
            Some(value) => Ok(Secret { value, properties }),
            None => {
                let what = "the value is not what its tag file-encoding says";
                Err(fail(Failure::Undecodable, what, properties))
            }
        }
    }

    async fn set(
        &self,
        name: &SecretName,
        new: &NewSecret,
        deadline: Instant,
    ) -> Result<Properties, StoreError> {
        let stored = secrets::encode(new.value.expose());
        let mut body = body_to_set(new, &stored);
        let call = self
            .call(Method::PUT, name, None)
            .with_json(std::mem::take(&mut *body));
        let began = Instant::now();
        let mut attempts = Attempts::default();
        let mut connection = Connection::Kept;
        loop {
            let failed = match self.client.send(&call, connection, deadline).await {
                Ok(answer) => match Bundle::parse(answer.body.expose(), name, None) {
                    Ok(bundle) => return Ok(bundle.properties),
                    Err(_) => self.client.malformed(&call, &answer),
                },
                Err(failed) => failed,
            };
            if failed.effect == Effect::Possible {
                match self.outcome(name, new, &stored, began, deadline).await {
                    (Outcome::Done, Some(properties)) => {
                        tracing::info!(error = %failed.error, "the set was carried out all the same");
                        return Ok(properties);
                    }
                    (Outcome::NotTaken, _) => {}
                    _ => return Err(failed.error),
                }
            }
            connection = next_connection(&failed, connection);
            failed.pause(&mut attempts, deadline).await?;
        }
    }

    async fn check_set(&self, name: &SecretName, deadline: Instant) -> Result<Checked, StoreError> {
        match self.ask_set(name, deadline).await {
            Err(error)
                if error.status == Some(403)
                    && matches!(error.failure, Failure::Forbidden | Failure::Managed) =>
            {
                Err(error)
            }
            // Refused as bad JSON, as it should be.
            Err(error) if error.status == Some(400) => Ok(Checked::Allowed),
            Ok(_) | Err(_) => Ok(Checked::Unknown),
        }
    }

    async fn storage_keys(
        &self,
        account: &StorageAccount,
        deadline: Instant,
    ) -> Result<StorageKeys, StoreError> {
        match &self.storage {
            Some(storage) => storage.keys(account, deadline).await,
            None => Err(StoreError::new(
                Failure::NotFound,
                "this mount has no storage accounts",
            )),
        }
    }
}

/// After a lost connection the pool's others are not trusted either.
fn next_connection(failed: &Failed, connection: Connection) -> Connection {
    match failed.cause {
        Some(Cause::ConnectionLost) => Connection::Fresh,
        _ => connection,
    }
}
