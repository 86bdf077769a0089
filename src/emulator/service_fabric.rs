//! A Service Fabric node's token endpoint, over TLS with a certificate known by its thumbprint.
//! Source: Service Fabric's documentation.

use serde_json::json;

use super::answer::{self, Answer};
use super::request::{Request, Service};
use super::state::State;
use super::token_endpoint;

/// Answers `GET /metadata/identity/oauth2/token`.
pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    let refuse = |status, code: &str| {
        answer::error(Service::ServiceFabric, status, code, None, "Scripted text")
    };
    if request.path != "/metadata/identity/oauth2/token" || request.method != "GET" {
        return refuse(404, "ManagedIdentityNotFound");
    }
    if request.header("secret") != Some(&state.credentials.header) {
        return refuse(400, "SecretHeaderNotFound");
    }
    let parameters = request.query_pairs();
    if parameters.value("api-version") != Some("2019-07-01-preview") {
        return refuse(400, "ArgumentNullOrEmpty");
    }
    match token_endpoint::grant(state, &parameters, &[]) {
        Ok(granted) => granted.answer(&json!({
            "token_type": "Bearer",
            "access_token": granted.text,
            "expires_on": granted.token.expires,
            "resource": granted.token.audience,
        })),
        Err(refusal) if refusal.code == "invalid_resource" => refuse(400, "ArgumentNullOrEmpty"),
        Err(_) => refuse(404, "ManagedIdentityNotFound"),
    }
}
