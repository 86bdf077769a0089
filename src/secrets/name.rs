//! Names and versions, parsed once so that nothing else can reach a URL or a log.

#![forbid(unsafe_code)]

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

/// The longest name a vault accepts, in characters.
const NAME_MAX: usize = 127;

/// Why a text is no secret's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidName {
    /// Longer than [`NAME_MAX`].
    TooLong,
    /// Empty, or with a character other than `0-9 A-Z a-z -`.
    Characters,
}

/// A secret's name: `[0-9A-Za-z-]{1,127}`, compared without case, as the vault does.
///
/// The spelling given is kept, because a vault shows a new secret as it was spelled first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(Box<str>);

impl SecretName {
    /// Parses a path component. The error says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err(InvalidName::Characters);
        }
        if text.len() > NAME_MAX {
            return Err(InvalidName::TooLong);
        }
        Ok(Self(text.into()))
    }

    /// The name as it was spelled.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The spelling that is the same for all spellings of one name.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl PartialEq for SecretName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for SecretName {}

impl Hash for SecretName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> Self {
        name.0.into()
    }
}

impl TryFrom<String> for SecretName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|_| format!("not a secret's name: {text:?}"))
    }
}

/// A version's identifier: 32 hexadecimal digits, kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretVersion(Box<str>);

impl SecretVersion {
    /// Parses an identifier; `None` for anything but 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// The 32 digits, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<SecretVersion> for String {
    fn from(version: SecretVersion) -> Self {
        version.0.into()
    }
}

impl TryFrom<String> for SecretVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("not a secret's version: {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_letters_digits_and_dashes_only() {
        for good in ["a", "-", "4913", "SQLPasswd", &"x".repeat(127)] {
            assert!(SecretName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a_b", "a.b", "a b", "ä", "a/b", "a@b"] {
            assert_eq!(
                SecretName::parse(bad),
                Err(InvalidName::Characters),
                "{bad}"
            );
        }
        assert_eq!(
            SecretName::parse(&"x".repeat(128)),
            Err(InvalidName::TooLong)
        );
    }

    #[test]
    fn names_compare_without_case_and_keep_their_spelling() {
        let name = SecretName::parse("SQLPasswd").unwrap();
        assert_eq!(name, SecretName::parse("sqlpasswd").unwrap());
        assert_eq!(name.as_str(), "SQLPasswd");
    }

    #[test]
    fn versions_are_32_hexadecimal_digits() {
        let digits = "03BCCCC7C8CF4546A0E3E21E52560441";
        assert_eq!(
            SecretVersion::parse(digits).unwrap().as_str(),
            digits.to_ascii_lowercase()
        );
        assert_eq!(SecretVersion::parse(&digits[1..]), None);
        assert_eq!(
            SecretVersion::parse("g3bcccc7c8cf4546a0e3e21e52560441"),
            None
        );
    }
}
