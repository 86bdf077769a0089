//! `auto`: which identity service a machine is to be asked for tokens, in the order of Microsoft's
//! SDKs.
//!
//! An application's own credentials come first, then the managed identity of whatever hosts the
//! process, as its variables and files show, and at last the metadata service. Only where that
//! does not answer, the VM extension and the az CLI are tried. Source: azure-identity's
//! `DefaultAzureCredential` and `ManagedIdentityCredential`; the VM extension is ours.

#![forbid(unsafe_code)]

use super::wanted::Wanted;
use super::{azure_arc, entra};
use crate::azure::tls::SetupError;
use crate::config::{IdentityKind, IdentitySelector};

/// A service to be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub kind: IdentityKind,
    /// Why it, for people.
    pub reason: &'static str,
}

/// The services to be tried, at least one. Sets the selector and the endpoint that the SDKs take
/// from variables.
pub(super) fn candidates(wanted: &mut Wanted<'_>) -> Result<Vec<Candidate>, SetupError> {
    let only = |kind, reason| Ok(vec![Candidate { kind, reason }]);
    if wanted.endpoint.is_some() {
        return only(
            IdentityKind::Imds,
            "--identity-endpoint names an address and no other kind",
        );
    }
    let around = wanted.surroundings.clone();
    let set = |name: &str| around.variable(name).is_some();
    let application = set("AZURE_CLIENT_ID") && set("AZURE_TENANT_ID");
    if application && set(entra::SECRET_VARIABLE) {
        return only(
            IdentityKind::ClientSecret,
            "AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET are set",
        );
    }
    if application && set(entra::FEDERATED_TOKEN_VARIABLE) {
        return only(
            IdentityKind::WorkloadIdentity,
            "AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_FEDERATED_TOKEN_FILE are set",
        );
    }
    if let Some((kind, reason)) = host(&set) {
        if takes_a_client_id(kind) {
            select_by_variable(wanted);
        }
        return only(kind, reason);
    }
    if around.place(azure_arc::AGENT).exists() {
        return only(
            IdentityKind::AzureArc,
            "the agent of Azure Arc is installed",
        );
    }
    select_by_variable(wanted);
    wanted.endpoint = wanted.endpoint_in("AZURE_POD_IDENTITY_AUTHORITY_HOST")?;
    if wanted.endpoint.is_some() {
        return only(
            IdentityKind::Imds,
            "AZURE_POD_IDENTITY_AUTHORITY_HOST is set",
        );
    }
    let mut candidates = vec![
        Candidate {
            kind: IdentityKind::Imds,
            reason: "no variable or file names another identity service",
        },
        Candidate {
            kind: IdentityKind::VmExtension,
            reason: "the metadata service does not answer, the VM extension does",
        },
    ];
    // It has one identity; whoever names another does not mean that.
    if wanted.selector.is_none() && around.program("az").is_some() {
        candidates.push(Candidate {
            kind: IdentityKind::AzureCli,
            reason: "no identity service answers, and somebody is logged in",
        });
    }
    Ok(candidates)
}

/// The service of whatever hosts the process, by the variables it sets.
fn host(set: &impl Fn(&str) -> bool) -> Option<(IdentityKind, &'static str)> {
    let service = if set("IDENTITY_ENDPOINT") {
        match (
            set("IDENTITY_HEADER"),
            set("IDENTITY_SERVER_THUMBPRINT"),
            set("IMDS_ENDPOINT"),
        ) {
            (true, true, _) => (
                IdentityKind::ServiceFabric,
                "IDENTITY_ENDPOINT, IDENTITY_HEADER and IDENTITY_SERVER_THUMBPRINT are set",
            ),
            (true, false, _) => (
                IdentityKind::AppService,
                "IDENTITY_ENDPOINT and IDENTITY_HEADER are set",
            ),
            (false, _, true) => (
                IdentityKind::AzureArc,
                "IDENTITY_ENDPOINT and IMDS_ENDPOINT are set",
            ),
            (false, _, false) => return None,
        }
    } else if set("MSI_ENDPOINT") {
        if set("MSI_SECRET") {
            (IdentityKind::AzureMl, "MSI_ENDPOINT and MSI_SECRET are set")
        } else {
            (IdentityKind::CloudShell, "MSI_ENDPOINT is set")
        }
    } else {
        return None;
    };
    Some(service)
}

