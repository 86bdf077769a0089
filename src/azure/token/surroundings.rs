//! What a process finds around it that identity services leave there: environment variables,
//! files at fixed places, the az CLI.
//!
//! Secrets among them are read each time they are used and not kept: App Service changes its
//! header while programs run.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::IdentityKind;
use crate::config::environment::{self, Process};

/// Where identity services leave what they leave.
#[derive(Debug)]
pub struct Surroundings {
    /// Instead of the process's own variables.
    variables: Option<BTreeMap<String, String>>,
    /// What fixed places are under.
    root: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        Self {
            variables: None,
            root: PathBuf::from("/"),
        }
    }

    /// These variables and no others, and the fixed places under `root`.
    pub fn given<N: Into<String>, V: Into<String>>(
        variables: impl IntoIterator<Item = (N, V)>,
        root: &Path,
    ) -> Self {
        let pairs = variables.into_iter();
        let pairs = pairs.map(|(name, value)| (name.into(), value.into()));
        Self {
            variables: Some(pairs.collect()),
            root: root.to_owned(),
        }
    }

    /// A variable; an empty one counts as none, as in Microsoft's SDKs.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        debug_assert!(
            environment::is_kept(name, Process::Worker, IdentityKind::Auto),
            "{name} does not reach a worker"
        );
        let value = match &self.variables {
            Some(variables) => variables.get(name).cloned(),
            None => std::env::var(name).ok(),
        };
        value.filter(|value| !value.is_empty())
    }

    /// A variable that holds a secret.
    pub(super) fn secret(&self, name: &str) -> Option<Zeroizing<String>> {
        self.variable(name).map(Zeroizing::new)
    }

    /// A fixed place, named by its absolute path.
    pub(super) fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The program of that name that the variable `PATH` leads to.
    pub(super) fn program(&self, name: &str) -> Option<PathBuf> {
        let directories = self.variable("PATH")?;
        std::env::split_paths(&directories)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(name))
            .find(|program| program.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_none() {
        let variables = [("MSI_ENDPOINT", ""), ("MSI_SECRET", "b")];
        let around = Surroundings::given(variables, Path::new("/"));
        assert_eq!(around.variable("MSI_ENDPOINT"), None);
        assert_eq!(around.variable("MSI_SECRET").as_deref(), Some("b"));
        assert_eq!(around.variable("PATH"), None);
    }

    #[test]
    fn a_program_is_found_on_the_path_alone() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("az"), "").unwrap();
        let path = format!("relative:/nowhere:{}", directory.path().display());
        let around = Surroundings::given([("PATH", path)], Path::new("/"));
        assert_eq!(around.program("az"), Some(directory.path().join("az")));
        assert_eq!(around.program("other"), None);
    }
}
