//! A vault's address, and what follows from it.

#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Cloud, InvalidConfig};

/// A vault's address: `https`, a host, maybe a port, nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VaultUrl(Url);

impl VaultUrl {
    /// Parses a vault's name (of the public cloud), host, or `https` URL.
    pub fn parse(text: &str) -> Result<Self, InvalidConfig> {
        let invalid = |reason: &str| {
            InvalidConfig(format!(
                "{text:?} is not a vault: {reason}; give a vault's name (myvault), its host \
                 (myvault.vault.azure.net) or its https:// URL"
            ))
        };
        let url = if text.contains("://") {
            text.to_owned()
        } else if text.contains(['.', ':']) {
            format!("https://{text}")
        } else {
            // Key Vault's own rule: 3 to 24 letters, digits and dashes, a letter first, no dash
            // last. No two dashes in a row, either.
            let named_well = (3..=24).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && text.starts_with(|c: char| c.is_ascii_alphabetic())
                && !text.ends_with('-')
                && !text.contains("--");
            if !named_well {
                return Err(invalid(
                    "a vault's name has 3 to 24 letters, digits and single dashes, and starts \
                     with a letter",
                ));
            }
            format!("https://{text}.{}", Cloud::PUBLIC.vault_suffix)
        };
        let url = Url::parse(&url).map_err(|error| invalid(&error.to_string()))?;
        match url.scheme() {
            "https" => {}
            "http" => return Err(invalid("secrets do not travel over plain http")),
            _ => return Err(invalid("its scheme is not https")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it names a user"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it has more than a host and a port"));
        }
        Ok(Self(url))
    }

    /// The host, in lower case.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The address as a URL whose path is `/`.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The token audience of the vault's cloud; `None` for a host of no known cloud, to which
    /// no token goes on a guess.
    pub fn resource(&self) -> Option<String> {
        self.cloud().map(|cloud| cloud.audience())
    }

    /// Where applications of the vault's cloud get tokens, without a slash at the end; `None` for
    /// a host of no known cloud.
    pub fn authority(&self) -> Option<&'static str> {
        self.cloud().map(|cloud| cloud.authority)
    }

    fn cloud(&self) -> Option<Cloud> {
        Cloud::of_vault(self.host())
    }
}

impl fmt::Display for VaultUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

serde_as_text!(VaultUrl, |vault| vault.to_string());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_is_a_name_a_host_or_an_https_url() {
        for (text, url) in [
            ("myvault", "https://myvault.vault.azure.net"),
            ("myvault.vault.azure.cn", "https://myvault.vault.azure.cn"),
            (
                "https://MyVault.vault.azure.net/",
                "https://myvault.vault.azure.net",
            ),
            ("localhost:8443", "https://localhost:8443"),
            ("https://10.0.0.4:444", "https://10.0.0.4:444"),
        ] {
            assert_eq!(VaultUrl::parse(text).unwrap().to_string(), url, "{text}");
        }
        for text in [
            "",
            "a",
            "my_vault",
            "1vault",
            "vault-",
            "my--vault",
            "http://myvault.vault.azure.net",
            "ftp://x.y",
            "https://u:p@x.y",
            "https://x.y/secrets",
            "https://x.y?a=b",
            "https://",
            "my vault",
        ] {
            assert!(VaultUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_audience_follows_from_the_cloud_and_from_nothing_else() {
        let resource = |text: &str| VaultUrl::parse(text).unwrap().resource();
        assert_eq!(
            resource("myvault").as_deref(),
            Some("https://vault.azure.net")
        );
        assert_eq!(
            resource("v.vault.usgovcloudapi.net").as_deref(),
            Some("https://vault.usgovcloudapi.net")
        );
        let authority = |text: &str| VaultUrl::parse(text).unwrap().authority();
        assert_eq!(
            authority("v.vault.azure.cn"),
            Some("https://login.chinacloudapi.cn")
        );
        assert_eq!(authority("localhost:1"), None);
        for host in [
            "vault.azure.net",
            "evilvault.azure.net",
            "a.b.vault.azure.net",
            "localhost:1",
        ] {
            assert_eq!(resource(host), None, "{host}");
        }
    }
}
