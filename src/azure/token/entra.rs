//! An application's tokens, from the directory itself (Microsoft Entra ID): for a token that
//! Kubernetes signed (workload identity), or for a secret.
//!
//! Both are read from where they are for each question and not kept. Source: azure-identity,
//! azure-workload-identity's documentation.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use reqwest::{Method, Request};
use url::Url;
use zeroize::Zeroizing;

use super::exchange::{self, Refused, secret_form, with_form};
use super::response::Granted;
use super::surroundings::Surroundings;
use super::wanted::Wanted;
use crate::azure::http::Http;
use crate::azure::tls::SetupError;
use crate::config::IdentityEndpoint;

/// The variable with an application's secret.
pub(super) const SECRET_VARIABLE: &str = "AZURE_CLIENT_SECRET";

/// The variable with the name of the file that Kubernetes keeps a signed token in.
pub(super) const FEDERATED_TOKEN_VARIABLE: &str = "AZURE_FEDERATED_TOKEN_FILE";

/// Where that file is if no variable says so.
const FEDERATED_TOKEN: &str = "/var/run/secrets/azure/tokens/azure-identity-token";

/// What a signed token is called in a request for one.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The longest secret or signed token, in bytes.
const CREDENTIAL_MAX: u64 = 64 << 10;

/// An application and how it shows who it is.
pub(super) struct Application {
    pub(super) url: Url,
    client_id: String,
    scope: String,
    credential: Credential,
}

/// Where an application's credential is.
enum Credential {
    /// A token that somebody else signed, in a file that changes.
    FederatedToken(PathBuf),
    /// A secret in a file.
    SecretFile(PathBuf),
    /// A secret in a variable.
    SecretVariable(Arc<Surroundings>),
}

impl Application {
    /// An application that Kubernetes vouches for.
    pub(super) fn with_federated_token(wanted: &Wanted<'_>) -> Result<Self, SetupError> {
        let around = &wanted.surroundings;
        let file = match around.variable(FEDERATED_TOKEN_VARIABLE) {
            Some(path) => PathBuf::from(path),
            None => around.place(FEDERATED_TOKEN),
        };
        Self::new(
            "workload-identity",
            wanted,
            Credential::FederatedToken(file),
        )
    }

    /// An application with a secret.
    pub(super) fn with_secret(wanted: &Wanted<'_>) -> Result<Self, SetupError> {
        let around = &wanted.surroundings;
        let credential = match wanted.client_secret_file {
            Some(path) => Credential::SecretFile(path.to_owned()),
            None if around.variable(SECRET_VARIABLE).is_some() => {
                Credential::SecretVariable(around.clone())
            }
            None => {
                return Err(SetupError::Identity(format!(
                    "--identity client-secret needs the secret in the variable {SECRET_VARIABLE} \
                     or in the file that --client-secret-file names"
                )));
            }
        };
        Self::new("client-secret", wanted, credential)
    }

    fn new(kind: &str, wanted: &Wanted<'_>, credential: Credential) -> Result<Self, SetupError> {
        let around = &wanted.surroundings;
        let missing = |variable: &str, option: &str| {
            SetupError::Identity(format!(
                "--identity {kind} needs {option} or the variable {variable}"
            ))
        };
        let client_id = wanted.client_id(kind)?;
        let client_id = client_id.or_else(|| around.variable("AZURE_CLIENT_ID"));
        let client_id = client_id.ok_or_else(|| missing("AZURE_CLIENT_ID", "--client-id"))?;
        let tenant = wanted.tenant.map(str::to_owned);
        let tenant = tenant.or_else(|| around.variable("AZURE_TENANT_ID"));
        let tenant = tenant.ok_or_else(|| missing("AZURE_TENANT_ID", "--tenant-id"))?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        if !tenant.bytes().all(plain) {
            let text = format!("{tenant:?} is not a tenant: give its id or its domain");
            return Err(SetupError::Identity(text));
        }
        let authority = match wanted.endpoint_in("AZURE_AUTHORITY_HOST")? {
            Some(endpoint) => endpoint,
            // No credential goes to a host on a guess.
            None => wanted
                .vault
                .authority()
                .and_then(|authority| IdentityEndpoint::parse(authority).ok())
                .ok_or_else(|| missing("AZURE_AUTHORITY_HOST", "--identity-endpoint"))?,
        };
        Ok(Self {
            url: authority.with_default_path(&format!("/{tenant}/oauth2/v2.0/token")),
            client_id,
            scope: format!("{}/.default", wanted.resource.trim_end_matches('/')),
            credential,
        })
    }

