//! Key Vault's secrets over HTTP: authentication, policy, GET, PUT and list, with the codes and
//! inner codes that captures of the real service show.
//!
//! Checked in this order: token, api-version, permission, name, body. That permission comes
//! before the body is what clients that ask for it with a broken body rely on. Message texts are
//! for people; where none was captured it is ours.

use std::collections::BTreeMap;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, vault_error};
use super::identity::Identity;
use super::policy::Permission;
use super::request::Request;
use super::state::State;
use super::tokens::Refusal;
use super::vault::{Deletion, Secret, SecretVersion, Settings};

/// The directory that challenges name.
const TENANT: &str = "https://login.microsoftonline.com/33333333-3333-4333-8333-333333333333";
/// The longest value, in characters. Source: the service's own message, Azure/azure-cli#5639.
const VALUE_MAX: usize = 25_600;
/// The longest name, content type, tag name or value, and the most tags.
/// Source: Microsoft's `about-keys-secrets-certificates` and `about-secrets`.
const NAME_MAX: usize = 127;
const CONTENT_TYPE_MAX: usize = 255;
const TAG_MAX: usize = 512;
const TAGS_MAX: usize = 15;

/// Answers a request to the vault.
pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    if !state.budget.spend(Instant::now()) {
        // As the real one was captured: without a word on when to come again.
        let message = "Request was not processed because too many requests were received. \
                       Reason: VaultRequestTypeLimitReached";
        return vault_error(429, "Throttled", None, message);
    }
    let now = state.clock.now();
    let token = request.header("authorization");
    let caller = match state.tokens.check(token, &state.resource, now) {
        Ok(identity) => identity.clone(),
        Err(refusal) => return challenge(state, refusal),
    };
    let mut answer = authenticated(state, request, &caller);
    answer.identity = Some(caller.client_id);
    answer
}

/// The value of `WWW-Authenticate` in a 401.
pub(super) fn challenge_header(state: &State) -> String {
    format!(
        "Bearer authorization=\"{TENANT}\", resource=\"{}\"",
        state.resource
    )
}

/// Continuous access evaluation's. Source: Azure/azure-sdk-for-js#31140.
fn claims_challenge(claims: &str) -> String {
    let claims = STANDARD.encode(claims);
    format!(
        "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/\
         authorize\", error=\"insufficient_claims\", claims=\"{claims}\""
    )
}

fn challenge(state: &State, refusal: Refusal) -> Answer {
    let message = match refusal {
        Refusal::Missing => "AKV10000: Request is missing a Bearer or PoP token.",
        Refusal::WrongAudience => "AKV10022: Invalid audience.",
        // One code stands for every issuer the vault does not know; the texts are ours.
        Refusal::Unknown => "AKV10032: Invalid issuer.",
        Refusal::Expired => "[TokenExpired] The token is expired.",
        Refusal::InsufficientClaims => "The token's claims do not suffice.",
    };
    let header = match (&state.tokens.demanded, refusal) {
        (Some(claims), Refusal::InsufficientClaims) => claims_challenge(claims),
        _ => challenge_header(state),
    };
    vault_error(401, "Unauthorized", None, message).header("www-authenticate", header)
}

fn authenticated(state: &mut State, request: &Request, caller: &Identity) -> Answer {
    match request.query_pairs().value("api-version") {
        None | Some("") => return bad_parameter("api-version must be specified"),
        Some(version) if !is_known_version(version) => {
            return bad_parameter("The specified version is not recognized.");
        }
        Some(_) => {}
    }
    let granted = |permission| state.policy.contains(&permission);
    match (request.method.as_str(), request.segments().as_slice()) {
        ("GET", ["secrets"]) => match granted(Permission::List) {
            true => list(state),
            false => denied("list", caller),
        },
        // Neither are kept, so there is nothing to show to whoever may list.
        ("GET", ["deletedsecrets"] | ["secrets", _, "versions"]) => {
            match granted(Permission::List) {
                true => Answer::json(200, &json!({ "value": [], "nextLink": null })),
                false => denied("list", caller),
            }
        }
        ("GET", ["secrets", name, rest @ ..]) if rest.len() <= 1 => {
            match granted(Permission::Get) {
                true => get(state, name, rest.first().copied()),
                false => denied("get", caller),
            }
        }
        ("PUT", ["secrets", name]) => match granted(Permission::Set) {
            true => set(state, name, &request.body),
            false => denied("set", caller),
        },
        ("DELETE", ["secrets", _]) => denied("delete", caller),
        ("PATCH", ["secrets", _, ..]) => denied("set", caller),
        ("GET" | "PUT", _) => vault_error(404, "NotFound", None, "There is no such resource."),
        _ => vault_error(
            405,
            "MethodNotAllowed",
            None,
            "The method is not supported.",
        ),
    }
}

