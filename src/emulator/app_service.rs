//! The token endpoint of App Service, Functions and Container Apps, version 2019-08-01. Source:
//! azure-docs `overview-managed-identity.md`; that a stranger gets a 401 is ours.

use serde_json::json;

use super::answer::{self, Answer};
use super::identity::APP_SERVICE_SELECTORS;
use super::request::{Request, Service};
use super::state::State;
use super::token_endpoint;

/// Answers `GET /msi/token`.
pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    let refuse =
        |status, message: &str| answer::error(Service::AppService, status, "", None, message);
    if request.path != "/msi/token" || request.method != "GET" {
        return refuse(404, "No such endpoint");
    }
    if request.header("x-identity-header") != Some(&state.credentials.header) {
        return refuse(401, "Unauthorized");
    }
    let parameters = request.query_pairs();
    if parameters.value("api-version") != Some("2019-08-01") {
        return refuse(400, "Unsupported api-version");
    }
    let granted = match token_endpoint::grant(state, &parameters, &APP_SERVICE_SELECTORS) {
        Ok(granted) => granted,
        // A resource that does not exist gets a vague 500. Source: MSAL.
        Err(refusal) if refusal.code == "invalid_resource" => return refuse(500, "Error"),
        Err(refusal) => return refuse(400, refusal.description),
    };
    granted.answer(&json!({
        "access_token": granted.text,
        "expires_on": granted.token.expires.to_string(),
        "resource": granted.token.audience,
        "token_type": "Bearer",
        "client_id": granted.token.identity.client_id,
    }))
}
