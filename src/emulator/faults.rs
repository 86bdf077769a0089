//! Scripted faults: which requests they meet, and what happens to those.
//!
//! What a fault does on the wire is `wire`'s; here is only the script, as Rust and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;

use super::request::{Request, Service};

/// One scripted fault. In JSON: `{"service": "key-vault", "secret": "a", "calls": {"first": 2},
/// "effect": {"error": {"status": 503}}}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whose requests it meets.
    #[serde(default = "key_vault")]
    pub service: Service,
    /// Only requests of this HTTP method.
    #[serde(default)]
    pub method: Option<String>,
    /// Only requests about this secret.
    #[serde(default)]
    pub secret: Option<String>,
    /// Which of the requests that it meets.
    #[serde(default)]
    pub calls: Calls,
    /// Whether the request is carried out first, so that only its answer suffers.
    #[serde(default)]
    pub after: bool,
    /// How long the request waits, in milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
    /// What comes then.
    #[serde(default)]
    pub effect: Effect,
    /// The header that says when to come again.
    #[serde(default)]
    pub retry_after: Option<RetryAfter>,
    /// More headers for the answer; one of the answer's own name replaces it.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// Which of the requests that a fault meets it acts on, counted from 1.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calls {
    /// Every one.
    #[default]
    All,
    /// The first so many.
    First(u64),
    /// These.
    Only(Vec<u64>),
}

/// What happens to a request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It is carried out as ever: for faults that only delay or add headers.
    #[default]
    None,
    /// It waits until the fault is removed, and is then carried out.
    Hang,
    /// The connection is closed without an answer.
    Cut,
    /// An error in the service's own shape.
    Error {
        /// HTTP status.
        status: u16,
        /// The error's code.
        #[serde(default)]
        code: String,
        /// The inner code, where the service has one.
        #[serde(default)]
        inner: Option<String>,
        /// The text.
        #[serde(default)]
        message: String,
    },
    /// A page in HTML, as a proxy or a load balancer would answer.
    Html {
        /// HTTP status.
        status: u16,
    },
    /// A body as it is, called JSON.
    Body {
        /// HTTP status.
        status: u16,
        /// The body.
        text: String,
    },
    /// The real answer, but the connection is closed after so many bytes of its body.
    CutBody(usize),
    /// The real answer, but with this `Content-Length`: too short cuts the JSON, too long leaves
    /// the client waiting for bytes that never come before the connection is closed.
    ContentLength(u64),
    /// A 200 whose JSON text goes on for so many bytes.
    HugeBody(u64),
    /// A 302 to this place.
    Redirect(String),
}

/// When to come again, as a service says it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// `Retry-After` in seconds.
    Seconds(u64),
    /// `Retry-After` as a date so many seconds from now, by the emulator's clock.
    DateIn(u64),
    /// `retry-after-ms`.
    Milliseconds(u64),
    /// `x-ms-retry-after-ms`.
    MsMilliseconds(u64),
}

impl Fault {
    /// A fault that meets every request to the vault.
    pub fn new(effect: Effect) -> Self {
        Self {
            service: Service::KeyVault,
            method: None,
            secret: None,
            calls: Calls::All,
            after: false,
            delay_ms: 0,
            effect,
            retry_after: None,
            headers: BTreeMap::new(),
        }
    }

    /// An error of the service.
    pub fn error(status: u16, code: &str, inner: Option<&str>) -> Self {
        Self::new(Effect::Error {
            status,
            code: code.to_owned(),
            inner: inner.map(str::to_owned),
            message: format!("Scripted fault {status}"),
        })
    }

    /// 429 without a `Retry-After`, as the real one was captured.
    pub fn throttled() -> Self {
        Self::error(429, "Throttled", None)
    }

    /// The 401 that a vault at times answers to a valid token.
    pub fn signing_key_unresolved() -> Self {
        Self::new(Effect::Error {
            status: 401,
            code: "Unauthorized".to_owned(),
            inner: None,
            message: "AKV10046: Unable to resolve the key used for signature validation."
                .to_owned(),
        })
    }

