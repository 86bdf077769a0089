//! Azure Resource Manager, as far as it lists the keys of storage accounts.
//!
//! Checked in this order: token, api-version, the account, permission, locks. Source:
//! azure-rest-api-specs, Microsoft.Storage; captures of refusals in public issues.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answer::{Answer, vault_error};
use super::identity::Identity;
use super::request::Request;
use super::state::State;
use super::tokens::Refusal;

/// The audiences that are all Resource Manager's own.
const AUDIENCES: [&str; 4] = [
    "https://management.azure.com/",
    "https://management.azure.com",
    "https://management.core.windows.net/",
    "https://management.core.windows.net",
];

/// How far an account's keys are out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAccess {
    /// They can be listed.
    #[default]
    Granted,
    /// The caller has no role that lists them.
    Denied,
    /// A read-only lock forbids it: listing counts as a write.
    Locked,
}

/// A storage account.
#[derive(Debug, Clone, Serialize)]
pub struct StorageAccount {
    /// Both keys, 64 random bytes each in base64.
    pub keys: [String; 2],
    /// Whether they may be listed.
    pub access: KeyAccess,
}

impl StorageAccount {
    /// An account with new keys.
    pub(super) fn new() -> Self {
        let key = || STANDARD.encode(super::state::random_hex::<32>());
        Self {
            keys: [key(), key()],
            access: KeyAccess::Granted,
        }
    }
}

/// All accounts, by their resource ids in lower case.
pub(super) type StorageAccounts = BTreeMap<String, StorageAccount>;

/// Answers a request to Resource Manager.
pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    let now = state.clock.now();
    let token = request.header("authorization");
    let check = |audience: &str| state.tokens.check(token, audience, now);
    let caller = match AUDIENCES
        .iter()
        .map(|audience| check(audience))
        .reduce(Result::or)
    {
        Some(Ok(identity)) => identity.clone(),
        Some(Err(refusal)) => return refuse(refusal),
        None => return refuse(Refusal::Missing),
    };
    let mut answer = authenticated(state, request, &caller);
    answer.identity = Some(caller.client_id);
    answer
}

fn authenticated(state: &State, request: &Request, caller: &Identity) -> Answer {
    let version = request.query_pairs();
    if version.value("api-version").unwrap_or_default().is_empty() {
        let message =
            "The api-version query parameter (?api-version=) is required for all requests.";
        return vault_error(400, "MissingApiVersionParameter", None, message);
    }
    if request.path == "/subscriptions" {
        // The machine's identity sees none; the az CLI asks before it does anything else.
        return Answer::json(200, &json!({ "value": [] }));
    }
    let Some(id) = request.path.strip_suffix("/listKeys") else {
        let message = "The resource type could not be found.";
        return vault_error(404, "InvalidResourceType", None, message);
    };
    if request.method != "POST" {
        return vault_error(405, "MethodNotAllowed", None, "Keys are listed by POST.");
    }
    let Some(account) = state.storage_accounts.get(&id.to_ascii_lowercase()) else {
        let message = format!("The Resource '{id}' was not found.");
        return vault_error(404, "ResourceNotFound", None, &message);
    };
    let action = "Microsoft.Storage/storageAccounts/listKeys/action";
    match account.access {
        KeyAccess::Granted => keys(account),
        KeyAccess::Denied => {
            let message = format!(
                "The client '{0}' with object id '{0}' does not have authorization to perform \
                 action '{action}' over scope '{id}' or the scope is invalid.",
                caller.object_id
            );
            vault_error(403, "AuthorizationFailed", None, &message)
        }
        KeyAccess::Locked => {
            let message = format!(
                "The scope '{id}' cannot perform write operation because following scope(s) are \
                 locked: '{id}'. Please remove the lock and try again."
            );
            vault_error(409, "ScopeLocked", None, &message)
        }
    }
}

fn keys(account: &StorageAccount) -> Answer {
    let keys: Vec<_> = (1..)
        .zip(&account.keys)
        .map(|(number, key)| {
            json!({
                "creationTime": "2026-01-01T00:00:00.0000000Z",
                "keyName": format!("key{number}"),
                "permissions": "FULL",
                "value": key,
            })
        })
        .collect();
    Answer::json(200, &json!({ "keys": keys }))
}

fn refuse(refusal: Refusal) -> Answer {
    let (code, message) = match refusal {
        Refusal::Missing => (
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing.",
        ),
        Refusal::Expired => (
            "ExpiredAuthenticationToken",
            "The access token expiry is over.",
        ),
        Refusal::Unknown | Refusal::InsufficientClaims => {
            ("InvalidAuthenticationToken", "The access token is invalid.")
        }
        Refusal::WrongAudience => (
            "InvalidAuthenticationTokenAudience",
            "The access token has been obtained for wrong audience or resource.",
        ),
    };
    let challenge = format!(
        "Bearer authorization_uri=\"https://login.windows.net/\", error=\"invalid_token\", \
         error_description=\"{message}\""
    );
    vault_error(401, code, None, message).header("www-authenticate", challenge)
}
