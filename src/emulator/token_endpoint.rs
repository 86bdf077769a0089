//! What the identity endpoints have in common: the `Metadata` header, the resource, the
//! identity, and the token's JSON.

use serde_json::{Value, json};

use super::answer::{Answer, identity_error};
use super::identity::{self, Identity, SELECTORS};
use super::request::{Pairs, Request};
use super::state::State;
use super::tokens::Token;

/// Audiences that exist besides the vault's own, as far as the emulator knows Azure.
const OTHER_RESOURCES: [&str; 3] = [
    "https://management.azure.com",
    "https://management.core.windows.net",
    "https://storage.azure.com",
];

/// Refuses what no endpoint accepts: no `Metadata: true`, a forwarded request.
pub(super) fn refuse_foreign(request: &Request) -> Option<Answer> {
    if request.headers.contains_key("x-forwarded-for") {
        // That it is rejected is documented, the text is not.
        return Some(identity_error(
            400,
            "invalid_request",
            "Requests with an X-Forwarded-For header are not served",
        ));
    }
    if request.header("metadata") != Some("true") {
        return Some(identity_error(
            400,
            "bad_request_102",
            "Required metadata header not specified",
        ));
    }
    None
}

/// A token that is out, and how to say so.
pub(super) struct Granted {
    pub(super) text: String,
    pub(super) token: Token,
    now: i64,
}

impl Granted {
    /// A 200 with this body.
    pub(super) fn answer(&self, body: &Value) -> Answer {
        let mut answer = Answer::json(200, body);
        answer.identity = Some(self.token.identity.client_id.clone());
        answer
    }

    /// The body in which every field is a string, the numbers too.
    pub(super) fn as_imds_writes_it(&self) -> Value {
        let token = &self.token;
        json!({
            "access_token": self.text,
            "refresh_token": "",
            "expires_in": (token.expires - self.now).to_string(),
            "expires_on": token.expires.to_string(),
            "not_before": token.not_before.to_string(),
            "resource": token.audience,
            "token_type": "Bearer",
        })
    }
}

/// Why no token is given, in the words of IMDS.
pub(super) struct NotGranted {
    pub(super) code: &'static str,
    pub(super) description: &'static str,
}

/// Answers as IMDS does. Source: Microsoft's `how-to-use-vm-token`.
pub(super) fn issue(state: &mut State, parameters: &Pairs) -> Answer {
    match grant(state, parameters, &SELECTORS) {
        Ok(granted) => granted.answer(&granted.as_imds_writes_it()),
        Err(refusal) => identity_error(400, refusal.code, refusal.description),
    }
}

/// Issues the token that `parameters` ask for, of the identity that one of `selectors` names.
pub(super) fn grant(
    state: &mut State,
    parameters: &Pairs,
    selectors: &[&str],
) -> Result<Granted, NotGranted> {
    let invalid = |description| NotGranted {
        code: "invalid_request",
        description,
    };
    if parameters.duplicate().is_some() {
        return Err(invalid("A query variable is specified more than once"));
    }
    let Some(resource) = parameters.value("resource").filter(|text| !text.is_empty()) else {
        return Err(invalid("Required query variable 'resource' is missing"));
    };
    if !exists(resource, &state.resource) {
        return Err(NotGranted {
            code: "invalid_resource",
            description: "AADSTS50001: The application named was not found in the tenant. This \
                          can happen if the application has not been installed by the \
                          administrator of the tenant",
        });
    }
    let identity = identity::select(&state.identities, parameters, selectors).map_err(invalid)?;
    let identity = identity.clone();
    Ok(granted(state, &identity, resource))
}

/// Issues a token.
pub(super) fn granted(state: &mut State, identity: &Identity, resource: &str) -> Granted {
    let now = state.clock.now();
    let (text, token) = state.tokens.issue(identity, resource, now);
    Granted { text, token, now }
}

/// Whether a directory would know the resource. It knows a vault's own URL too, and issues a
/// token that the vault then refuses (AKV10022).
pub(super) fn exists(resource: &str, vault_resource: &str) -> bool {
    let resource = resource.trim_end_matches('/');
    let domain = vault_resource.trim_start_matches("https://");
    resource == vault_resource
        || OTHER_RESOURCES.contains(&resource)
        || (resource.starts_with("https://") && resource.ends_with(&format!(".{domain}")))
}
