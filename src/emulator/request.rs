//! A request as the services see it: received whole, its query decoded, its body in memory.

use std::fmt;

use hyper::HeaderMap;
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};

/// What answers on a port of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// The Instance Metadata Service's token endpoint, plain HTTP.
    Imds,
    /// The VM extension's token endpoint, plain HTTP.
    VmExtension,
    /// The token endpoint of App Service, Functions and Container Apps, plain HTTP.
    AppService,
    /// Azure Machine Learning's token endpoint, plain HTTP.
    AzureMl,
    /// The agent of Azure Arc, plain HTTP.
    AzureArc,
    /// A Service Fabric node's token endpoint, over TLS.
    ServiceFabric,
    /// Cloud Shell's token endpoint, plain HTTP.
    CloudShell,
    /// The directory, over TLS.
    Entra,
    /// The vault, over TLS.
    KeyVault,
    /// Azure Resource Manager, over TLS.
    ResourceManager,
    /// The emulator's own controls, plain HTTP.
    Control,
}

impl Service {
    /// Every service.
    pub(super) const ALL: [Self; 11] = [
        Self::Imds,
        Self::VmExtension,
        Self::AppService,
        Self::AzureMl,
        Self::AzureArc,
        Self::ServiceFabric,
        Self::CloudShell,
        Self::Entra,
        Self::KeyVault,
        Self::ResourceManager,
        Self::Control,
    ];

    /// The word for it, in JSON and in paths.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Imds => "imds",
            Self::VmExtension => "vm-extension",
            Self::AppService => "app-service",
            Self::AzureMl => "azure-ml",
            Self::AzureArc => "azure-arc",
            Self::ServiceFabric => "service-fabric",
            Self::CloudShell => "cloud-shell",
            Self::Entra => "entra",
            Self::KeyVault => "key-vault",
            Self::ResourceManager => "resource-manager",
            Self::Control => "control",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) service: Service,
    pub(super) method: String,
    pub(super) path: String,
    /// The query as it was sent, without the question mark.
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Request {
    /// The path's segments; a trailing slash adds none.
    pub(super) fn segments(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches('/').trim_end_matches('/');
        if path.is_empty() {
            return Vec::new();
        }
        path.split('/').collect()
    }

    /// The secret a request to the vault is about.
    pub(super) fn secret(&self) -> Option<&str> {
        match (self.service, self.segments().as_slice()) {
            (Service::KeyVault, ["secrets", name, ..]) => Some(name),
            _ => None,
        }
    }

    /// The header's text, if it is there once and is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    }

    /// The query's pairs, decoded, in their order.
    pub(super) fn query_pairs(&self) -> Pairs {
        Pairs::parse(self.query.as_bytes())
    }
}

/// The pairs of a query or a form.
#[derive(Debug)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Decodes `a=b&c=d`.
    pub(super) fn parse(encoded: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// The first value under `name`.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    /// A name that is there twice.
    pub(super) fn duplicate(&self) -> Option<&str> {
        let mut seen = std::collections::BTreeSet::new();
        let (name, _) = self.0.iter().find(|(name, _)| !seen.insert(name))?;
        Some(name)
    }
}
