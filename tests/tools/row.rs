//! One row of the table: a tool in one mode of use, and what must come of it.
//!
//! Says nothing of how a row is run (`sandbox`) nor of what is asserted (`verdict`).

use std::process::Command;
use std::sync::OnceLock;

/// What the secret `Db` holds before most rows.
pub(crate) const OLD: &str = "user=app\npassword=hunter2-old\n";
/// What most rows that write leave in it.
pub(crate) const NEW: &str = "user=app\npassword=hunter2-new\n";
/// In every value, so that a copy of one can be found where none should be.
const CANARY: &str = "hunter2";

/// Stands for a private key in PEM, made for this run of the tests.
pub(crate) const KEY: &str = "(a private key)";

/// What the vault's policy grants, and whether it keeps its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// `get` and `set`.
    Both,
    /// `get` alone.
    GetOnly,
    /// `set` alone: a drop box.
    SetOnly,
    /// Both, but every set fails, which nobody can know before close(2) or rename(2).
    FailingAtClose,
}

/// What a tool does with the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only reads.
    Reads,
    /// Puts new bytes in place of the old, which it need not see.
    Writes,
    /// Reads the old bytes to make the new ones.
    Edits,
    /// Opens the secret to write it and writes nothing, or sets its times.
    Idles,
    /// Asks for what no secret can do; it is told so, and the secret stays.
    IsRefused,
}

/// What a row costs the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// These requests, in order: `get`, `check` (may this name be set), `set`.
    Exactly(&'static str),
    /// So many, of which one is a set: editors look at a file again and again, a get each time.
    AtMost(usize),
}

/// One tool in one mode of use. Its script runs in bash with `$S` the path of the secret `Db`,
/// `$M` the mount, and a directory of its own in which `old` holds the value before and `new`
/// the value wanted after.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) tool: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) kind: Kind,
    pub(crate) script: &'static str,
    /// The value before; none: there is no such secret.
    pub(crate) before: Option<&'static str>,
    /// The value of the one version made; none: no version is made.
    pub(crate) after: Option<&'static str>,
    /// What the script prints, if that is asserted.
    pub(crate) prints: &'static str,
    pub(crate) cost: Cost,
    /// Under which policies the tool ends as if nothing were wrong, though it was refused.
    pub(crate) silent: &'static [Policy],
}

/// A tool that reads: it prints the value, and costs one get.
pub(crate) const fn reads(tool: &'static str, mode: &'static str, script: &'static str) -> Row {
    Row {
        tool,
        mode,
        kind: Kind::Reads,
        script,
        before: Some(OLD),
        after: None,
        prints: OLD,
        cost: Cost::Exactly("get"),
        silent: &[],
    }
}

/// A tool that overwrites a secret with the file `new`: it is looked up, the first write asks
/// whether it may be set, close sets it.
pub(crate) const fn writes(tool: &'static str, mode: &'static str, script: &'static str) -> Row {
    Row {
        kind: Kind::Writes,
        after: Some(NEW),
        prints: "",
        cost: Cost::Exactly("get check set"),
        ..reads(tool, mode, script)
    }
}

/// A tool that turns the old value into the new one.
pub(crate) const fn edits(tool: &'static str, mode: &'static str, script: &'static str) -> Row {
    Row {
        kind: Kind::Edits,
        ..writes(tool, mode, script)
    }
}

/// A tool that opens the secret to write it, and writes nothing.
pub(crate) const fn idles(tool: &'static str, mode: &'static str, script: &'static str) -> Row {
    Row {
        kind: Kind::Idles,
        prints: "",
        ..reads(tool, mode, script)
    }
}

/// A tool that asks for what no secret can do.
pub(crate) const fn refused(tool: &'static str, mode: &'static str, script: &'static str) -> Row {
    Row {
        kind: Kind::IsRefused,
        prints: "",
        ..reads(tool, mode, script)
    }
}

/// The key that [`KEY`] stands for.
fn key() -> &'static str {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "EC"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256"])
            .output()
            .expect("openssl can be run");
        String::from_utf8(made.stdout).expect("PEM is text")
    })
}

impl Row {
    /// The row with the key in place of what stands for it.
    pub(crate) fn with_key(&self) -> Self {
        let before = self.before.map(|value| match value {
            KEY => key(),
            _ => value,
        });
        Self { before, ..*self }
    }

    /// What a copy of the value is known by.
    pub(crate) fn canary(&self) -> &'static str {
        let key = self.before.filter(|value| value.starts_with("-----"));
        key.and_then(|key| key.lines().nth(1)).unwrap_or(CANARY)
    }

    pub(crate) const fn before(self, value: &'static str) -> Self {
        Self {
            before: Some(value),
            ..self
        }
    }

    /// There is no such secret before.
    pub(crate) const fn new_secret(self) -> Self {
        Self {
            before: None,
            ..self
        }
    }

    pub(crate) const fn after(self, value: &'static str) -> Self {
        Self {
            after: Some(value),
            ..self
        }
    }

    /// It goes by what is there, though it does not read it: in a drop box it cannot.
    pub(crate) const fn goes_by_the_old(self) -> Self {
        Self {
            kind: Kind::Edits,
            ..self
        }
    }

    pub(crate) const fn prints(self, text: &'static str) -> Self {
        Self {
            prints: text,
            ..self
        }
    }

    pub(crate) const fn costs(self, requests: &'static str) -> Self {
        Self {
            cost: Cost::Exactly(requests),
            ..self
        }
    }

    pub(crate) const fn costs_at_most(self, requests: usize) -> Self {
        Self {
            cost: Cost::AtMost(requests),
            ..self
        }
    }

    pub(crate) const fn silent(self, policies: &'static [Policy]) -> Self {
        Self {
            silent: policies,
            ..self
        }
    }
}
