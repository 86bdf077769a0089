//! Azure's Instance Metadata Service, which every VM and scale set has.
//!
//! A GET with the header `Metadata: true`. Source: entra-docs `how-to-use-vm-token.md`,
//! azure-compute-docs `instance-metadata-service.md`.

#![forbid(unsafe_code)]

use std::time::Instant;

use reqwest::Method;
use url::Url;

use super::exchange::{self, Refused, SelectorNames, form, metadata_request};
use super::response::Granted;
use super::wanted::Wanted;
use crate::azure::http::Http;
use crate::config::{IdentityEndpoint, IdentitySelector};
use crate::secrets::Failure;

const HOST: &str = "http://169.254.169.254";
const PATH: &str = "/metadata/identity/oauth2/token";
const API_VERSION: &str = "2018-02-01";

const SELECTORS: SelectorNames = SelectorNames {
    client_id: "client_id",
    object_id: "object_id",
    resource_id: "msi_res_id",
};

/// 404 passes: the service is sometimes not ready. Source: the retry guidance.
const PASSING: [u16; 1] = [404];

/// The service's address, with the question in its query.
pub(super) struct Imds {
    pub(super) url: Url,
    selected: bool,
}

impl Imds {
    /// Asks for what is wanted.
    pub(super) fn new(wanted: &Wanted<'_>) -> Self {
        let mut url = endpoint(wanted.endpoint.as_ref());
        let selector = wanted.selector.as_ref();
        url.set_query(Some(&form(&parameters(wanted.resource, selector))));
        Self {
            url,
            selected: selector.is_some(),
        }
    }

    /// Asks once.
    pub(super) async fn ask(&self, http: &Http, deadline: Instant) -> Result<Granted, Refused> {
        let request = metadata_request(Method::GET, self.url.clone());
        let asked = exchange::ask(http, request, &PASSING, deadline).await;
        asked.map_err(|mut refused| {
            refused.error.hint = hint(&refused, self.selected);
            refused
        })
    }
}

fn endpoint(own: Option<&IdentityEndpoint>) -> Url {
    own.cloned()
        .unwrap_or_else(|| IdentityEndpoint::parse(HOST).expect("a link-local address is one"))
        .with_default_path(PATH)
}

fn parameters(resource: &str, selector: Option<&IdentitySelector>) -> Vec<(&'static str, String)> {
    let mut parameters = vec![
        ("api-version", API_VERSION.to_owned()),
        ("resource", resource.to_owned()),
    ];
    parameters.extend(SELECTORS.parameter(selector));
    parameters
}

fn hint(refused: &Refused, selected: bool) -> Option<String> {
    let hint = match refused.error.failure {
        _ if refused.refusal.ambiguous => {
            "this machine has several user-assigned identities: name one with --client-id \
             (az vm identity show -g GROUP -n VM lists them)"
        }
        Failure::IdentityRefused if selected && refused.refusal.no_identity => {
            "this machine has no such identity: check --client-id, --object-id or \
             --identity-resource-id, or assign it: \
             az vm identity assign -g GROUP -n VM --identities IDENTITY"
        }
        Failure::IdentityRefused if refused.refusal.no_identity => {
            "this machine has no managed identity: az vm identity assign -g GROUP -n VM"
        }
        Failure::IdentityRefused if refused.error.status == Some(404) => {
            "there is no metadata service at this address: is it right, and is this an Azure VM \
             with a managed identity?"
        }
        Failure::Unreachable => {
            "the metadata service does not answer: is this an Azure VM, and may this user reach \
             169.254.169.254?"
        }
        Failure::TimedOut if refused.error.status == Some(410) => {
            "the metadata service is being updated, which takes up to 70 seconds"
        }
        Failure::TimedOut => {
            "the metadata service does not answer: is this an Azure VM, and does no firewall rule \
             keep this user from it?"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_selector_has_the_services_own_parameter() {
        let resource = "https://vault.azure.net";
        let query = |selector| form(&parameters(resource, Some(&selector)));
        let base = "api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net";
        assert_eq!(form(&parameters(resource, None)), base);
        for (selector, parameter) in [
            (IdentitySelector::ClientId("c".into()), "client_id=c"),
            (IdentitySelector::ObjectId("o".into()), "object_id=o"),
            (
                IdentitySelector::ResourceId("/s/r".into()),
                "msi_res_id=%2Fs%2Fr",
            ),
        ] {
            assert_eq!(query(selector), format!("{base}&{parameter}"));
        }
    }

    #[test]
    fn the_service_is_asked_at_its_own_address_unless_told_another() {
        assert_eq!(
            endpoint(None).as_str(),
            "http://169.254.169.254/metadata/identity/oauth2/token"
        );
        let own = IdentityEndpoint::parse("http://127.0.0.1:8080").unwrap();
        assert_eq!(
            endpoint(Some(&own)).as_str(),
            "http://127.0.0.1:8080/metadata/identity/oauth2/token"
        );
    }
}
