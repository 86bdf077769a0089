//! The clouds Microsoft runs, and where things are in each.
//! Source: azure-cli `cloud.py`, Key Vault's security documentation, `azure-mgmt-core`.

#![forbid(unsafe_code)]

/// A cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cloud {
    /// What the hosts of its vaults end with. The audience of their tokens is `https://` and this.
    pub(super) vault_suffix: &'static str,
    /// Who signs its tokens, without a slash at the end.
    pub authority: &'static str,
    /// Its Resource Manager, without a slash at the end.
    pub resource_manager: &'static str,
    /// The audience of tokens for its Resource Manager, exactly so.
    pub resource_manager_audience: &'static str,
    /// `EndpointSuffix` in the connection strings of its storage accounts.
    pub storage_suffix: &'static str,
}

const CLOUDS: [Cloud; 5] = [
    Cloud {
        vault_suffix: "vault.azure.net",
        authority: "https://login.microsoftonline.com",
        resource_manager: "https://management.azure.com",
        resource_manager_audience: "https://management.azure.com/",
        storage_suffix: "core.windows.net",
    },
    Cloud {
        vault_suffix: "vault.usgovcloudapi.net",
        authority: "https://login.microsoftonline.us",
        resource_manager: "https://management.usgovcloudapi.net",
        resource_manager_audience: "https://management.core.usgovcloudapi.net/",
        storage_suffix: "core.usgovcloudapi.net",
    },
    Cloud {
        vault_suffix: "vault.azure.cn",
        authority: "https://login.chinacloudapi.cn",
        resource_manager: "https://management.chinacloudapi.cn",
        resource_manager_audience: "https://management.core.chinacloudapi.cn/",
        storage_suffix: "core.chinacloudapi.cn",
    },
    Cloud {
        vault_suffix: "vault.microsoftazure.de",
        authority: "https://login.microsoftonline.de",
        resource_manager: "https://management.microsoftazure.de",
        resource_manager_audience: "https://management.core.cloudapi.de/",
        storage_suffix: "core.cloudapi.de",
    },
    Cloud {
        vault_suffix: "vault.sovcloud-api.fr",
        authority: "https://login.sovcloud-identity.fr",
        resource_manager: "https://management.sovcloud-api.fr",
        resource_manager_audience: "https://management.sovcloud-api.fr/",
        storage_suffix: "core.sovcloud-api.fr",
    },
];

impl Cloud {
    /// The public cloud, which a vault's bare name means.
    pub(super) const PUBLIC: Self = CLOUDS[0];

    /// The cloud of a vault's host; `None` for one of no known cloud.
    pub(super) fn of_vault(host: &str) -> Option<Self> {
        CLOUDS.into_iter().find(|cloud| {
            let vault = host.strip_suffix(cloud.vault_suffix);
            let vault = vault.and_then(|vault| vault.strip_suffix('.'));
            vault.is_some_and(|vault| !vault.is_empty() && !vault.contains('.'))
        })
    }

    /// The cloud whose vaults take tokens for `audience`.
    pub fn of_audience(audience: &str) -> Option<Self> {
        let suffix = audience.strip_prefix("https://")?.trim_end_matches('/');
        CLOUDS
            .into_iter()
            .find(|cloud| cloud.vault_suffix == suffix)
    }

    /// The audience of its vaults' tokens.
    pub(super) fn audience(&self) -> String {
        format!("https://{}", self.vault_suffix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_is_known_by_its_vaults_and_by_their_audience() {
        for cloud in CLOUDS {
            let host = format!("myvault.{}", cloud.vault_suffix);
            assert_eq!(Cloud::of_vault(&host), Some(cloud));
            assert_eq!(Cloud::of_audience(&cloud.audience()), Some(cloud));
        }
        assert_eq!(Cloud::of_audience("https://vault.example"), None);
        assert_eq!(Cloud::of_audience("vault.azure.net"), None);
    }
}
