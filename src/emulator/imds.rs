//! The Instance Metadata Service's token endpoint.

use super::answer::{Answer, identity_error};
use super::request::Request;
use super::state::State;
use super::token_endpoint;

/// The oldest version that hands out tokens; versions are dates and compare as text.
const OLDEST_VERSION: &str = "2018-02-01";

/// Answers `GET /metadata/identity/oauth2/token`.
pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    if request.path != "/metadata/identity/oauth2/token" {
        return identity_error(404, "not_found", "No such metadata");
    }
    if request.method != "GET" {
        return identity_error(405, "method_not_allowed", "Only GET is served");
    }
    if let Some(refusal) = token_endpoint::refuse_foreign(request) {
        return refusal;
    }
    let parameters = request.query_pairs();
    // The texts about the version are ours, after the one about the resource.
    match parameters.value("api-version") {
        None => identity_error(
            400,
            "invalid_request",
            "Required query variable 'api-version' is missing",
        ),
        Some(version) if version.len() != OLDEST_VERSION.len() || version < OLDEST_VERSION => {
            identity_error(400, "invalid_request", "The api-version is not supported")
        }
        Some(_) => token_endpoint::issue(state, &parameters),
    }
}
