//! A storage account's keys, by Azure Resource Manager's `listKeys`.
//!
//! A POST without a body that changes nothing, so that it may be sent again; but it counts as a
//! write against the subscription's limits, so that callers share one answer.
//! Source: azure-rest-api-specs, Microsoft.Storage `storageAccounts/listKeys`.

#![forbid(unsafe_code)]

use std::time::Instant;

use reqwest::Method;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::http::Connection;
use super::retry::Attempts;
use super::vault_client::{Call, VaultClient};
use crate::config::{StorageAccount, StorageConfig};
use crate::secret_bytes::SecretBytes;
use crate::secrets::{StorageKeys, StoreError};

/// Answers name each key; newer versions add fields that nobody here needs.
const API_VERSION: &str = "2023-05-01";

/// Resource Manager, and the identity that may list keys there.
pub(super) struct StorageAccounts {
    client: VaultClient,
    endpoint_suffix: String,
}

impl StorageAccounts {
    /// The accounts of `config`, by way of `client`.
    pub(super) fn new(config: &StorageConfig, client: VaultClient) -> Self {
        Self {
            client,
            endpoint_suffix: config.endpoint_suffix.clone(),
        }
    }

    /// Lists an account's keys, again and again within reason.
    pub(super) async fn keys(
        &self,
        account: &StorageAccount,
        deadline: Instant,
    ) -> Result<StorageKeys, StoreError> {
        let resource_manager = self.client.vault();
        let mut url = resource_manager.url().clone();
        url.set_path(&format!("{}/listKeys", account.id()));
        url.query_pairs_mut()
            .append_pair("api-version", API_VERSION);
        let (name, host) = (account.name(), resource_manager.host());
        let what = format!("POST listKeys of storage account {name} to {host}");
        let call = Call::new(what, Method::POST, url).with_json(Vec::new());
        let mut attempts = Attempts::default();
        loop {
            let failed = match self.client.send(&call, Connection::Kept, deadline).await {
                Ok(answer) => match parse(answer.body.expose(), name, &self.endpoint_suffix) {
                    Some(keys) => return Ok(keys),
                    None => self.client.malformed(&call, &answer),
                },
                Err(failed) => failed,
            };
            failed.pause(&mut attempts, deadline).await?;
        }
    }
}

/// The two keys of an answer; `None` if it is not one of `listKeys`.
pub(super) fn parse(body: &[u8], account: &str, endpoint_suffix: &str) -> Option<StorageKeys> {
    let answer: Wire = serde_json::from_slice(body).ok()?;
    let key = |name: &str| {
        let mut keys = answer.keys.iter();
        let key = keys.find(|key| key.name.eq_ignore_ascii_case(name))?;
        Some(SecretBytes::new(key.value.as_bytes().to_vec()))
    };
    StorageKeys::new(account, endpoint_suffix, key("key1")?, key("key2")?)
}

#[derive(Deserialize)]
struct Wire {
    keys: Vec<WireKey>,
}

#[derive(Deserialize)]
struct WireKey {
    #[serde(rename = "keyName")]
    name: String,
    value: Zeroizing<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_keys_are_found_by_their_names_in_any_order() {
        let body = br#"{"keys":[
            {"keyName":"KEY2","permissions":"FULL","value":"Mg==","creationTime":"2026-01-01T00:00:00Z"},
            {"keyName":"kerb1","permissions":"Full","value":"eA=="},
            {"keyName":"key1","permissions":"Full","value":"MQ=="}]}"#;
        let keys = parse(body, "acct01", "core.windows.net").unwrap();
        assert_eq!(keys.key1.expose(), b"MQ==");
        assert_eq!(keys.key2.expose(), b"Mg==");
    }

    #[test]
    fn what_is_no_answer_of_list_keys_gives_no_keys() {
        for body in [
            "",
            "{}",
            r#"{"keys":[]}"#,
            r#"{"key1":"MQ==","key2":"Mg=="}"#,
            r#"{"keys":[{"keyName":"key1","value":"MQ=="}]}"#,
        ] {
            assert!(parse(body.as_bytes(), "a", "s").is_none(), "{body}");
        }
    }
}
