//! Everything the emulator knows, in one place, so that one lock makes a request atomic.

use std::collections::BTreeSet;

use super::answer::{Answer, error};
use super::azure_arc::Agent;
use super::budget::Budget;
use super::clock::Clock;
use super::credentials::Credentials;
use super::faults::Faults;
use super::identity::Identity;
use super::log::Log;
use super::policy::Permission;
use super::request::{Request, Service};
use super::resource_manager::{self, StorageAccounts};
use super::tokens::Tokens;
use super::vault::Vault;
use super::{
    Options, app_service, azure_arc, azure_ml, cloud_shell, entra, imds, key_vault, service_fabric,
    vm_extension,
};

/// The emulator's memory.
#[derive(Debug)]
pub(super) struct State {
    pub(super) resource: String,
    /// Where the vault says it is, without a slash at the end.
    pub(super) vault_url: String,
    pub(super) clock: Clock,
    pub(super) identities: Vec<Identity>,
    pub(super) credentials: Credentials,
    pub(super) arc: Agent,
    pub(super) tokens: Tokens,
    pub(super) policy: BTreeSet<Permission>,
    pub(super) vault: Vault,
    pub(super) budget: Budget,
    pub(super) storage_accounts: StorageAccounts,
    pub(super) faults: Faults,
    pub(super) log: Log,
}

impl State {
    /// An empty vault, and a Service Fabric whose certificate has this thumbprint.
    pub(super) fn new(options: Options, thumbprint: String) -> Self {
        Self {
            resource: options.resource,
            vault_url: String::new(),
            clock: Clock::default(),
            identities: options.identities,
            credentials: Credentials::new(thumbprint),
            arc: Agent::default(),
            tokens: Tokens::new(),
            policy: options.policy,
            vault: Vault::default(),
            budget: Budget::default(),
            storage_accounts: StorageAccounts::new(),
            faults: Faults::default(),
            log: Log::default(),
        }
    }

    /// Carries a request out, as Azure would.
    pub(super) fn carry_out(&mut self, request: &Request) -> Answer {
        match request.service {
            Service::Imds => imds::answer(self, request),
            Service::VmExtension => vm_extension::answer(self, request),
            Service::AppService => app_service::answer(self, request),
            Service::AzureMl => azure_ml::answer(self, request),
            Service::AzureArc => azure_arc::answer(self, request),
            Service::ServiceFabric => service_fabric::answer(self, request),
            Service::CloudShell => cloud_shell::answer(self, request),
            Service::Entra => entra::answer(self, request),
            Service::KeyVault => key_vault::answer(self, request),
            Service::ResourceManager => resource_manager::answer(self, request),
            Service::Control => error(Service::Control, 404, "", None, "not a service of Azure"),
        }
    }
}

/// `N` random bytes in hexadecimal.
pub(super) fn random_hex<const N: usize>() -> String {
    let mut bytes = [0_u8; N];
    // The kernel's generator fails only where there is none, and then no TLS works either.
    getrandom::fill(&mut bytes).expect("the kernel has a random number generator");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A random id in the form of a UUID.
pub(super) fn random_uuid() -> String {
    let hex = random_hex::<16>();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