    /// A delay and nothing else.
    pub fn delay(delay: Duration) -> Self {
        Self::new(Effect::None).delayed(delay)
    }

    /// No answer until the fault is removed.
    pub fn hang() -> Self {
        Self::new(Effect::Hang)
    }

    /// A connection closed without an answer.
    pub fn cut() -> Self {
        Self::new(Effect::Cut)
    }

    /// Only requests to `service`.
    #[must_use]
    pub fn of(mut self, service: Service) -> Self {
        self.service = service;
        self
    }

    /// Only requests of this HTTP method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Only requests about this secret.
    #[must_use]
    pub fn secret(mut self, name: &str) -> Self {
        self.secret = Some(name.to_owned());
        self
    }

    /// Only the first `count` requests that it meets.
    #[must_use]
    pub fn first(mut self, count: u64) -> Self {
        self.calls = Calls::First(count);
        self
    }

    /// Only these of the requests that it meets, counted from 1.
    #[must_use]
    pub fn only(mut self, calls: impl Into<Vec<u64>>) -> Self {
        self.calls = Calls::Only(calls.into());
        self
    }

    /// Only once the request has been carried out.
    #[must_use]
    pub fn after(mut self) -> Self {
        self.after = true;
        self
    }

    /// Only after this time.
    #[must_use]
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// With a word on when to come again.
    #[must_use]
    pub fn retry_after(mut self, retry_after: RetryAfter) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    fn meets(&self, request: &Request) -> bool {
        let same = |wanted: &Option<String>, given: Option<&str>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| given.is_some_and(|given| given.eq_ignore_ascii_case(wanted)))
        };
        self.service == request.service
            && same(&self.method, Some(&request.method))
            && same(&self.secret, request.secret())
    }
}

/// A fault that acts on a request now.
#[derive(Debug)]
pub(super) struct Acting {
    pub(super) fault: Fault,
    removed: watch::Receiver<()>,
}

impl Acting {
    /// Waits as long as the fault makes its request wait.
    pub(super) async fn stall(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.fault.delay_ms)).await;
        if matches!(self.fault.effect, Effect::Hang) {
            // Nothing is ever sent: the wait ends when the sender goes away with the fault.
            while self.removed.changed().await.is_ok() {}
        }
    }
}

/// The faults in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    scripts: Vec<Script>,
    next_id: u64,
}

#[derive(Debug)]
struct Script {
    id: u64,
    fault: Fault,
    /// How many requests it has met.
    met: u64,
    /// Dropped with the script, which releases the requests that hang on it.
    in_force: watch::Sender<()>,
}

impl Faults {
    /// Adds a fault and returns the number it can be removed by.
    pub(super) fn add(&mut self, fault: Fault) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.scripts.push(Script {
            id,
            fault,
            met: 0,
            in_force: watch::Sender::new(()),
        });
        id
    }

    /// Removes a fault; `false` if there is none of that number.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let before = self.scripts.len();
        self.scripts.retain(|script| script.id != id);
        self.scripts.len() < before
    }

    /// Removes them all.
    pub(super) fn clear(&mut self) {
        self.scripts.clear();
    }

    /// The fault that acts on a request. Every fault that meets it counts it, the one that was
    /// added first acts.
    pub(super) fn next(&mut self, request: &Request) -> Option<Acting> {
        let mut acting = None;
        for script in &mut self.scripts {
            if !script.fault.meets(request) {
                continue;
            }
            script.met += 1;
            let acts = match &script.fault.calls {
                Calls::All => true,
                Calls::First(count) => script.met <= *count,
                Calls::Only(calls) => calls.contains(&script.met),
            };
            if acts && acting.is_none() {
                acting = Some(Acting {
                    fault: script.fault.clone(),
                    removed: script.in_force.subscribe(),
                });
            }
        }
        acting
    }
}

fn key_vault() -> Service {
    Service::KeyVault
}
