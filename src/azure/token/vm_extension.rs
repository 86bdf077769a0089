//! The managed-identity VM extension's endpoint, which the Data Science VM has.
//!
//! A form POST with the header `Metadata: true`; the answers are the metadata service's.
//! Source: Microsoft's article on the DSVM, azure-docs `howto-migrate-vm-extension.md`.

#![forbid(unsafe_code)]

use std::time::Instant;

use reqwest::Method;
use url::Url;

use super::exchange::{self, Refused, SelectorNames, form, metadata_request, with_form};
use super::response::Granted;
use super::wanted::Wanted;
use crate::azure::http::Http;
use crate::config::IdentityEndpoint;
use crate::secrets::Failure;

const HOST: &str = "http://localhost:50342";
const PATH: &str = "/oauth2/token";

const SELECTORS: SelectorNames = SelectorNames {
    client_id: "client_id",
    object_id: "object_id",
    resource_id: "msi_res_id",
};

/// The extension's address and the form it is sent.
pub(super) struct VmExtension {
    pub(super) url: Url,
    form: String,
    selected: bool,
}

impl VmExtension {
    /// Asks for what is wanted.
    pub(super) fn new(wanted: &Wanted<'_>) -> Self {
        let own = wanted.endpoint.clone();
        let url = own
            .unwrap_or_else(|| IdentityEndpoint::parse(HOST).expect("localhost is one"))
            .with_default_path(PATH);
        let selector = wanted.selector.as_ref();
        let mut parameters = vec![("resource", wanted.resource.to_owned())];
        parameters.extend(SELECTORS.parameter(selector));
        Self {
            url,
            form: form(&parameters),
            selected: selector.is_some(),
        }
    }

    /// Asks once.
    pub(super) async fn ask(&self, http: &Http, deadline: Instant) -> Result<Granted, Refused> {
        let request = metadata_request(Method::POST, self.url.clone());
        let request = with_form(request, self.form.clone().into_bytes());
        let asked = exchange::ask(http, request, &[], deadline).await;
        asked.map_err(|mut refused| {
            refused.error.hint = self.hint(&refused);
            refused
        })
    }

    fn hint(&self, refused: &Refused) -> Option<String> {
        let hint = match refused.error.failure {
            _ if refused.refusal.ambiguous => {
                "this machine has several user-assigned identities: name one with --client-id"
            }
            Failure::IdentityRefused if self.selected => {
                "check that --client-id, --object-id or --identity-resource-id names an identity \
                 of this machine"
            }
            Failure::IdentityRefused => {
                "does this machine have a managed identity? az vm identity assign -g GROUP -n VM"
            }
            Failure::Unreachable | Failure::TimedOut => {
                "the VM extension does not answer; machines without it have --identity imds"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
