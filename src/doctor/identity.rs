//! Which identity service is asked, why that one, and for whom its token is.

#![forbid(unsafe_code)]

use super::report::{Check, Finding};
use crate::azure::{Candidate, Diagnosis, Grant};
use crate::config::{Config, IdentityKind, IdentitySelector};
use crate::secrets::StoreError;

/// What helps where nothing more is known.
const NO_TOKEN: &str = "is this a virtual machine in Azure, with a managed identity? \
                        az vm identity assign -g GROUP -n VM";

/// The service that is asked.
pub(super) fn kind(config: &Config, diagnosis: &Diagnosis) -> Finding {
    let identity = &config.identity;
    let Candidate { kind, reason } = diagnosis.identity();
    let name = kind.name();
    let auto = match identity.kind {
        IdentityKind::Auto => "auto: ",
        _ => "",
    };
    let whose = match &identity.selector {
        None => "the machine's own identity".to_owned(),
        Some(IdentitySelector::ClientId(id)) => format!("the identity with client id {id}"),
        Some(IdentitySelector::ObjectId(id)) => format!("the identity with object id {id}"),
        Some(IdentitySelector::ResourceId(id)) => format!("the identity {id}"),
    };
    let place = match &identity.endpoint {
        Some(endpoint) => format!(" at {}", String::from(endpoint.clone())),
        None => String::new(),
    };
    Finding::passed(
        Check::Identity,
        format!("{name}{place} ({auto}{reason}); {whose}"),
    )
}

/// The token, as far as it may be shown.
pub(super) fn token(token: &Result<Grant, StoreError>) -> Finding {
    let grant = match token {
        Ok(grant) => grant,
        Err(error) => {
            let hint = error.hint.clone().unwrap_or_else(|| NO_TOKEN.to_owned());
            return Finding::failed(Check::Token, error.to_string(), Some(hint));
        }
    };
    let claims = &grant.claims;
    let claims: String = [
        ("object id", &claims.object_id),
        ("client id", &claims.client_id),
        ("resource id", &claims.resource_id),
        ("tenant", &claims.tenant_id),
    ]
    .into_iter()
    .filter_map(|(name, id)| Some(format!("{name} {}, ", id.as_ref()?)))
    .collect();
    let minutes = grant.left.as_secs() / 60;
    Finding::passed(
        Check::Token,
        format!(
            "{claims}good for {} h {:02} min",
            minutes / 60,
            minutes % 60
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::azure::Claims;

    #[test]
    fn a_token_is_shown_by_its_ids_alone() {
        let grant = Grant {
            claims: Claims {
                object_id: Some("o".to_owned()),
                tenant_id: Some("t".to_owned()),
                ..Claims::default()
            },
            left: Duration::from_secs(3 * 3600 + 59),
        };
        let seen = token(&Ok(grant)).seen;
        assert_eq!(seen, "object id o, tenant t, good for 3 h 00 min");
    }
}
