//! The controls over HTTP, for shell scripts and for tests in other languages. JSON both ways.
//!
//! ```text
//! GET    /                       where everything listens
//! GET    /log, DELETE /log       the requests so far; forget them
//! GET    /secrets                the names
//! GET    /secrets/NAME           all versions, with values
//! PUT    /secrets/NAME           {"value": …, "content_type", "tags", "enabled", "not_before", "expires"}
//! PATCH  /secrets/NAME           {"enabled": …, "managed": …, "deletion": "recoverable"}
//! PUT    /certificates/NAME      {"host": …, "format": "application/x-pkcs12"}
//! PUT    /storage-accounts       {"id": …, "access": "granted", "denied", "locked"}; answers new keys
//! PUT    /policy                 ["get", "set"]
//! PUT    /identities             [{"client_id": …, "object_id": …, "resource_id": …}]
//! PUT    /tokens, DELETE /tokens {"lifetime": seconds}; revoke all
//! PUT    /clock                  {"skew": seconds}
//! POST   /faults                 a `Fault`; answers its id
//! DELETE /faults, /faults/ID     remove all, or one
//! PUT    /listening/SERVICE      true or false
//! PUT    /certificate            "valid", "expired", "wrong-host", "unknown-issuer"
//! ```

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::Answer;
use super::certificates::CertificateFormat;
use super::controls::Controls;
use super::faults::Fault;
use super::identity::Identity;
use super::policy::Permission;
use super::request::{Request, Service};
use super::resource_manager::KeyAccess;
use super::tls::Certificate;
use super::vault::{Deletion, Settings};

/// A value for a secret, with what goes beside it.
#[derive(Debug, Deserialize)]
pub(super) struct NewVersion {
    pub(super) value: String,
    #[serde(flatten)]
    pub(super) settings: Settings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretChange {
    enabled: Option<bool>,
    managed: Option<bool>,
    deletion: Option<Deletion>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCertificate {
    host: String,
    format: CertificateFormat,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewStorageAccount {
    id: String,
    #[serde(default)]
    access: KeyAccess,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenChange {
    lifetime: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    skew: i64,
}

/// Answers a request to the controls.
pub(super) fn answer(controls: &Controls, request: &Request) -> Answer {
    match carry_out(controls, request) {
        Ok(body) => Answer::json(200, &body),
        Err(Refused { status, reason }) => Answer::json(status, &json!({ "error": reason })),
    }
}

struct Refused {
    status: u16,
    reason: String,
}

impl Refused {
    fn bad(reason: impl ToString) -> Self {
        Self {
            status: 400,
            reason: reason.to_string(),
        }
    }

    fn not_found(what: &str) -> Self {
        Self {
            status: 404,
            reason: format!("there is no {what}"),
        }
    }
}

fn carry_out(controls: &Controls, request: &Request) -> Result<Value, Refused> {
    let segments = request.segments();
    if request.method == "GET" {
        return show(controls, &segments).ok_or_else(|| Refused::not_found("such control"));
    }
    change(controls, &request.method, &segments, &request.body)
}

fn show(controls: &Controls, segments: &[&str]) -> Option<Value> {
    match segments {
        [] => Some(json!(controls.endpoints())),
        ["log"] => Some(json!(controls.log())),
        ["secrets"] => Some(json!(controls.secret_names())),
        ["secrets", name] => Some(json!(controls.versions(name))),
        _ => None,
    }
}

fn change(
    controls: &Controls,
    method: &str,
    segments: &[&str],
    body: &[u8],
) -> Result<Value, Refused> {
    match (method, segments) {
        ("DELETE", ["log"]) => controls.clear_log(),
        ("PUT", ["secrets", name]) => {
            let new: NewVersion = parse(body)?;
            let version = controls.set_secret_with(name, &new.value, new.settings);
            return Ok(json!({ "version": version }));
        }
        ("PATCH", ["secrets", name]) => change_secret(controls, name, parse(body)?)?,
        ("PUT", ["certificates", name]) => {
            let NewCertificate { host, format } = parse(body)?;
            let version = controls.keep_certificate(name, &host, format);
            return Ok(json!({ "version": version.map_err(Refused::bad)? }));
        }
        ("PUT", ["storage-accounts"]) => {
            let NewStorageAccount { id, access } = parse(body)?;
            return Ok(json!({ "keys": controls.set_storage_account(&id, access) }));
        }
        ("PUT", ["policy"]) => controls.set_policy(parse::<Vec<Permission>>(body)?),
        ("PUT", ["identities"]) => controls.set_identities(parse::<Vec<Identity>>(body)?),
        ("PUT", ["tokens"]) => {
            let TokenChange { lifetime } = parse(body)?;
            controls.set_token_lifetime(lifetime);
        }
        ("DELETE", ["tokens"]) => controls.revoke_tokens(),
        ("PUT", ["clock"]) => {
            let ClockChange { skew } = parse(body)?;
            controls.set_clock_skew(skew);
        }
        ("POST", ["faults"]) => {
            let id = controls.add_fault(parse::<Fault>(body)?);
            return Ok(json!({ "id": id }));
        }
        ("DELETE", ["faults"]) => controls.clear_faults(),
        ("DELETE", ["faults", id]) => {
            if !controls.remove_fault(id.parse().map_err(Refused::bad)?) {
                return Err(Refused::not_found("fault of that id"));
            }
        }
        ("PUT", ["listening", service]) => {
            let service = parse_service(service)?;
            let changed = match parse(body)? {
                true => controls.resume(service),
                false => controls.pause(service),
            };
            changed.map_err(Refused::bad)?;
        }
        ("PUT", ["certificate"]) => {
            let certificate: Certificate = parse(body)?;
            controls
                .set_certificate(certificate)
                .map_err(Refused::bad)?;
        }
        _ => return Err(Refused::not_found("such control")),
    }
    Ok(json!({}))
}

fn change_secret(controls: &Controls, name: &str, change: SecretChange) -> Result<(), Refused> {
    if controls.versions(name).is_empty() {
        return Err(Refused::not_found("such secret"));
    }
    if let Some(enabled) = change.enabled {
        controls.set_enabled(name, enabled);
    }
    if let Some(managed) = change.managed {
        controls.set_managed(name, managed);
    }
    if let Some(deletion) = change.deletion {
        controls.set_deletion(name, deletion);
    }
    Ok(())
}

fn parse_service(name: &str) -> Result<Service, Refused> {
    let found = Service::ALL
        .into_iter()
        .find(|service| service.name() == name);
    match found {
        // Its own port closed, it could not be opened again.
        None | Some(Service::Control) => Err(Refused::not_found("such service to close")),
        Some(service) => Ok(service),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(Refused::bad)
}
