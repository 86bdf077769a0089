//! Azure Machine Learning's token endpoint: version 2017-09-01 of App Service's, whose expiries
//! are dates. Source: azure-identity `azure_ml.py`.

use serde_json::json;

use super::answer::{self, Answer};
use super::clock;
use super::identity::AZURE_ML_SELECTORS;
use super::request::{Request, Service};
use super::state::State;
use super::token_endpoint;

/// Answers `GET /MSI/auth`.
pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    let refuse = |status, message: &str| answer::error(Service::AzureMl, status, "", None, message);
    if request.path != "/MSI/auth" || request.method != "GET" {
        return refuse(404, "No such endpoint");
    }
    if request.header("secret") != Some(&state.credentials.header) {
        return refuse(401, "Unauthorized");
    }
    let parameters = request.query_pairs();
    if parameters.value("api-version") != Some("2017-09-01") {
        return refuse(400, "Unsupported api-version");
    }
    match token_endpoint::grant(state, &parameters, &AZURE_ML_SELECTORS) {
        Ok(granted) => granted.answer(&json!({
            "access_token": granted.text,
            "expires_on": clock::as_azure_ml_writes_it(granted.token.expires),
            "resource": granted.token.audience,
            "token_type": "Bearer",
        })),
        Err(refusal) => refuse(400, refusal.description),
    }
}
