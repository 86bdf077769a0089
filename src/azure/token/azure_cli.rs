//! The az CLI: tokens of whoever is logged in there, for people at their own machines.
//!
//! Source: azure-identity `azure_cli.py`.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use tokio::process::Command;

use super::exchange::Refused;
use super::patience::Cause;
use super::response::Granted;
use super::wanted::Wanted;
use crate::azure::tls::SetupError;
use crate::secret_bytes::SecretBytes;
use crate::secrets::{Failure, StoreError};

const KIND: &str = "azure-cli";

/// How long it may take; it is a Python program.
const TIME: Duration = Duration::from_secs(10);

/// The program and what it is asked for.
pub(super) struct AzureCli {
    program: PathBuf,
    arguments: Vec<String>,
}

impl AzureCli {
    /// Asks for a token for what is wanted, for whoever is logged in: none else can be named.
    pub(super) fn new(wanted: &Wanted<'_>) -> Result<Self, SetupError> {
        wanted.refuse_selector(KIND)?;
        let program = wanted.surroundings.program("az").ok_or_else(|| {
            SetupError::Identity(format!("--identity {KIND} needs az, which is not in PATH"))
        })?;
        let mut arguments: Vec<String> = ["account", "get-access-token", "--output", "json"]
            .map(str::to_owned)
            .into();
        arguments.extend(["--resource".to_owned(), wanted.resource.to_owned()]);
        if let Some(tenant) = wanted.tenant {
            arguments.extend(["--tenant".to_owned(), tenant.to_owned()]);
        }
        Ok(Self { program, arguments })
    }

    /// Asks once.
    pub(super) async fn ask(&self, deadline: Instant) -> Result<Granted, Refused> {
        let ran = Command::new(&self.program)
            .args(&self.arguments)
            .current_dir("/bin")
            .env("AZURE_CORE_NO_COLOR", "true")
            // Old versions say when a token expires in local time alone.
            .env("TZ", "UTC0")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let deadline = deadline.min(Instant::now() + TIME);
        let output = match tokio::time::timeout_at(deadline.into(), ran).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(failed(Failure::IdentityRefused, &error.to_string())),
            Err(_elapsed) => return Err(failed(Failure::TimedOut, "it did not end in time")),
        };
        let answer = SecretBytes::new(output.stdout);
        if !output.status.success() {
            return Err(failed(Failure::IdentityRefused, &output.status.to_string()));
        }
        let granted = Granted::parse_az(answer.expose(), SystemTime::now());
        granted.map_err(|_| failed(Failure::Malformed, "it printed no token"))
    }
}

/// What it printed is not repeated: it may be anything.
fn failed(failure: Failure, reason: &str) -> Refused {
    let error = StoreError::new(failure, format!("token from the az CLI: {reason}"));
    let hint = "log in as the user that the worker runs as: az login";
    Refused::new(error.with_hint(hint), Cause::Unanswered)
}
