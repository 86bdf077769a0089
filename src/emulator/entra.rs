//! The directory's token endpoint (Microsoft Entra ID), for one application that shows its secret
//! or a token that Kubernetes signed. Source: captures in azure-identity's tests, the list of
//! AADSTS error codes.

use serde_json::json;

use super::answer::{Answer, identity_error};
use super::credentials::Credentials;
use super::identity::Identity;
use super::request::{Pairs, Request};
use super::state::State;
use super::token_endpoint;

/// How an assertion says that it is a JWT.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Answers `POST /TENANT/oauth2/v2.0/token`.
pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    let refuse = |status, error: &str, code: u32, words: &str| {
        identity_error(status, error, &format!("AADSTS{code}: {words}"))
    };
    let known = state.credentials.clone();
    match (request.method.as_str(), request.segments().as_slice()) {
        ("POST", [tenant, "oauth2", "v2.0", "token"]) if *tenant == known.tenant_id => {}
        ("POST", [_, "oauth2", "v2.0", "token"]) => {
            return refuse(400, "invalid_request", 90002, "Tenant not found.");
        }
        _ => return identity_error(404, "not_found", "No such endpoint"),
    }
    let form = Pairs::parse(&request.body);
    if form.value("grant_type") != Some("client_credentials") {
        return refuse(400, "unsupported_grant_type", 70003, "Unsupported grant.");
    }
    if form.value("client_id") != Some(&known.client_id) {
        return refuse(400, "unauthorized_client", 700_016, "No such application.");
    }
    if let Err((code, words)) = authenticate(&form, &known) {
        return refuse(401, "invalid_client", code, words);
    }
    let scope = form.value("scope").unwrap_or_default();
    let Some(resource) = scope.strip_suffix("/.default") else {
        return refuse(400, "invalid_scope", 1_002_012, "The scope is not valid.");
    };
    if !token_endpoint::exists(resource, &state.resource) {
        return refuse(400, "invalid_resource", 500_011, "No such resource.");
    }
    let application = Identity {
        client_id: known.client_id,
        object_id: "55555555-5555-4555-8555-555555555555".to_owned(),
        resource_id: None,
    };
    let granted = token_endpoint::granted(state, &application, resource);
    if let Some(claims) = form.value("claims") {
        state.tokens.note_claims(&granted.text, claims);
    }
    let lifetime = state.tokens.lifetime;
    granted.answer(&json!({
        "token_type": "Bearer",
        "expires_in": lifetime,
        "ext_expires_in": lifetime,
        "access_token": granted.text,
    }))
}

fn authenticate(form: &Pairs, known: &Credentials) -> Result<(), (u32, &'static str)> {
    match (form.value("client_secret"), form.value("client_assertion")) {
        (Some(secret), None) if secret == known.client_secret => Ok(()),
        (Some(_), None) => Err((7_000_215, "Invalid client secret provided.")),
        (None, Some(_)) if form.value("client_assertion_type") != Some(JWT_BEARER) => {
            Err((50027, "The assertion's type is not supported."))
        }
        (None, Some(token)) if token == known.federated_token => Ok(()),
        (None, Some(_)) => Err((70021, "No matching federated identity record found.")),
        _ => Err((7_000_218, "The request must show one credential.")),
    }
}
