//! Which token is wanted, and what the configuration says of how to get it: what every source is
//! made from.

#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;

use url::Url;

use super::surroundings::Surroundings;
use crate::azure::tls::SetupError;
use crate::config::{Config, IdentityEndpoint, IdentitySelector, VaultUrl};

/// A token's audience and the identity it is for.
#[derive(Clone)]
pub(super) struct Wanted<'a> {
    pub resource: &'a str,
    pub vault: &'a VaultUrl,
    pub endpoint: Option<IdentityEndpoint>,
    pub selector: Option<IdentitySelector>,
    pub tenant: Option<&'a str>,
    pub client_secret_file: Option<&'a Path>,
    pub surroundings: Arc<Surroundings>,
}

impl<'a> Wanted<'a> {
    /// What `config` wants.
    pub(super) fn new(config: &'a Config, surroundings: Arc<Surroundings>) -> Self {
        let identity = &config.identity;
        Self {
            resource: &config.resource,
            vault: &config.vault,
            endpoint: identity.endpoint.clone(),
            selector: identity.selector.clone(),
            tenant: identity.tenant.as_deref(),
            client_secret_file: identity.client_secret_file.as_deref(),
            surroundings,
        }
    }

    /// The endpoint of the configuration, or the one that `variable` names.
    pub(super) fn endpoint_in(
        &self,
        variable: &str,
    ) -> Result<Option<IdentityEndpoint>, SetupError> {
        if self.endpoint.is_some() {
            return Ok(self.endpoint.clone());
        }
        let named = self.surroundings.variable(variable);
        let parsed = named.map(|text| IdentityEndpoint::parse(&text)).transpose();
        parsed.map_err(|error| SetupError::Identity(format!("{variable}: {error}")))
    }

    /// The same for a service whose address is nowhere else to be had.
    pub(super) fn endpoint_from(&self, kind: &str, variable: &str) -> Result<Url, SetupError> {
        match self.endpoint_in(variable)? {
            Some(endpoint) => Ok(endpoint.with_default_path("/")),
            None => Err(SetupError::Identity(format!(
                "--identity {kind} needs the variable {variable}, which is not set here, or \
                 --identity-endpoint"
            ))),
        }
    }

    /// The client id of the selector, for services that know identities by nothing else.
    pub(super) fn client_id(&self, kind: &str) -> Result<Option<String>, SetupError> {
        match &self.selector {
            None => Ok(None),
            Some(IdentitySelector::ClientId(id)) => Ok(Some(id.clone())),
            Some(_) => Err(SetupError::Identity(format!(
                "--identity {kind} knows identities by --client-id alone"
            ))),
        }
    }

    /// An error if an identity is selected, for services that have only one.
    pub(super) fn refuse_selector(&self, kind: &str) -> Result<(), SetupError> {
        match &self.selector {
            None => Ok(()),
            Some(_) => Err(SetupError::Identity(format!(
                "--identity {kind} has one identity; leave out --client-id, --object-id and \
                 --identity-resource-id"
            ))),
        }
    }
}
