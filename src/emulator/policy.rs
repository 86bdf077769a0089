//! The vault's access policy: which operations on secrets it grants.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A permission on secrets. There is none to delete: the emulator deletes nothing on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// To read a secret's value.
    Get,
    /// To make a new version.
    Set,
    /// To see the names.
    List,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::List => "list",
        })
    }
}

impl FromStr for Permission {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Get, Self::Set, Self::List]
            .into_iter()
            .find(|permission| permission.to_string() == text)
            .ok_or_else(|| format!("{text:?} is not a permission; there are get, set and list"))
    }
}
