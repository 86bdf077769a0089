//! The agent of Azure Arc: a challenge that names a file, and a token for who shows its content.
//! Source: azure-identity, MSAL. It knows user-assigned identities, as new agents do.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::answer::{Answer, identity_error};
use super::identity::SELECTORS;
use super::request::Request;
use super::state::{State, random_hex, random_uuid};
use super::token_endpoint;

/// Where the agent puts its keys, below a root of the emulator's own.
const KEYS: &str = "var/opt/azcmagent/tokens";

/// The directory for keys and the key that is out, which serves once.
#[derive(Debug, Default)]
pub(super) struct Agent {
    root: PathBuf,
    key: Option<(PathBuf, String)>,
}

impl Agent {
    /// Keeps its keys below `root`, which is somebody else's to remove.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            key: None,
        }
    }

    /// Writes a new key; the old one serves no more.
    fn new_key(&mut self) -> std::io::Result<PathBuf> {
        self.forget_key();
        let directory = self.root.join(KEYS);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory)?;
        let path = directory.join(format!("{}.key", random_uuid()));
        let key = random_hex::<32>();
        File::create_new(&path)?.write_all(key.as_bytes())?;
        self.key = Some((path.clone(), key));
        Ok(path)
    }

    fn forget_key(&mut self) -> Option<String> {
        let (path, key) = self.key.take()?;
        // Whoever removed it before has done what is wanted.
        let _ = std::fs::remove_file(path);
        Some(key)
    }
}

/// Answers `GET /metadata/identity/oauth2/token`.
pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    if request.path != "/metadata/identity/oauth2/token" || request.method != "GET" {
        return identity_error(404, "not_found", "No such metadata");
    }
    if let Some(refusal) = token_endpoint::refuse_foreign(request) {
        return refusal;
    }
    let parameters = request.query_pairs();
    if parameters.value("api-version") != Some("2020-06-01") {
        return identity_error(400, "invalid_request", "The api-version is not supported");
    }
    let Some(shown) = request.header("authorization") else {
        return challenge(&mut state.arc);
    };
    let expected = state.arc.forget_key().map(|key| format!("Basic {key}"));
    if expected.as_deref() != Some(shown) {
        return challenge(&mut state.arc);
    }
    let granted = match token_endpoint::grant(state, &parameters, &SELECTORS) {
        Ok(granted) => granted,
        Err(refusal) => return identity_error(400, refusal.code, refusal.description),
    };
    let mut body = granted.as_imds_writes_it();
    for name in SELECTORS {
        if let Some(id) = parameters.value(name) {
            body[name] = json!(id);
        }
    }
    granted.answer(&body)
}

fn challenge(agent: &mut Agent) -> Answer {
    match agent.new_key() {
        Ok(path) => identity_error(401, "unauthorized", "Show the file's content").header(
            "www-authenticate",
            format!("Basic realm={}", path.display()),
        ),
        Err(error) => identity_error(500, "unknown", &error.to_string()),
    }
}
