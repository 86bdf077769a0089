//! Cloud Shell: the tokens are those of the user who opened it. Source: MSAL `cloud_shell.go`.

#![forbid(unsafe_code)]

use std::time::Instant;

use reqwest::Method;
use url::Url;

use super::exchange::{self, Refused, form, metadata_request, with_form};
use super::response::Granted;
use super::wanted::Wanted;
use crate::azure::http::Http;
use crate::azure::tls::SetupError;

const KIND: &str = "cloud-shell";

/// The endpoint and the form it is sent.
pub(super) struct CloudShell {
    pub(super) url: Url,
    form: String,
}

impl CloudShell {
    /// Asks for a token for what is wanted, for the user: none else can be named.
    pub(super) fn new(wanted: &Wanted<'_>) -> Result<Self, SetupError> {
        wanted.refuse_selector(KIND)?;
        Ok(Self {
            url: wanted.endpoint_from(KIND, "MSI_ENDPOINT")?,
            form: form(&[("resource", wanted.resource.to_owned())]),
        })
    }

    /// Asks once.
    pub(super) async fn ask(&self, http: &Http, deadline: Instant) -> Result<Granted, Refused> {
        let request = metadata_request(Method::POST, self.url.clone());
        let request = with_form(request, self.form.clone().into_bytes());
        exchange::ask(http, request, &[], deadline).await
    }
}