fn get(state: &State, name: &str, version: Option<&str>) -> Answer {
    if let Some(refusal) = refuse_name(name) {
        return refusal;
    }
    let found = state
        .vault
        .secret(name)
        .filter(|secret| secret.deletion == Deletion::None)
        .and_then(|secret| Some((secret, secret.version(version)?)));
    let Some((secret, version)) = found else {
        return vault_error(
            404,
            "SecretNotFound",
            None,
            &format!(
                "A secret with (name/id) {name} was not found in this key vault. If you recently \
                 deleted this secret you may be able to recover it using the correct recovery \
                 command."
            ),
        );
    };
    if !version.settings.enabled {
        return vault_error(
            403,
            "Forbidden",
            Some("SecretDisabled"),
            "Operation get is not allowed on a disabled secret.",
        )
        .about(&version.version);
    }
    bundle(state, secret, version)
}

/// A PUT's body. Fields that no version has are ignored, as the service does.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetBody {
    value: Option<String>,
    content_type: Option<String>,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
    #[serde(default)]
    attributes: Option<SetAttributes>,
}

#[derive(Deserialize, Default)]
struct SetAttributes {
    enabled: Option<bool>,
    nbf: Option<i64>,
    exp: Option<i64>,
}

fn set(state: &mut State, name: &str, body: &[u8]) -> Answer {
    if let Some(refusal) = refuse_name(name) {
        return refusal;
    }
    let Ok(body) = serde_json::from_slice::<SetBody>(body) else {
        return bad_parameter("The request body could not be parsed.");
    };
    let Some(value) = body.value else {
        return bad_parameter("Property value is required.");
    };
    if value.chars().count() > VALUE_MAX {
        return vault_error(
            400,
            "BadParameter",
            Some("SecretTooLarge"),
            "Secret is beyond the maximum permitted length of 25600 characters.",
        );
    }
    let attributes = body.attributes.unwrap_or_default();
    let settings = Settings {
        enabled: attributes.enabled.unwrap_or(true),
        content_type: body.content_type,
        tags: body.tags.unwrap_or_default(),
        not_before: attributes.nbf,
        expires: attributes.exp,
    };
    if let Some(refusal) = refuse_settings(&settings) {
        return refusal;
    }
    if let Some(refusal) = state.vault.secret(name).and_then(refuse_set) {
        return refusal;
    }
    let now = state.clock.now();
    state.vault.add_version(name, value, settings, now);
    let made = state.vault.secret(name);
    match made.and_then(|secret| Some((secret, secret.version(None)?))) {
        Some((secret, version)) => bundle(state, secret, version),
        None => vault_error(
            500,
            "InternalServerError",
            None,
            "The version was not kept.",
        ),
    }
}

/// A version with its value.
fn bundle(state: &State, secret: &Secret, version: &SecretVersion) -> Answer {
    let id = format!(
        "{}/secrets/{}/{}",
        state.vault_url, secret.name, version.version
    );
    let mut bundle = description(state, id, secret, version);
    bundle["value"] = version.value.clone().into();
    Answer::json(200, &bundle).about(&version.version)
}

