//! An answer before it is on the wire, and the error bodies of the services.

use serde_json::{Value, json};

use super::request::Service;

/// What a service says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// For the log: the client id of whom the token was for.
    pub(super) identity: Option<String>,
    /// For the log: the version that was shown or made.
    pub(super) version: Option<String>,
}

impl Answer {
    /// A JSON answer.
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::with_body(
            status,
            "application/json; charset=utf-8",
            body.to_string().into_bytes(),
        )
    }

    /// An answer of any kind.
    pub(super) fn with_body(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body,
            identity: None,
            version: None,
        }
    }

    /// The same answer with a header more.
    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The same answer, about this version.
    pub(super) fn about(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }
}

/// An error in the shape its service gives errors.
pub(super) fn error(
    service: Service,
    status: u16,
    code: &str,
    inner: Option<&str>,
    message: &str,
) -> Answer {
    match service {
        Service::Imds | Service::VmExtension | Service::AzureArc | Service::Entra => {
            identity_error(status, code, message)
        }
        // Source: azure-docs `overview-managed-identity.md`.
        Service::AppService | Service::AzureMl => {
            Answer::json(status, &json!({ "statusCode": status, "message": message }))
        }
        // Source: Service Fabric's documentation; Cloud Shell's is not documented.
        Service::ServiceFabric | Service::CloudShell => Answer::json(
            status,
            &json!({ "error": { "code": code, "message": message } }),
        ),
        // Resource Manager's envelope is the same.
        Service::KeyVault | Service::ResourceManager => vault_error(status, code, inner, message),
        Service::Control => Answer::json(status, &json!({ "error": message })),
    }
}

/// An identity endpoint's error. Source: Microsoft's `how-to-use-vm-token`.
pub(super) fn identity_error(status: u16, code: &str, description: &str) -> Answer {
    Answer::json(
        status,
        &json!({ "error": code, "error_description": description }),
    )
}

/// Key Vault's error envelope. Source: captures of the service in public issues.
pub(super) fn vault_error(status: u16, code: &str, inner: Option<&str>, message: &str) -> Answer {
    let mut error = json!({ "code": code, "message": message });
    if let Some(inner) = inner {
        error["innererror"] = json!({ "code": inner });
    }
    Answer::json(status, &json!({ "error": error }))
}