    /// Asks once, for a token with `claims` if the vault demands any.
    pub(super) async fn ask(
        &self,
        http: &Http,
        claims: Option<&str>,
        deadline: Instant,
    ) -> Result<Granted, Refused> {
        let credential = self
            .credential
            .read()
            .map_err(|(reason, hint)| exchange::own_refusal(&self.url, &reason, hint))?;
        let known = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("scope", &self.scope),
        ];
        let shown: &[(&str, &str)] = match &self.credential {
            Credential::FederatedToken(_) => &[
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", &credential),
            ],
            Credential::SecretFile(_) | Credential::SecretVariable(_) => {
                &[("client_secret", &credential)]
            }
        };
        let demanded = claims.map(|claims| ("claims", claims));
        let form = secret_form(known.iter().chain(shown).chain(&demanded));
        let request = with_form(Request::new(Method::POST, self.url.clone()), form);
        let asked = exchange::ask(http, request, &[], deadline).await;
        asked.map_err(|mut refused| {
            let number = refused.refusal.directory_code.as_deref();
            refused.error.hint = number.and_then(hint).map(str::to_owned);
            refused
        })
    }
}

impl Credential {
    /// The credential, or why it cannot be read and what to do.
    fn read(&self) -> Result<Zeroizing<String>, (String, &'static str)> {
        match self {
            Self::SecretVariable(around) => around.secret(SECRET_VARIABLE).ok_or_else(|| {
                let reason = format!("the variable {SECRET_VARIABLE} is gone");
                (reason, "set it where keyvaultfs is started")
            }),
            Self::SecretFile(path) => read(path).map_err(|reason| {
                (
                    reason,
                    "the worker's user must be able to read it; see --user",
                )
            }),
            Self::FederatedToken(path) => read(path).map_err(|reason| {
                let hint = "label the pod azure.workload.identity/use: \"true\", and let the \
                            worker's user read the file; see --user";
                (reason, hint)
            }),
        }
    }
}

/// A credential's file without the newline at its end.
fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let failed = |reason: &str| format!("{} cannot be used: {reason}", path.display());
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let file = File::open(path).map_err(|error| failed(&error.to_string()))?;
    let read = file.take(CREDENTIAL_MAX).read_to_string(&mut text);
    read.map_err(|error| failed(&error.to_string()))?;
    let length = text.trim_end().len();
    text.truncate(length);
    if text.is_empty() {
        return Err(failed("it is empty"));
    }
    Ok(text)
}

/// What helps against a refusal of the directory. Source: its list of AADSTS error codes.
fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "AADSTS7000215" => "the client secret is wrong: give its value, not its id",
        "AADSTS7000222" => "the client secret has expired: az ad app credential reset --id APP",
        "AADSTS700016" => "there is no such application in this tenant: check --client-id",
        "AADSTS90002" => "there is no such tenant: check --tenant-id and the cloud",
        "AADSTS70021" | "AADSTS700213" => {
            "the application trusts no such token: its federated credential must name this \
             cluster's issuer and this service account"
        }
        "AADSTS500011" | "AADSTS50001" => "the tenant knows no such audience: check --resource",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VaultUrl;

    fn made(vault: &str, variables: &[(&str, &str)]) -> Result<Application, SetupError> {
        let vault = VaultUrl::parse(vault).unwrap();
        let around = Surroundings::given(variables.iter().copied(), Path::new("/nowhere"));
        Application::with_secret(&Wanted {
            resource: "https://vault.azure.net",
            vault: &vault,
            endpoint: None,
            selector: None,
            tenant: None,
            client_secret_file: None,
            surroundings: Arc::new(around),
        })
    }

    const KNOWN: [(&str, &str); 3] = [
        ("AZURE_CLIENT_ID", "app"),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_SECRET", "s"),
    ];

    #[test]
    fn the_authority_follows_from_the_cloud_or_is_named_and_never_guessed() {
        let url = |vault, variables: &[_]| Ok(made(vault, variables)?.url.to_string());
        let at = |host: &str| format!("https://{host}/tenant/oauth2/v2.0/token");
        let made: Result<_, SetupError> = url("v.vault.azure.cn", &KNOWN);
        assert_eq!(made.unwrap(), at("login.chinacloudapi.cn"));
        let named = [
            &KNOWN[..],
            &[("AZURE_AUTHORITY_HOST", "https://login.example/")],
        ]
        .concat();
        assert_eq!(url("vault.example", &named).unwrap(), at("login.example"));
        let error: SetupError = url("vault.example", &KNOWN).unwrap_err();
        assert!(
            error.to_string().contains("AZURE_AUTHORITY_HOST"),
            "{error}"
        );
        let plain = [
            &KNOWN[..],
            &[("AZURE_AUTHORITY_HOST", "http://login.example")],
        ]
        .concat();
        assert!(url("myvault", &plain).is_err());
    }

    #[test]
    fn what_is_missing_is_an_error_that_names_it() {
        for (missing, (variable, _)) in KNOWN.iter().enumerate() {
            let mut variables = KNOWN.to_vec();
            variables.remove(missing);
            let error = made("myvault", &variables).err().unwrap().to_string();
            assert!(error.contains(variable), "{error}");
        }
        let slash = [KNOWN[0], ("AZURE_TENANT_ID", "a/b"), KNOWN[2]];
        assert!(made("myvault", &slash).is_err());
    }

    #[test]
    fn a_credential_is_its_file_without_the_last_newline() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret with space \n").unwrap();
        assert_eq!(**read(file.path()).unwrap(), *"secret with space");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(read(file.path()).unwrap_err().contains("empty"));
    }
}
