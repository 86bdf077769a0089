//! A stand-in for Azure on this machine's loopback: identity endpoints and a Key Vault over TLS,
//! with policies, a request log and scripted faults.
//!
//! It follows the protocol as Microsoft documents it and imports nothing else of this crate, so
//! that a mistake in the client is not made a second time here. What a test asks for beyond the
//! protocol (faults, policy, the log) goes through [`Controls`], or through the same in JSON.
//!
//! One service, one file: a new one is a variant of [`Service`] and a function from a request to
//! an answer. Values are test values: they are kept in plain memory and shown on request.

#![forbid(unsafe_code)]

mod answer;
mod app_service;
mod azure_arc;
mod azure_ml;
mod budget;
mod certificates;
mod clock;
mod cloud_shell;
mod command;
mod control;
mod controls;
mod credentials;
mod entra;
mod exchange;
mod faults;
mod identity;
mod imds;
mod key_vault;
mod log;
mod policy;
mod request;
mod resource_manager;
mod server;
mod service_fabric;
mod state;
mod tls;
mod token_endpoint;
mod tokens;
mod vault;
mod vm_extension;
mod wire;

use std::collections::BTreeSet;
use std::io;
use std::ops::Deref;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

pub use certificates::CertificateFormat;
pub use command::{Args, run};
pub use controls::{Controls, Endpoints};
pub use credentials::Credentials;
pub use faults::{Calls, Effect, Fault, RetryAfter};
pub use identity::Identity;
pub use log::{Entry, Operation};
pub use policy::Permission;
pub use request::Service;
pub use resource_manager::{KeyAccess, StorageAccount};
pub use tls::Certificate;
pub use vault::{Deletion, SecretVersion, Settings};

/// What an emulator starts with; everything but the resource can be changed later.
#[derive(Debug, Clone)]
pub struct Options {
    /// The vault's token audience.
    pub resource: String,
    /// What the vault's policy grants.
    pub policy: BTreeSet<Permission>,
    /// The managed identities of the machine.
    pub identities: Vec<Identity>,
    /// The certificate that the vault shows.
    pub certificate: Certificate,
}

impl Default for Options {
    /// The public cloud's audience, one system-assigned identity, `get` and `set` granted.
    fn default() -> Self {
        Self {
            resource: "https://vault.azure.net".to_owned(),
            policy: BTreeSet::from([Permission::Get, Permission::Set]),
            identities: vec![Identity::system_assigned()],
            certificate: Certificate::Valid,
        }
    }
}

/// A running emulator: its [`Controls`], and a thread of its own that ends when this is dropped.
#[derive(Debug)]
pub struct Emulator {
    controls: Controls,
    /// Dropping it ends the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Emulator {
    /// Starts listening, on ports that the kernel picks.
    ///
    /// # Errors
    ///
    /// No certificate could be made or written to the temporary directory, or no port be had.
    pub fn start(options: Options) -> io::Result<Self> {
        let tls = tls::Authority::new(options.certificate)?;
        let state = state::State::new(options, tls.thumbprint.clone());
        let (stop, stopped) = mpsc::channel(1);
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("emulator".to_owned())
            .spawn(move || server::run(state, tls, stopped, &ready))?;
        let controls = started
            .recv()
            .map_err(|_| io::Error::other("the emulator's thread ended while starting"))??;
        Ok(Self {
            controls,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Deref for Emulator {
    type Target = Controls;

    fn deref(&self) -> &Controls {
        &self.controls
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed; the test sees it as refused connections.
            let _ = thread.join();
        }
    }
}
