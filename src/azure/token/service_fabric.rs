//! A Service Fabric node's endpoint: https with a certificate that nobody vouches for, known by
//! its thumbprint. Source: MSAL, Service Fabric's documentation.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use reqwest::{Method, Request};
use url::Url;

use super::exchange::{self, Refused, form, secret_header};
use super::response::Granted;
use super::surroundings::Surroundings;
use super::wanted::Wanted;
use crate::azure::http::Http;
use crate::azure::pinned;
use crate::azure::tls::SetupError;

const KIND: &str = "service-fabric";
const API_VERSION: &str = "2019-07-01-preview";
const SECRET_VARIABLE: &str = "IDENTITY_HEADER";
const THUMBPRINT_VARIABLE: &str = "IDENTITY_SERVER_THUMBPRINT";

/// The endpoint, with the question in its query, and a client that trusts its certificate alone.
pub(super) struct ServiceFabric {
    pub(super) url: Url,
    http: Http,
    surroundings: Arc<Surroundings>,
}

impl ServiceFabric {
    /// Asks for a token for what is wanted; which identity, the node knows.
    pub(super) fn new(wanted: &Wanted<'_>) -> Result<Self, SetupError> {
        wanted.refuse_selector(KIND)?;
        let mut url = wanted.endpoint_from(KIND, "IDENTITY_ENDPOINT")?;
        if url.scheme() != "https" {
            let text = format!("--identity {KIND} needs an https:// endpoint");
            return Err(SetupError::Identity(text));
        }
        url.set_query(Some(&form(&[
            ("api-version", API_VERSION.to_owned()),
            ("resource", wanted.resource.to_owned()),
        ])));
        let thumbprint = wanted.surroundings.variable(THUMBPRINT_VARIABLE);
        let thumbprint = thumbprint.as_deref().and_then(pinned::Thumbprint::parse);
        let thumbprint = thumbprint.ok_or_else(|| {
            SetupError::Identity(format!(
                "--identity {KIND} needs a certificate's SHA-1 thumbprint, 40 hexadecimal digits, \
                 in the variable {THUMBPRINT_VARIABLE}"
            ))
        })?;
        Ok(Self {
            url,
            http: Http::for_identity(&pinned::client_config(thumbprint)?)?,
            surroundings: wanted.surroundings.clone(),
        })
    }

    /// Asks once.
    pub(super) async fn ask(&self, deadline: Instant) -> Result<Granted, Refused> {
        let mut request = Request::new(Method::GET, self.url.clone());
        let secret = secret_header(&self.surroundings, SECRET_VARIABLE)?;
        request.headers_mut().insert("secret", secret);
        let asked = exchange::ask(&self.http, request, &[], deadline).await;
        asked.map_err(|mut refused| {
            let hint = match refused.refusal.code.as_deref() {
                Some("SecretHeaderNotFound") => {
                    "IDENTITY_HEADER is not what this node gave out: start keyvaultfs anew, as \
                     part of the application"
                }
                Some("ManagedIdentityNotFound") => {
                    "the application has no managed identity: give it one in its template"
                }
                Some("ArgumentNullOrEmpty") => "check --resource",
                _ => return refused,
            };
            refused.error.hint = Some(hint.to_owned());
            refused
        })
    }
}
