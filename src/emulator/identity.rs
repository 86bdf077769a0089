//! The managed identities of the machine, and which of them a request means.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::request::Pairs;

/// A managed identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Its client id.
    pub client_id: String,
    /// Its object (principal) id.
    pub object_id: String,
    /// Its Azure resource id; the system-assigned identity has none.
    #[serde(default)]
    pub resource_id: Option<String>,
}

impl Identity {
    /// The machine's own identity, with fixed ids.
    pub fn system_assigned() -> Self {
        Self {
            client_id: "11111111-1111-4111-8111-111111111111".to_owned(),
            object_id: "22222222-2222-4222-8222-222222222222".to_owned(),
            resource_id: None,
        }
    }

    /// A user-assigned identity with ids that follow from its name.
    pub fn user_assigned(name: &str) -> Self {
        Self {
            client_id: id_of("client", name),
            object_id: id_of("object", name),
            resource_id: Some(format!(
                "/subscriptions/emulator/resourceGroups/emulator/providers/\
                 Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
            )),
        }
    }
}

/// An id in the form of Azure's.
fn id_of(kind: &str, name: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (kind, name).hash(&mut hasher);
    let hash = hasher.finish();
    let (first, last) = (hash >> 32, hash & 0xffff_ffff);
    format!("{first:08x}-0000-4000-8000-0000{last:08x}")
}

/// The parameters that name an identity. Source: the SDKs; `msi_res_id` is IMDS's name.
pub(super) const SELECTORS: [&str; 3] = ["client_id", "object_id", "msi_res_id"];
/// App Service's names for the same.
pub(super) const APP_SERVICE_SELECTORS: [&str; 3] = ["client_id", "principal_id", "mi_res_id"];
/// Azure ML knows client ids alone.
pub(super) const AZURE_ML_SELECTORS: [&str; 1] = ["clientid"];

/// Finds the identity that a token request means. The error is the description that IMDS gives.
///
/// Without a selector it is the system-assigned identity, or the only user-assigned one.
pub(super) fn select<'a>(
    identities: &'a [Identity],
    parameters: &Pairs,
    selectors: &[&str],
) -> Result<&'a Identity, &'static str> {
    let mut named = selectors
        .iter()
        .filter_map(|selector| Some((*selector, parameters.value(selector)?)));
    let Some((selector, wanted)) = named.next() else {
        return unselected(identities);
    };
    if named.next().is_some() {
        // Not documented; whatever the real text, two answers cannot both be meant.
        return Err("More than one identity is specified in the token request");
    }
    let matches = |id: &str| id.eq_ignore_ascii_case(wanted);
    identities
        .iter()
        .find(|identity| match selector {
            "client_id" | "clientid" => matches(&identity.client_id),
            "object_id" | "principal_id" => matches(&identity.object_id),
            _ => identity.resource_id.as_deref().is_some_and(matches),
        })
        .ok_or("Identity not found")
}

fn unselected(identities: &[Identity]) -> Result<&Identity, &'static str> {
    let system_assigned = identities.iter().find(|one| one.resource_id.is_none());
    match (system_assigned, identities) {
        (Some(identity), _) | (None, [identity]) => Ok(identity),
        (None, []) => Err("Identity not found"),
        (None, _) => Err(
            "Multiple user assigned identities exist, please specify the clientId / resourceId of \
             the identity in the token request",
        ),
    }
}
