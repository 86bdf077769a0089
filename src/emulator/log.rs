//! The request log: who asked for what, and what came of it. Never a value, a token or a body.

use serde::Serialize;

use super::clock;
use super::request::{Request, Service};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// A token.
    Token,
    /// A secret's value.
    Get,
    /// A new version of a secret.
    Set,
    /// Names: of secrets, of a secret's versions, of deleted secrets.
    List,
    /// The keys of a storage account.
    ListKeys,
    /// Anything else: deletion, back-up, what no service offers.
    Other,
}

/// One request, entered when it arrived and completed when it was answered.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Counts from 0.
    pub sequence: usize,
    /// When it arrived, in milliseconds since 1970.
    pub time: u64,
    /// Who was asked.
    pub service: Service,
    /// The HTTP method.
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// The query as it was sent.
    pub query: String,
    /// What is asked for.
    pub operation: Operation,
    /// The secret it is about, as it was spelled.
    pub secret: Option<String>,
    /// The status answered; none while it waits, or if the connection was cut instead.
    pub status: Option<u16>,
    /// The client id whose token it carried, or got.
    pub identity: Option<String>,
    /// The version shown or made, even if the answer was lost.
    pub version: Option<String>,
    /// The id it was answered under, in `x-ms-request-id`.
    pub request_id: String,
}

/// All requests so far.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Vec<Entry>,
    /// How many were cleared away, so that sequence numbers stay unique.
    cleared: usize,
}

impl Log {
    /// Enters a request that arrived. Returns its sequence number.
    pub(super) fn arrived(&mut self, request: &Request, request_id: &str) -> usize {
        let sequence = self.cleared + self.entries.len();
        self.entries.push(Entry {
            sequence,
            time: u64::try_from(clock::since_1970().as_millis()).unwrap_or(u64::MAX),
            service: request.service,
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            operation: operation(request),
            secret: request.secret().map(str::to_owned),
            status: None,
            identity: None,
            version: None,
            request_id: request_id.to_owned(),
        });
        sequence
    }

    /// The entry of that number, unless it was cleared away.
    pub(super) fn entry(&mut self, sequence: usize) -> Option<&mut Entry> {
        let index = sequence.checked_sub(self.cleared)?;
        self.entries.get_mut(index)
    }

    /// All entries since the last clearing, in the order of their arrival.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Forgets the entries so far.
    pub(super) fn clear(&mut self) {
        self.cleared += self.entries.len();
        self.entries.clear();
    }
}

fn operation(request: &Request) -> Operation {
    match request.service {
        Service::KeyVault => {}
        Service::ResourceManager => return Operation::ListKeys,
        _ => return Operation::Token,
    }
    match (request.method.as_str(), request.segments().as_slice()) {
        ("GET", ["secrets" | "deletedsecrets"] | ["secrets", _, "versions"]) => Operation::List,
        ("GET", ["secrets", _] | ["secrets", _, _]) => Operation::Get,
        ("PUT", ["secrets", _]) => Operation::Set,
        _ => Operation::Other,
    }
}
