//! Single questions about a vault and the identity that is to open it, for `doctor`: where a store
//! goes on if it can, this tells what was seen.
//!
//! Nothing is stored, listed or deleted: secrets of a random name are asked for, and set with a
//! body that no vault can take.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant, SystemTime};

use reqwest::Method;
use url::Url;

use super::key_vault::KeyVault;
use super::retry;
use super::tls::SetupError;
use super::token::{Candidate, Claims};
use crate::config::Config;
use crate::secrets::{Failure, SecretName, SecretStore, StoreError};

/// A vault under examination. Its futures need a tokio runtime.
pub struct Diagnosis {
    vault: KeyVault,
    probe: SecretName,
}

/// A token, as far as it may be shown.
#[derive(Debug, Clone)]
pub struct Grant {
    /// What it says of itself.
    pub claims: Claims,
    /// How long it is good for.
    pub left: Duration,
}

impl Diagnosis {
    /// Gets ready to ask about the vault of `config`.
    ///
    /// # Errors
    ///
    /// As for [`KeyVault::new`].
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        let mut random = [0; 16];
        // Without randomness it is all zeros, and as unlikely a name as any other.
        let _ = getrandom::fill(&mut random);
        let name = format!("keyvaultfs-doctor-{:032x}", u128::from_be_bytes(random));
        Ok(Self {
            vault: KeyVault::new(config)?,
            probe: SecretName::parse(&name).expect("letters, digits and dashes are a name"),
        })
    }

    /// Which identity service is asked, and why; with `auto` it is known once there is a token.
    pub fn identity(&self) -> Candidate {
        self.vault.client.tokens().candidate()
    }

    /// Where it is asked; `None` if it is a program.
    pub fn identity_endpoint(&self) -> Option<Url> {
        self.vault.client.tokens().endpoint()
    }

    /// Asks the identity service for a token.
    pub async fn token(&self, deadline: Instant) -> Result<Grant, StoreError> {
        let token = self.vault.client.held_token(deadline).await?;
        Ok(Grant {
            claims: token.claims.clone(),
            left: token.left(),
        })
    }

    /// Asks the vault for anything, without a token: that it answers at all, over trusted TLS, is
    /// what is wanted. Returns its clock, in whole seconds, if it shows one.
    pub async fn reach(&self, deadline: Instant) -> Result<Option<SystemTime>, StoreError> {
        let mut call = self.vault.call(Method::GET, &self.probe, None);
        call.what = format!("a request to {}", self.vault.client.vault().host());
        let answer = self.vault.client.knock(&call, deadline).await?;
        Ok(retry::date(&answer.headers))
    }

    /// Asks whether secrets may be read. An error is a refusal, or that there was no clear answer.
    pub async fn get(&self, deadline: Instant) -> Result<(), StoreError> {
        match self.vault.get(&self.probe, None, deadline).await {
            Err(error) if error.failure != Failure::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks whether secrets may be set. An error is a refusal, or that there was no clear answer.
    pub async fn set(&self, deadline: Instant) -> Result<(), StoreError> {
        match self.vault.ask_set(&self.probe, deadline).await {
            Err(error) if error.status != Some(400) => Err(error),
            _ => Ok(()),
        }
    }
}
