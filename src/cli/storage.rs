//! `--storage-account` and `--arm-endpoint`: which keys are shown, and which Resource Manager is asked.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::error::Error;
use crate::config::{Cloud, StorageAccount, StorageConfig, VaultUrl};

/// The storage accounts, and the Resource Manager of the cloud whose vaults take tokens for
/// `audience`.
pub(super) fn storage(
    accounts: &[StorageAccount],
    endpoint: Option<&str>,
    audience: &str,
) -> Result<Option<StorageConfig>, Error> {
    let endpoint = endpoint.map(VaultUrl::parse).transpose();
    let endpoint = endpoint.map_err(|_| Error::Value {
        option: "--arm-endpoint",
        problem: "is not an https:// URL of a host alone, such as https://management.azure.com",
    })?;
    if accounts.is_empty() {
        return Ok(None);
    }
    let option = "--storage-account";
    let Some(cloud) = Cloud::of_audience(audience) else {
        let problem = "needs a vault of a cloud that is known, to tell which Resource Manager and \
                       which storage hosts go with it";
        return Err(Error::Value { option, problem });
    };
    let mut names = BTreeSet::new();
    if !accounts.iter().all(|account| names.insert(account.name())) {
        let problem = "names the same account twice";
        return Err(Error::Value { option, problem });
    }
    Ok(Some(StorageConfig {
        resource_manager: match endpoint {
            Some(endpoint) => endpoint,
            None => VaultUrl::parse(cloud.resource_manager).map_err(Error::Vault)?,
        },
        audience: cloud.resource_manager_audience.to_owned(),
        endpoint_suffix: cloud.storage_suffix.to_owned(),
        accounts: accounts.to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> StorageAccount {
        let id = format!(
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/{name}"
        );
        StorageAccount::parse(&id).unwrap()
    }

    #[test]
    fn storage_accounts_go_with_the_cloud_of_the_vaults_tokens() {
        let (public, china) = ("https://vault.azure.net", "https://vault.azure.cn");
        assert!(storage(&[], None, public).unwrap().is_none());
        let both = [account("one01"), account("two02")];
        let found = storage(&both, None, public).unwrap().unwrap();
        assert_eq!(found.accounts, both);
        assert_eq!(
            found.resource_manager.to_string(),
            "https://management.azure.com"
        );
        let own = Some("https://localhost:1");
        let found = storage(&both, own, china).unwrap().unwrap();
        assert_eq!(found.audience, "https://management.core.chinacloudapi.cn/");
        assert_eq!(found.endpoint_suffix, "core.chinacloudapi.cn");
        assert_eq!(found.resource_manager.to_string(), "https://localhost:1");
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        let (one, public) = (account("one01"), "https://vault.azure.net");
        for (accounts, endpoint, audience, word) in [
            (vec![one.clone(), one.clone()], None, public, "twice"),
            (vec![one.clone()], None, "https://vault.example", "known"),
            (vec![one], Some("http://x.y"), public, "--arm-endpoint"),
        ] {
            let error = storage(&accounts, endpoint, audience).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