/// Why a secret that is there takes no new version.
fn refuse_set(secret: &Secret) -> Option<Answer> {
    let conflict = |inner, message: &str| Some(vault_error(409, "Conflict", Some(inner), message));
    match secret.deletion {
        Deletion::Recoverable => conflict(
            "ObjectIsDeletedButRecoverable",
            &format!(
                "Secret {} is currently in a deleted but recoverable state, and its name cannot \
                 be reused; in this state, the secret can only be recovered or purged.",
                secret.name
            ),
        ),
        Deletion::BeingDeleted => conflict(
            "ObjectIsBeingDeleted",
            "Secret is currently being deleted and cannot be re-created; retry later.",
        ),
        Deletion::BeingRecovered => conflict(
            "ObjectIsBeingRecovered",
            "Secret is currently being recovered and cannot be re-created; retry later.",
        ),
        Deletion::None if secret.managed => Some(vault_error(
            403,
            "Forbidden",
            Some("SecretManagedByKeyVault"),
            "Operation \"set\" is not allowed as this object's lifetime is managed by Key Vault.",
        )),
        Deletion::None => None,
    }
}

fn refuse_name(name: &str) -> Option<Answer> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let valid = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(allowed);
    (!valid).then(|| bad_parameter(&format!("The request URI contains an invalid name: {name}")))
}

fn refuse_settings(settings: &Settings) -> Option<Answer> {
    let too_long = |text: &str| text.chars().count() > TAG_MAX;
    let content_type = settings.content_type.as_deref().unwrap_or_default();
    if content_type.chars().count() > CONTENT_TYPE_MAX {
        return Some(bad_parameter("Property contentType is too long."));
    }
    if settings.tags.len() > TAGS_MAX {
        return Some(bad_parameter("There are more than 15 tags."));
    }
    if settings
        .tags
        .iter()
        .any(|(k, v)| too_long(k) || too_long(v))
    {
        return Some(bad_parameter("A tag is too long."));
    }
    None
}

/// The names, all on one page.
fn list(state: &State) -> Answer {
    let shown = state
        .vault
        .secrets()
        .filter(|secret| secret.deletion == Deletion::None);
    let value: Vec<Value> = shown
        .filter_map(|secret| {
            let id = format!("{}/secrets/{}", state.vault_url, secret.name);
            Some(description(state, id, secret, secret.version(None)?))
        })
        .collect();
    Answer::json(200, &json!({ "value": value, "nextLink": null }))
}

/// A version's JSON without its value.
fn description(state: &State, id: String, secret: &Secret, version: &SecretVersion) -> Value {
    let settings = &version.settings;
    let mut attributes = json!({
        "enabled": settings.enabled,
        "created": version.created,
        "updated": version.updated,
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": 90,
    });
    if let Some(not_before) = settings.not_before {
        attributes["nbf"] = not_before.into();
    }
    if let Some(expires) = settings.expires {
        attributes["exp"] = expires.into();
    }
    let mut bundle = json!({ "id": id, "attributes": attributes });
    if let Some(content_type) = &settings.content_type {
        bundle["contentType"] = content_type.clone().into();
    }
    if !settings.tags.is_empty() {
        bundle["tags"] = json!(settings.tags);
    }
    if secret.managed {
        bundle["managed"] = true.into();
        bundle["kid"] = format!(
            "{}/keys/{}/{}",
            state.vault_url, secret.name, version.version
        )
        .into();
    }
    bundle
}

fn denied(permission: &str, caller: &Identity) -> Answer {
    vault_error(
        403,
        "Forbidden",
        Some("AccessDenied"),
        &format!(
            "The user, group or application 'appid={};oid={}' does not have secrets {permission} \
             permission on key vault 'emulator'.",
            caller.client_id, caller.object_id
        ),
    )
}

fn bad_parameter(message: &str) -> Answer {
    vault_error(400, "BadParameter", None, message)
}

/// `7.0` to `7.6`, and the dated versions. Source: azure-rest-api-specs, keyvault data-plane.
fn is_known_version(version: &str) -> bool {
    let version = version.strip_suffix("-preview").unwrap_or(version);
    match version.strip_prefix("7.") {
        Some(minor) => matches!(minor.parse(), Ok(0..=6_u8)),
        None => [
            "2016-10-01",
            "2025-06-01",
            "2025-07-01",
            "2026-03-01",
            "2026-04-01",
            "2026-07-01",
        ]
        .contains(&version),
    }
}
