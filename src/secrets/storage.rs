//! A storage account's keys, as they were listed.

#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use crate::secret_bytes::SecretBytes;

/// Both keys, and the connection string that programs of the account want.
#[derive(Debug)]
pub struct StorageKeys {
    /// The first key, in base64.
    pub key1: SecretBytes,
    /// The second key, in base64.
    pub key2: SecretBytes,
    /// With the first key in it.
    pub connection_string: SecretBytes,
}

impl StorageKeys {
    /// The keys of `account`, whose hosts end with `endpoint_suffix`. `None` if they are not in
    /// base64: a key with a semicolon could say anything in a connection string.
    pub fn new(
        account: &str,
        endpoint_suffix: &str,
        key1: SecretBytes,
        key2: SecretBytes,
    ) -> Option<Self> {
        let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let good = |key: &SecretBytes| !key.is_empty() && key.expose().iter().all(base64);
        if !good(&key1) || !good(&key2) {
            return None;
        }
        let key = std::str::from_utf8(key1.expose()).ok()?;
        let mut text = Zeroizing::new(String::with_capacity(256 + key.len()));
        // In the order that `az storage account show-connection-string` has them.
        for part in [
            "DefaultEndpointsProtocol=https;EndpointSuffix=",
            endpoint_suffix,
            ";AccountName=",
            account,
            ";AccountKey=",
            key,
        ] {
            text.push_str(part);
        }
        let connection_string = SecretBytes::new(std::mem::take(&mut *text).into_bytes());
        Some(Self {
            key1,
            key2,
            connection_string,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(key1: &str) -> Option<StorageKeys> {
        let key = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
        StorageKeys::new("acct01", "core.windows.net", key(key1), key("a2V5Mg=="))
    }

    #[test]
    fn the_connection_string_has_the_first_key_and_the_clouds_suffix() {
        let keys = keys("a2V5MQ==").unwrap();
        let expected = "DefaultEndpointsProtocol=https;EndpointSuffix=core.windows.net;\
                        AccountName=acct01;AccountKey=a2V5MQ==";
        assert_eq!(keys.connection_string.expose(), expected.as_bytes());
    }

    #[test]
    fn a_key_that_is_not_base64_is_refused() {
        assert!(keys("a;BlobEndpoint=https://evil.example").is_none());
        assert!(keys("").is_none());
    }
}
