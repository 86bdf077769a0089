//! The access tokens that were issued: whom each is for, to what audience, and until when.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::identity::Identity;

/// The tenant that all identities are of.
const TENANT: &str = "33333333-3333-4333-8333-333333333333";

/// The resource id of the machine, to which its system-assigned identity belongs.
const MACHINE: &str = "/subscriptions/emulator/resourceGroups/emulator/providers/\
                       Microsoft.Compute/virtualMachines/emulator";

/// How long a token lives unless told otherwise, in seconds: IMDS gives out a day's.
const LIFETIME: i64 = 86_400;

/// What a token stands for.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) identity: Identity,
    pub(super) audience: String,
    pub(super) not_before: i64,
    pub(super) expires: i64,
    /// What it was asked for besides, as the request had it.
    claims: Option<String>,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is none.
    Missing,
    /// It was never issued, or was revoked.
    Unknown,
    /// Its time is over.
    Expired,
    /// It is for another service.
    WrongAudience,
    /// It was not asked for with the claims that are demanded.
    InsufficientClaims,
}

/// Every token that is out.
#[derive(Debug)]
pub(super) struct Tokens {
    issued: HashMap<String, Token>,
    /// How long new ones live, in seconds.
    pub(super) lifetime: i64,
    /// The claims, in JSON, without which no token is accepted.
    pub(super) demanded: Option<String>,
}

impl Tokens {
    /// None issued yet.
    pub(super) fn new() -> Self {
        Self {
            issued: HashMap::new(),
            lifetime: LIFETIME,
            demanded: None,
        }
    }

    /// Issues a new token and returns its text, shaped like the real ones.
    pub(super) fn issue(
        &mut self,
        identity: &Identity,
        audience: &str,
        now: i64,
    ) -> (String, Token) {
        let token = Token {
            identity: identity.clone(),
            audience: audience.to_owned(),
            not_before: now - 300,
            expires: now + self.lifetime,
            claims: None,
        };
        let text = jwt(&token);
        self.issued.insert(text.clone(), token.clone());
        (text, token)
    }

    /// Notes with what claims a token was asked for.
    pub(super) fn note_claims(&mut self, text: &str, claims: &str) {
        if let Some(token) = self.issued.get_mut(text) {
            token.claims = Some(claims.to_owned());
        }
    }

    /// Checks the value of an `Authorization` header.
    pub(super) fn check(
        &self,
        authorization: Option<&str>,
        audience: &str,
        now: i64,
    ) -> Result<&Identity, Refusal> {
        let (scheme, text) = authorization
            .and_then(|value| value.split_once(' '))
            .ok_or(Refusal::Missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::Missing);
        }
        let token = self.issued.get(text).ok_or(Refusal::Unknown)?;
        if token.expires <= now {
            return Err(Refusal::Expired);
        }
        if token.audience != audience {
            return Err(Refusal::WrongAudience);
        }
        if self.demanded.is_some() && token.claims != self.demanded {
            return Err(Refusal::InsufficientClaims);
        }
        Ok(&token.identity)
    }

    /// Makes every token that is out unknown.
    pub(super) fn revoke_all(&mut self) {
        self.issued.clear();
    }
}

/// A JWT with the claims that real ones have, and a signature that is none.
fn jwt(token: &Token) -> String {
    let identity = &token.identity;
    let claims = serde_json::json!({
        "aud": token.audience,
        "appid": identity.client_id,
        "oid": identity.object_id,
        "tid": TENANT,
        "xms_mirid": identity.resource_id.as_deref().unwrap_or(MACHINE),
        "nbf": token.not_before,
        "exp": token.expires,
        "uti": super::state::random_hex::<16>(),
    });
    format!(
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.{}.{}",
        URL_SAFE_NO_PAD.encode(claims.to_string()),
        super::state::random_hex::<32>(),
    )
}