fn takes_a_client_id(kind: IdentityKind) -> bool {
    matches!(kind, IdentityKind::AppService | IdentityKind::AzureMl)
}

/// `AZURE_CLIENT_ID` selects a managed identity where no option does, as in the SDKs.
fn select_by_variable(wanted: &mut Wanted<'_>) {
    let named = wanted.surroundings.variable("AZURE_CLIENT_ID");
    let selector = wanted.selector.take();
    wanted.selector = selector.or(named.map(IdentitySelector::ClientId));
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::surroundings::Surroundings;
    use super::*;
    use crate::config::VaultUrl;

    /// The kinds tried, and the selector, where these variables are set and files are.
    fn tried(variables: &[&str], root: &Path) -> (Vec<IdentityKind>, Option<IdentitySelector>) {
        let vault = VaultUrl::parse("myvault").unwrap();
        let pairs = variables.iter().map(|name| (*name, "http://127.0.0.1:1"));
        let mut wanted = Wanted {
            resource: "https://vault.azure.net",
            vault: &vault,
            endpoint: None,
            selector: None,
            tenant: None,
            client_secret_file: None,
            surroundings: Arc::new(Surroundings::given(pairs, root)),
        };
        let candidates = candidates(&mut wanted).unwrap();
        let kinds = candidates.iter().map(|candidate| candidate.kind).collect();
        (kinds, wanted.selector)
    }

    #[test]
    fn the_order_is_that_of_microsofts_sdks() {
        use IdentityKind::*;
        let application = ["AZURE_CLIENT_ID", "AZURE_TENANT_ID"];
        let with = |more: &[&'static str]| [&application[..], more].concat();
        let everywhere = ["IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT"];
        for (variables, kind) in [
            (
                with(&["AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE"]),
                ClientSecret,
            ),
            (
                with(&["AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT"]),
                WorkloadIdentity,
            ),
            (with(&everywhere), AppService),
            (
                vec![
                    "AZURE_CLIENT_SECRET",
                    "IDENTITY_ENDPOINT",
                    "IDENTITY_HEADER",
                ],
                AppService,
            ),
            (
                vec![
                    "IDENTITY_ENDPOINT",
                    "IDENTITY_HEADER",
                    "IDENTITY_SERVER_THUMBPRINT",
                ],
                ServiceFabric,
            ),
            (
                vec!["IDENTITY_ENDPOINT", "IMDS_ENDPOINT", "MSI_ENDPOINT"],
                AzureArc,
            ),
            (vec!["MSI_ENDPOINT", "MSI_SECRET"], AzureMl),
            (vec!["MSI_ENDPOINT"], CloudShell),
        ] {
            let (kinds, _) = tried(&variables, Path::new("/nowhere"));
            assert_eq!(kinds, [kind], "{variables:?}");
        }
    }

    #[test]
    fn without_a_sign_of_anything_else_the_metadata_service_is_asked_first() {
        let (kinds, selector) = tried(&[], Path::new("/nowhere"));
        assert_eq!(kinds, [IdentityKind::Imds, IdentityKind::VmExtension]);
        assert_eq!(selector, None);
        let (kinds, _) = tried(
            &["AZURE_POD_IDENTITY_AUTHORITY_HOST"],
            Path::new("/nowhere"),
        );
        assert_eq!(kinds, [IdentityKind::Imds]);
    }

    #[test]
    fn the_agent_of_azure_arc_is_found_by_its_file() {
        let root = tempfile::tempdir().unwrap();
        let agent = root.path().join(azure_arc::AGENT.trim_start_matches('/'));
        std::fs::create_dir_all(agent.parent().unwrap()).unwrap();
        std::fs::write(agent, "").unwrap();
        assert_eq!(tried(&[], root.path()).0, [IdentityKind::AzureArc]);
    }

    #[test]
    fn a_client_id_in_the_environment_selects_a_managed_identity_where_one_can_be_selected() {
        let nowhere = Path::new("/nowhere");
        let named = Some(IdentitySelector::ClientId("http://127.0.0.1:1".to_owned()));
        assert_eq!(tried(&["AZURE_CLIENT_ID"], nowhere).1, named);
        let app_service = ["AZURE_CLIENT_ID", "IDENTITY_ENDPOINT", "IDENTITY_HEADER"];
        assert_eq!(tried(&app_service, nowhere).1, named);
        assert_eq!(tried(&["AZURE_CLIENT_ID", "MSI_ENDPOINT"], nowhere).1, None);
    }
}
