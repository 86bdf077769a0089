//! Which storage accounts' keys a mount shows, and who is asked for them.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use super::{InvalidConfig, VaultUrl};

/// The storage accounts of a mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StorageConfig {
    /// The accounts, no two of one name.
    pub accounts: Vec<StorageAccount>,
    /// Where Azure Resource Manager answers: an address of the same shape as a vault's.
    pub resource_manager: VaultUrl,
    /// The audience of tokens for it.
    pub audience: String,
    /// `EndpointSuffix` in connection strings, such as `core.windows.net`.
    pub endpoint_suffix: String,
}

/// A storage account, by its resource id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StorageAccount {
    subscription: Box<str>,
    group: Box<str>,
    name: Box<str>,
}

impl StorageAccount {
    /// Parses `/subscriptions/…/resourceGroups/…/providers/Microsoft.Storage/storageAccounts/…`.
    pub fn parse(text: &str) -> Result<Self, InvalidConfig> {
        let invalid = || {
            InvalidConfig(format!(
                "{text:?} is not a storage account's resource id; az storage account show --name \
                 ACCOUNT --query id --output tsv prints it"
            ))
        };
        let parts: Vec<&str> = text
            .strip_prefix('/')
            .ok_or_else(invalid)?
            .split('/')
            .collect();
        let [
            subscriptions,
            subscription,
            groups,
            group,
            providers,
            provider,
            accounts,
            name,
        ] = parts[..]
        else {
            return Err(invalid());
        };
        // Resource Manager compares the words of an id without case.
        let words = [
            (subscriptions, "subscriptions"),
            (groups, "resourceGroups"),
            (providers, "providers"),
            (provider, "Microsoft.Storage"),
            (accounts, "storageAccounts"),
        ];
        let as_expected = words
            .iter()
            .all(|(word, expected)| word.eq_ignore_ascii_case(expected));
        let uuid_like = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let subscription_is_good =
            (1..=64).contains(&subscription.len()) && subscription.bytes().all(uuid_like);
        // Source: Microsoft's `resource-name-rules`.
        let in_group = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '(' | ')');
        let group_is_good = (1..=90).contains(&group.chars().count())
            && group.chars().all(in_group)
            && !group.ends_with('.');
        let in_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let name_is_good = (3..=24).contains(&name.len()) && name.bytes().all(in_name);
        if !(as_expected && subscription_is_good && group_is_good && name_is_good) {
            return Err(invalid());
        }
        Ok(Self {
            subscription: subscription.into(),
            group: group.into(),
            name: name.into(),
        })
    }

    /// Its name: 3 to 24 lower-case letters and digits.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its resource id.
    pub fn id(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Storage/storageAccounts/{}",
            self.subscription, self.group, self.name
        )
    }
}

serde_as_text!(StorageAccount, |account| account.id());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_id_names_a_storage_account_or_is_refused() {
        let id = "/subscriptions/0f8fad5b-d9cb-469f-a165-70867728950e/resourceGroups/My.Group_(1)/\
                  providers/Microsoft.Storage/storageAccounts/acct01";
        let account = StorageAccount::parse(id).unwrap();
        assert_eq!((account.name(), account.id().as_str()), ("acct01", id));
        let lower = id.to_ascii_lowercase();
        assert_eq!(StorageAccount::parse(&lower).unwrap().name(), "acct01");
        for (from, to) in [
            ("/subscriptions", "subscriptions"),
            ("Microsoft.Storage", "Microsoft.Compute"),
            ("acct01", "Acct01"),
            ("acct01", "a"),
            ("acct01", "acct01/x"),
            ("acct01", ".."),
            ("My.Group", "..%2f"),
            ("0f8fad5b", "0f8f?x"),
        ] {
            let text = id.replacen(from, to, 1);
            assert!(StorageAccount::parse(&text).is_err(), "{text}");
        }
        assert!(StorageAccount::parse("acct01").is_err());
    }
}
