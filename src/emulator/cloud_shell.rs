//! Cloud Shell's token endpoint: a form, and one identity, the user's. Source: MSAL
//! `cloud_shell.go`.

use super::answer::{self, Answer};
use super::request::{Pairs, Request, Service};
use super::state::State;
use super::token_endpoint;

/// Answers `POST /oauth2/token`.
pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    let refuse = |status, code: &str, message: &str| {
        answer::error(Service::CloudShell, status, code, None, message)
    };
    if request.path != "/oauth2/token" || request.method != "POST" {
        return refuse(404, "NotFound", "No such endpoint");
    }
    if request.header("metadata") != Some("true") {
        return refuse(400, "BadRequest", "The header Metadata is missing");
    }
    match token_endpoint::grant(state, &Pairs::parse(&request.body), &[]) {
        Ok(granted) => granted.answer(&granted.as_imds_writes_it()),
        Err(refusal) => refuse(400, refusal.code, refusal.description),
    }
}
