//! App Service, Functions, Container Apps and Automation: an endpoint named by variables.
//!
//! Source: azure-docs `overview-managed-identity.md`, version 2019-08-01 of the protocol.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use reqwest::Method;
use url::Url;

use super::exchange::{
    self, Refused, SelectorNames, form, identity_hint, metadata_request, secret_header,
};
use super::response::Granted;
use super::surroundings::Surroundings;
use super::wanted::Wanted;
use crate::azure::http::Http;
use crate::azure::tls::SetupError;

const KIND: &str = "app-service";
const API_VERSION: &str = "2019-08-01";
const SECRET_VARIABLE: &str = "IDENTITY_HEADER";

const SELECTORS: SelectorNames = SelectorNames {
    client_id: "client_id",
    object_id: "principal_id",
    resource_id: "mi_res_id",
};

/// The endpoint, with the question in its query. The header is read for each question: it changes.
pub(super) struct AppService {
    pub(super) url: Url,
    surroundings: Arc<Surroundings>,
    selected: bool,
}

impl AppService {
    /// Asks for what is wanted.
    pub(super) fn new(wanted: &Wanted<'_>) -> Result<Self, SetupError> {
        let mut url = wanted.endpoint_from(KIND, "IDENTITY_ENDPOINT")?;
        let mut parameters = vec![
            ("api-version", API_VERSION.to_owned()),
            ("resource", wanted.resource.to_owned()),
        ];
        parameters.extend(SELECTORS.parameter(wanted.selector.as_ref()));
        url.set_query(Some(&form(&parameters)));
        Ok(Self {
            url,
            surroundings: wanted.surroundings.clone(),
            selected: wanted.selector.is_some(),
        })
    }

    /// Asks once.
    pub(super) async fn ask(&self, http: &Http, deadline: Instant) -> Result<Granted, Refused> {
        // Automation wants the header `Metadata` too. Source: MSAL.
        let mut request = metadata_request(Method::GET, self.url.clone());
        let header = secret_header(&self.surroundings, SECRET_VARIABLE)?;
        request.headers_mut().insert("x-identity-header", header);
        let asked = exchange::ask(http, request, &[], deadline).await;
        asked.map_err(|refused| identity_hint(refused, self.selected))
    }
}
