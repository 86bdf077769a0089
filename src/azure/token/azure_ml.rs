//! Azure Machine Learning: version 2017-09-01 of App Service's protocol, which lives on there.
//!
//! Source: azure-identity `azure_ml.py`, MSAL. Expiries come as dates in several spellings.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use reqwest::{Method, Request};
use url::Url;

use super::exchange::{self, Refused, form, identity_hint, secret_header};
use super::response::Granted;
use super::surroundings::Surroundings;
use super::wanted::Wanted;
use crate::azure::http::Http;
use crate::azure::tls::SetupError;

const KIND: &str = "azure-ml";
const API_VERSION: &str = "2017-09-01";
const SECRET_VARIABLE: &str = "MSI_SECRET";

/// The endpoint, with the question in its query.
pub(super) struct AzureMl {
    pub(super) url: Url,
    surroundings: Arc<Surroundings>,
    selected: bool,
}

impl AzureMl {
    /// Asks for what is wanted. Identities are known by client id alone, and the machine's
    /// default one by a variable.
    pub(super) fn new(wanted: &Wanted<'_>) -> Result<Self, SetupError> {
        let mut url = wanted.endpoint_from(KIND, "MSI_ENDPOINT")?;
        let named = wanted.client_id(KIND)?;
        let selected = named.is_some();
        let default = || wanted.surroundings.variable("DEFAULT_IDENTITY_CLIENT_ID");
        let mut parameters = vec![
            ("api-version", API_VERSION.to_owned()),
            ("resource", wanted.resource.to_owned()),
        ];
        parameters.extend(named.or_else(default).map(|id| ("clientid", id)));
        url.set_query(Some(&form(&parameters)));
        Ok(Self {
            url,
            surroundings: wanted.surroundings.clone(),
            selected,
        })
    }

    /// Asks once.
    pub(super) async fn ask(&self, http: &Http, deadline: Instant) -> Result<Granted, Refused> {
        let mut request = Request::new(Method::GET, self.url.clone());
        let secret = secret_header(&self.surroundings, SECRET_VARIABLE)?;
        request.headers_mut().insert("secret", secret);
        let asked = exchange::ask(http, request, &[], deadline).await;
        asked.map_err(|refused| identity_hint(refused, self.selected))
    }
}
