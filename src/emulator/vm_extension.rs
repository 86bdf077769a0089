//! The token endpoint of the legacy VM extension, which listens on `localhost:50342` on the Data
//! Science VM: the parameters come in the query of a GET or in the form of a POST.

use super::answer::{Answer, identity_error};
use super::request::{Pairs, Request};
use super::state::State;
use super::token_endpoint;

/// Answers `GET` and `POST /oauth2/token`.
pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    if request.path != "/oauth2/token" {
        return identity_error(404, "not_found", "No such endpoint");
    }
    if let Some(refusal) = token_endpoint::refuse_foreign(request) {
        return refusal;
    }
    let parameters = match request.method.as_str() {
        "GET" => request.query_pairs(),
        "POST" => Pairs::parse(&request.body),
        _ => return identity_error(405, "method_not_allowed", "Only GET and POST are served"),
    };
    token_endpoint::issue(state, &parameters)
}
