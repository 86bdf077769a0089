//! The secrets by which identity services know whom they give tokens, made up for each emulator.
//! They open nothing else, and are shown to whoever asks.

use serde::Serialize;

use super::state::{random_hex, random_uuid};

/// What a machine or a pod finds in its variables and files.
#[derive(Debug, Clone, Serialize)]
pub struct Credentials {
    /// What App Service and Service Fabric put in `IDENTITY_HEADER`, and Azure ML in `MSI_SECRET`.
    pub header: String,
    /// The SHA-1 of Service Fabric's certificate, `IDENTITY_SERVER_THUMBPRINT`.
    pub thumbprint: String,
    /// The directory that knows the application, `AZURE_TENANT_ID`.
    pub tenant_id: String,
    /// The application, `AZURE_CLIENT_ID`.
    pub client_id: String,
    /// Its secret, `AZURE_CLIENT_SECRET`.
    pub client_secret: String,
    /// What Kubernetes keeps in the file `AZURE_FEDERATED_TOKEN_FILE`.
    pub federated_token: String,
}

impl Credentials {
    /// New ones, for a Service Fabric whose certificate has this thumbprint.
    pub(super) fn new(thumbprint: String) -> Self {
        Self {
            header: random_hex::<16>(),
            thumbprint,
            tenant_id: random_uuid(),
            client_id: random_uuid(),
            // Real ones have such characters, which a form must escape.
            client_secret: format!("~{}+/=&", random_hex::<16>()),
            federated_token: format!("e30.{}.signature", random_hex::<16>()),
        }
    }
}
