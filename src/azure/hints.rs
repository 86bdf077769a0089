//! What to do about a vault's refusal: the command that mends it, with the real names in it.
//!
//! Pure. The identity's object id comes from the token itself, so that the command can be run as
//! it is printed.

#![forbid(unsafe_code)]

use super::problem::Problem;
use crate::config::VaultUrl;
use crate::secrets::Failure;

/// What is known where a request was refused.
pub(super) struct Circumstances<'a> {
    /// The vault asked.
    pub vault: &'a VaultUrl,
    /// Which resource the token was for.
    pub resource: &'a str,
    /// Who was refused, if the token showed it.
    pub object_id: Option<&'a str>,
}

/// What helps where a token with the claims that the vault demands could not be had.
pub(super) const CLAIMS: &str = "continuous access evaluation refuses the token (insufficient_claims): \
    see in Entra's sign-in log whether the identity was disabled, its sessions revoked, or a \
    location policy keeps this address out";

/// What helps against `failure`, if anything does.
pub(super) fn hint(
    failure: Failure,
    problem: &Problem,
    circumstances: &Circumstances<'_>,
) -> Option<String> {
    let vault = vault_name(circumstances.vault);
    let who = circumstances.object_id.unwrap_or("OBJECT-ID");
    let text = match failure {
        Failure::Forbidden if problem.is("ForbiddenByFirewall") => format!(
            "the vault's firewall does not let this address in: az keyvault network-rule add \
             --name {vault} --ip-address ADDRESS, or a service or private endpoint"
        ),
        Failure::Forbidden if problem.is("ForbiddenByConnection") => {
            "the vault takes no connections from public networks: use its private endpoint, or \
             allow public access"
                .to_owned()
        }
        Failure::Forbidden if problem.is("ForbiddenByRbac") => format!(
            "grant a role on the vault and wait some minutes: az role assignment create \
             --assignee-object-id {who} --assignee-principal-type ServicePrincipal --role \
             'Key Vault Secrets User' (to read; to set: 'Key Vault Secrets Officer') --scope \
             $(az keyvault show --name {vault} --query id -o tsv)"
        ),
        Failure::Forbidden if problem.is("ForbiddenByPolicy") => {
            "the vault's policy takes no tokens of applications alone".to_owned()
        }
        Failure::Forbidden => format!(
            "grant the permission: az keyvault set-policy --name {vault} --object-id {who} \
             --secret-permissions get set"
        ),
        Failure::Unauthorized if problem.is("AKV10032") => {
            "the token comes from another tenant than the vault's".to_owned()
        }
        Failure::Unauthorized if problem.is("AKV10022") => format!(
            "the token is for {}, which this vault does not take; name the right audience with \
             --resource",
            circumstances.resource
        ),
        Failure::Disabled => {
            "the version is disabled: az keyvault secret set-attributes --enabled true, or set a \
             new one"
                .to_owned()
        }
        Failure::Managed => {
            "a certificate of this name keeps the secret; import the certificate anew instead"
                .to_owned()
        }
        Failure::DeletedButRecoverable => format!(
            "a deleted secret holds the name: az keyvault secret recover --vault-name {vault} \
             --name NAME, or purge it"
        ),
        Failure::Redirected => {
            "something between here and the vault redirects; redirects are not followed".to_owned()
        }
        Failure::Undecodable => {
            "the value is not what its tag file-encoding says; correct either in the vault"
                .to_owned()
        }
        Failure::Tls => {
            "if a proxy inspects TLS, or the cloud is private, trust its CA with --ca-cert; also \
             look whether this machine's clock is right"
                .to_owned()
        }
        Failure::Unreachable => {
            let host = circumstances.vault.host();
            format!(
                "is the name right, and known here (getent hosts {host})? If so, does a firewall, a \
                 proxy (see --proxy) or a private endpoint stand between (curl -v https://{host})?"
            )
        }
        Failure::WrongChallenge => format!(
            "the vault asks for a token for another resource than {}: if it is the right vault, \
             name its audience with --resource",
            circumstances.resource
        ),
        _ => return None,
    };
    Some(text)
}

/// What helps against Resource Manager's `failure` to list the keys of the account at `path`.
pub(super) fn storage_hint(
    failure: Failure,
    path: &str,
    circumstances: &Circumstances<'_>,
) -> Option<String> {
    let account = path.trim_end_matches("/listKeys");
    let who = circumstances.object_id.unwrap_or("OBJECT-ID");
    let text = match failure {
        Failure::Forbidden => format!(
            "grant a role on the account and wait some minutes: az role assignment create \
             --assignee-object-id {who} --assignee-principal-type ServicePrincipal --role \
             'Storage Account Key Operator Service Role' --scope {account}"
        ),
        Failure::NotFound => {
            format!("there is no such storage account: az storage account show --ids {account}")
        }
        Failure::ScopeLocked => {
            "a read-only lock on the account, its group or its subscription forbids listing keys: \
             az lock list"
                .to_owned()
        }
        _ => return None,
    };
    Some(text)
}

/// The vault's name as the az CLI wants it: the first label of its host.
fn vault_name(vault: &VaultUrl) -> &str {
    match vault.resource() {
        Some(_) => vault.host().split('.').next().unwrap_or_default(),
        None => vault.host(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint_for(inner: &str, object_id: Option<&str>) -> String {
        let body =
            format!(r#"{{"error":{{"code":"Forbidden","innererror":{{"code":"{inner}"}}}}}}"#);
        let vault = VaultUrl::parse("myvault").unwrap();
        let circumstances = Circumstances {
            vault: &vault,
            resource: "https://vault.azure.net",
            object_id,
        };
        let problem = Problem::parse(body.as_bytes());
        hint(problem.failure(403), &problem, &circumstances).unwrap()
    }

    #[test]
    fn a_missing_policy_is_mended_by_a_command_that_runs_as_it_is_printed() {
        let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let hint = hint_for("AccessDenied", Some(id));
        assert!(hint.contains(&format!(
            "az keyvault set-policy --name myvault --object-id {id} --secret-permissions get set"
        )));
    }

    #[test]
    fn each_kind_of_403_has_its_own_remedy() {
        assert!(hint_for("ForbiddenByRbac", None).contains("Key Vault Secrets User"));
        assert!(hint_for("ForbiddenByFirewall", None).contains("network-rule add"));
        assert!(hint_for("ForbiddenByConnection", None).contains("private endpoint"));
        assert!(hint_for("SecretManagedByKeyVault", None).contains("certificate"));
        assert!(hint_for("SecretDisabled", None).contains("--enabled true"));
    }
}
