//! What the doctor found, for people and for machines.

#![forbid(unsafe_code)]

use std::fmt;

use serde::Serialize;

/// The questions, in the order they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Can this user mount with FUSE here?
    Fuse,
    /// Which identity service is asked?
    Identity,
    /// Does it hand out a token, and for whom?
    Token,
    /// Does the vault's host have an address?
    Name,
    /// Does the vault answer, over TLS that is trusted?
    Connection,
    /// Is this machine's clock right?
    Clock,
    /// May secrets be read?
    Get,
    /// May secrets be set?
    Set,
    /// Who else on this machine can get the same token?
    Exposure,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::Fuse => "fuse",
            Self::Identity => "identity",
            Self::Token => "token",
            Self::Name => "name",
            Self::Connection => "connection",
            Self::Clock => "clock",
            Self::Get => "get",
            Self::Set => "set",
            Self::Exposure => "exposure",
        }
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All is well.
    Pass,
    /// It works, but somebody should know this.
    Warn,
    /// It does not work.
    Fail,
    /// It was not asked.
    Skip,
}

impl Outcome {
    fn mark(self) -> char {
        match self {
            Self::Pass => '✓',
            Self::Warn => '!',
            Self::Fail => '✗',
            Self::Skip => '-',
        }
    }
}

/// One check and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was asked.
    pub check: Check,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen. Never a token or a value.
    pub seen: String,
    /// What mends it, if that is known.
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    pub(super) fn passed(check: Check, seen: impl Into<String>) -> Self {
        Self::new(check, Outcome::Pass, seen.into(), None)
    }

    /// It works, but.
    pub(super) fn warned(check: Check, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(check, Outcome::Warn, seen.into(), Some(remedy.into()))
    }

    /// It does not work.
    pub(super) fn failed(
        check: Check,
        seen: impl Into<String>,
        remedy: Option<impl Into<String>>,
    ) -> Self {
        Self::new(check, Outcome::Fail, seen.into(), remedy.map(Into::into))
    }

    /// It was not asked.
    pub(super) fn skipped(check: Check, why: impl Into<String>) -> Self {
        Self::new(check, Outcome::Skip, why.into(), None)
    }

    fn new(check: Check, outcome: Outcome, seen: String, remedy: Option<String>) -> Self {
        Self {
            check,
            outcome,
            seen,
            remedy,
        }
    }
}

/// Everything that was found, in order.
#[derive(Debug, Default, Clone)]
pub struct Report {
    checks: Vec<Finding>,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding) {
        self.checks.push(finding);
    }

    /// The report for machines.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "checks": self.checks })
    }

    /// The first check that failed: what is to be mended first.
    pub fn first_failure(&self) -> Option<Check> {
        let failed = |finding: &&Finding| finding.outcome == Outcome::Fail;
        self.checks.iter().find(failed).map(|finding| finding.check)
    }
}

/// One line a check, and one below it for what mends it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.checks {
            let (mark, name) = (finding.outcome.mark(), finding.check.name());
            writeln!(f, "{mark} {name:<10} {}", finding.seen)?;
            if let Some(remedy) = &finding.remedy {
                for (index, line) in remedy.lines().enumerate() {
                    let arrow = if index == 0 { "→" } else { " " };
                    writeln!(f, "  {:<10} {arrow} {line}", "")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.add(Finding::passed(Check::Fuse, "/dev/fuse opens"));
        report.add(Finding::failed(
            Check::Token,
            "refused",
            Some("do this\nthen that"),
        ));
        report.add(Finding::failed(Check::Get, "denied", None::<String>));
        report.add(Finding::skipped(Check::Set, "not asked"));
        report
    }

    #[test]
    fn people_get_a_line_for_each_check_and_its_remedy_below() {
        assert_eq!(
            report().to_string(),
            "✓ fuse       /dev/fuse opens\n\
             ✗ token      refused\n             → do this\n               then that\n\
             ✗ get        denied\n\
             - set        not asked\n"
        );
    }

    #[test]
    fn the_first_failure_is_what_is_to_be_mended_first() {
        assert_eq!(report().first_failure(), Some(Check::Token));
        assert_eq!(Report::default().first_failure(), None);
    }

    #[test]
    fn machines_get_the_same_as_json() {
        let json = report().to_json();
        assert_eq!(
            json["checks"][1],
            serde_json::json!({
                "check": "token", "outcome": "fail",
                "seen": "refused", "remedy": "do this\nthen that",
            })
        );
    }
}
