//! What the mount is doing, as JSON, for people and scripts.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Metrics, epoch};

/// What the numbers are about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The program's version.
    pub program: &'static str,
    /// The vault's address.
    pub vault: String,
    /// Which identity service was asked for.
    pub identity: String,
    /// Which worker of this mount this is, counted from one.
    pub worker: u32,
    /// When this worker started.
    pub started: SystemTime,
}

impl Subject {
    /// How many workers the mount had before this one.
    pub(super) fn restarts(&self) -> u32 {
        self.worker.saturating_sub(1)
    }
}

impl Metrics {
    /// The state of affairs in JSON, with a newline at the end. Times are seconds since 1970.
    pub fn status(&self, subject: &Subject) -> String {
        let counted = self.counted.lock();
        let token = counted.token.as_ref().map(|token| {
            json!({
                "object_id": token.object_id,
                "expires": epoch(token.expires),
            })
        });
        let errors: serde_json::Map<String, Value> = counted
            .errors
            .iter()
            .map(|(kind, last)| {
                let value = json!({
                    "errno": format!("{:?}", last.errno),
                    "operation": last.operation,
                    "last": epoch(last.at),
                    "count": last.count,
                });
                (kind.clone(), value)
            })
            .collect();
        let uptime = subject.started.elapsed().unwrap_or_default();
        let status = json!({
            "version": subject.program,
            "vault": subject.vault,
            "identity": { "kind": subject.identity, "token": token },
            "uptime_seconds": uptime.as_secs(),
            "worker_restarts": subject.restarts(),
            "errors": errors,
        });
        format!("{status:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::errno::Errno;

    use super::*;

    #[derive(Debug)]
    enum Kind {
        Forbidden,
    }

    #[test]
    fn the_status_tells_identity_token_restarts_and_the_last_error_of_each_kind() {
        let metrics = Metrics::new();
        let subject = Subject {
            program: "1.2.3",
            vault: "https://myvault.vault.azure.net".to_owned(),
            identity: "imds".to_owned(),
            worker: 1,
            started: SystemTime::now(),
        };
        let status: Value = serde_json::from_str(&metrics.status(&subject)).unwrap();
        assert_eq!(status["identity"]["kind"], "imds");
        assert_eq!(status["identity"]["token"], Value::Null);
        assert_eq!(
            (&status["worker_restarts"], &status["errors"]),
            (&json!(0), &json!({}))
        );

        metrics.token(Some("an-id"), Duration::from_secs(3600));
        metrics.error(Kind::Forbidden, "open", Errno::EACCES);
        metrics.error(Kind::Forbidden, "get", Errno::EACCES);
        let status: Value = serde_json::from_str(&metrics.status(&subject)).unwrap();
        assert_eq!(status["identity"]["token"]["object_id"], "an-id");
        let expires = status["identity"]["token"]["expires"].as_u64().unwrap();
        let now = epoch(SystemTime::now());
        assert!((now + 3590..=now + 3600).contains(&expires));
        let error = &status["errors"]["Forbidden"];
        assert_eq!(
            (&error["count"], &error["operation"]),
            (&json!(2), &json!("get"))
        );
    }
}
