//! How tokens are got: from which service, where, and for whom.

#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::InvalidConfig;

/// How tokens are got.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IdentityConfig {
    /// Which service hands them out.
    pub kind: IdentityKind,
    /// Where it answers, if not at the kind's own address.
    pub endpoint: Option<IdentityEndpoint>,
    /// Which user-assigned identity, or which application; the machine's only or system-assigned
    /// one if `None`.
    pub selector: Option<IdentitySelector>,
    /// The directory of an application, if not the one that `AZURE_TENANT_ID` names.
    pub tenant: Option<String>,
    /// The file with an application's secret, if it is not in `AZURE_CLIENT_SECRET`. Read when a
    /// token is fetched, by whom the worker runs as.
    pub client_secret_file: Option<PathBuf>,
}

/// The services that hand out tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityKind {
    /// Whichever this machine offers, in the order of Microsoft's SDKs.
    Auto,
    /// Azure's Instance Metadata Service, on every VM.
    Imds,
    /// The VM extension's endpoint, `http://localhost:50342/oauth2/token`, on the DSVM.
    VmExtension,
    /// The endpoint of App Service, Functions and Container Apps.
    AppService,
    /// Azure Machine Learning's endpoint.
    AzureMl,
    /// The agent of Azure Arc, on machines outside Azure.
    AzureArc,
    /// A Service Fabric node's endpoint.
    ServiceFabric,
    /// Cloud Shell's endpoint: the tokens are the user's.
    CloudShell,
    /// An application's, for a token that Kubernetes signed.
    WorkloadIdentity,
    /// An application's, for its secret.
    ClientSecret,
    /// Those of whoever is logged in with the az CLI.
    AzureCli,
}

impl IdentityKind {
    /// Every kind, `auto` first.
    pub const ALL: [Self; 11] = [
        Self::Auto,
        Self::Imds,
        Self::VmExtension,
        Self::AppService,
        Self::AzureMl,
        Self::AzureArc,
        Self::ServiceFabric,
        Self::CloudShell,
        Self::WorkloadIdentity,
        Self::ClientSecret,
        Self::AzureCli,
    ];

    /// As `--identity` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Imds => "imds",
            Self::VmExtension => "vm-extension",
            Self::AppService => "app-service",
            Self::AzureMl => "azure-ml",
            Self::AzureArc => "azure-arc",
            Self::ServiceFabric => "service-fabric",
            Self::CloudShell => "cloud-shell",
            Self::WorkloadIdentity => "workload-identity",
            Self::ClientSecret => "client-secret",
            Self::AzureCli => "azure-cli",
        }
    }
}

/// Which user-assigned identity is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentitySelector {
    /// Its client id.
    ClientId(String),
    /// Its object (principal) id.
    ObjectId(String),
    /// Its Azure resource id.
    ResourceId(String),
}

/// Whether `id` is written as client, object and tenant ids are: 32 hexadecimal digits in groups of
/// 8, 4, 4, 4 and 12.
pub fn is_guid(id: &str) -> bool {
    let lengths = id.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12])
        && id
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Where an identity service answers: `https`, or `http` on this machine alone (a loopback or
/// link-local address, or `localhost`), since tokens come back over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdentityEndpoint(Url);

impl IdentityEndpoint {
    /// Parses an endpoint's URL. A path is kept; without one the kind's own is added later.
    pub fn parse(text: &str) -> Result<Self, InvalidConfig> {
        let invalid =
            |reason: &str| InvalidConfig(format!("{text:?} is not an identity endpoint: {reason}"));
        let url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
        let local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => is_local(ip.into()),
            Some(Host::Ipv6(ip)) => is_local(ip.into()),
            None => return Err(invalid("it has no host")),
        };
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if local => Ok(Self(url)),
            "http" => Err(invalid(
                "over plain http it must be a loopback or link-local address",
            )),
            _ => Err(invalid("its scheme is neither http nor https")),
        }
    }

    /// The endpoint with `path` where it has none of its own.
    pub fn with_default_path(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        if url.path() == "/" {
            url.set_path(path);
        }
        url
    }
}

serde_as_text!(IdentityEndpoint, |endpoint| endpoint.0.into());

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_identity_endpoints_are_on_this_machine() {
        for good in [
            "http://169.254.169.254/metadata/identity/oauth2/token",
            "http://localhost:50342/oauth2/token",
            "http://127.0.0.1:1",
            "http://[::1]:2/x",
            "https://identity.example",
        ] {
            assert!(IdentityEndpoint::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://10.0.0.1/",
            "http://example.org/",
            "file:///x",
            "nonsense",
        ] {
            assert!(IdentityEndpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_endpoint_without_a_path_gets_the_kinds_own() {
        let endpoint = |text: &str| {
            IdentityEndpoint::parse(text)
                .unwrap()
                .with_default_path("/oauth2/token")
                .to_string()
        };
        assert_eq!(
            endpoint("http://127.0.0.1:1"),
            "http://127.0.0.1:1/oauth2/token"
        );
        assert_eq!(endpoint("http://127.0.0.1:1/x"), "http://127.0.0.1:1/x");
    }
}
