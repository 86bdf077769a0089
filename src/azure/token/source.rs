//! The services that hand out tokens, and which of them is asked.
//!
//! A configuration that names one has one candidate. `auto` has as many as the machine may offer:
//! the first that answers is asked from then on.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use url::Url;

use super::app_service::AppService;
use super::auto::{self, Candidate};
use super::azure_arc::{self, AzureArc};
use super::azure_cli::AzureCli;
use super::azure_ml::AzureMl;
use super::cloud_shell::CloudShell;
use super::entra::Application;
use super::exchange::Refused;
use super::imds::Imds;
use super::response::Granted;
use super::service_fabric::ServiceFabric;
use super::surroundings::Surroundings;
use super::vm_extension::VmExtension;
use super::wanted::Wanted;
use crate::azure::http::Http;
use crate::azure::tls::SetupError;
use crate::config::{Config, IdentityKind};

/// No candidate has answered yet.
const NONE: usize = usize::MAX;

/// Where tokens come from.
pub(in crate::azure) struct TokenSource {
    /// Never empty.
    candidates: Vec<(Service, Candidate)>,
    /// The candidate that answered.
    chosen: AtomicUsize,
}

/// One service and what it is to be asked for.
enum Service {
    Imds(Imds),
    VmExtension(VmExtension),
    AppService(AppService),
    AzureMl(AzureMl),
    AzureArc(AzureArc),
    ServiceFabric(ServiceFabric),
    CloudShell(CloudShell),
    Application(Application),
    AzureCli(AzureCli),
}

/// Checks, without a request, that the identity service `config` names can be asked from here for
/// the identity it names, so that a mount need not be made to find out. Returns the group whose
/// members alone can ask it, if there is one.
///
/// # Errors
///
/// What the service needs is not there, or it cannot select that identity.
pub fn check_identity(config: &Config) -> Result<Option<&'static str>, SetupError> {
    let source = TokenSource::new(config, Arc::new(Surroundings::of_this_process()))?;
    let is_arc = source.candidate().kind == IdentityKind::AzureArc;
    Ok(is_arc.then_some(azure_arc::GROUP))
}

impl TokenSource {
    /// The source that `config` names.
    ///
    /// # Errors
    ///
    /// What the source needs is not there, or it cannot select the identity that is named.
    pub(in crate::azure) fn new(
        config: &Config,
        surroundings: Arc<Surroundings>,
    ) -> Result<Self, SetupError> {
        let mut wanted = Wanted::new(config, surroundings);
        let candidates = match config.identity.kind {
            IdentityKind::Auto => auto::candidates(&mut wanted)?,
            kind => vec![Candidate {
                kind,
                reason: "as asked",
            }],
        };
        let made = candidates.into_iter().map(|candidate| {
            let service = Service::new(candidate.kind, &wanted)?;
            Ok((service, candidate))
        });
        Ok(Self {
            candidates: made.collect::<Result<_, SetupError>>()?,
            chosen: AtomicUsize::new(NONE),
        })
    }

    /// The service that answered, and why it was asked; before one did, the first to be tried.
    pub(in crate::azure) fn candidate(&self) -> Candidate {
        self.current().1
    }

    /// Where that service answers, without what it is asked; `None` for a program.
    pub(in crate::azure) fn endpoint(&self) -> Option<Url> {
        let mut url = self.current().0.url()?.clone();
        url.set_query(None);
        Some(url)
    }

    fn current(&self) -> &(Service, Candidate) {
        let chosen = self.chosen.load(Ordering::Relaxed);
        self.candidates.get(chosen).unwrap_or(&self.candidates[0])
    }

    /// Asks once, until `deadline`; for `claims` too where the service can be asked for any.
    pub(super) async fn ask(
        &self,
        http: &Http,
        claims: Option<&str>,
        deadline: Instant,
    ) -> Result<Granted, Refused> {
        let chosen = self.chosen.load(Ordering::Relaxed);
        if let Some((service, _)) = self.candidates.get(chosen) {
            return service.ask(http, claims, deadline).await;
        }
        let mut first = None;
        for (number, (service, candidate)) in self.candidates.iter().enumerate() {
            let asked = service.ask(http, claims, deadline).await;
            if asked.as_ref().is_err_and(Refused::is_absence) {
                first = first.or(asked.err());
                continue;
            }
            self.chosen.store(number, Ordering::Relaxed);
            let kind = candidate.kind.name();
            tracing::info!(
                identity = kind,
                "tokens come from {kind}: {}",
                candidate.reason
            );
            return asked;
        }
        Err(first.expect("a source has at least one candidate, and all of them are absent"))
    }
}

impl Service {
    fn new(kind: IdentityKind, wanted: &Wanted<'_>) -> Result<Self, SetupError> {
        Ok(match kind {
            // Resolved by now; the metadata service is what it comes down to.
            IdentityKind::Auto | IdentityKind::Imds => Self::Imds(Imds::new(wanted)),
            IdentityKind::VmExtension => Self::VmExtension(VmExtension::new(wanted)),
            IdentityKind::AppService => Self::AppService(AppService::new(wanted)?),
            IdentityKind::AzureMl => Self::AzureMl(AzureMl::new(wanted)?),
            IdentityKind::AzureArc => Self::AzureArc(AzureArc::new(wanted)?),
            IdentityKind::ServiceFabric => Self::ServiceFabric(ServiceFabric::new(wanted)?),
            IdentityKind::CloudShell => Self::CloudShell(CloudShell::new(wanted)?),
            IdentityKind::WorkloadIdentity => {
                Self::Application(Application::with_federated_token(wanted)?)
            }
            IdentityKind::ClientSecret => Self::Application(Application::with_secret(wanted)?),
            IdentityKind::AzureCli => Self::AzureCli(AzureCli::new(wanted)?),
        })
    }

    fn url(&self) -> Option<&Url> {
        Some(match self {
            Self::Imds(service) => &service.url,
            Self::VmExtension(service) => &service.url,
            Self::AppService(service) => &service.url,
            Self::AzureMl(service) => &service.url,
            Self::AzureArc(service) => &service.url,
            Self::ServiceFabric(service) => &service.url,
            Self::CloudShell(service) => &service.url,
            Self::Application(service) => &service.url,
            Self::AzureCli(_) => return None,
        })
    }

    async fn ask(
        &self,
        http: &Http,
        claims: Option<&str>,
        deadline: Instant,
    ) -> Result<Granted, Refused> {
        match self {
            Self::Imds(service) => service.ask(http, deadline).await,
            Self::VmExtension(service) => service.ask(http, deadline).await,
            Self::AppService(service) => service.ask(http, deadline).await,
            Self::AzureMl(service) => service.ask(http, deadline).await,
            Self::AzureArc(service) => service.ask(http, deadline).await,
            Self::ServiceFabric(service) => service.ask(deadline).await,
            Self::CloudShell(service) => service.ask(http, deadline).await,
            Self::Application(service) => service.ask(http, claims, deadline).await,
            Self::AzureCli(service) => service.ask(deadline).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{IdentityEndpoint, VaultUrl};

    const GRANTED: &str = r#"{"access_token":"t","expires_in":"3600"}"#;

    /// A service that answers each request like this, at a URL.
    async fn service(status: u16, body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
                assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        url
    }

    /// A URL where nobody listens.
    async fn nobody() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    /// The metadata service at one URL, and the VM extension at another.
    fn two(imds: &str, vm_extension: &str) -> (TokenSource, Http) {
        let vault = VaultUrl::parse("myvault").unwrap();
        let wanted = |url: &str| Wanted {
            resource: "https://vault.azure.net",
            vault: &vault,
            endpoint: Some(IdentityEndpoint::parse(url).unwrap()),
            selector: None,
            tenant: None,
            client_secret_file: None,
            surroundings: Arc::new(Surroundings::given([("", "")], Path::new("/nowhere"))),
        };
        let candidate = |kind| Candidate { kind, reason: "x" };
        let source = TokenSource {
            candidates: vec![
                (
                    Service::Imds(Imds::new(&wanted(imds))),
                    candidate(IdentityKind::Imds),
                ),
                (
                    Service::VmExtension(VmExtension::new(&wanted(vm_extension))),
                    candidate(IdentityKind::VmExtension),
                ),
            ],
            chosen: AtomicUsize::new(NONE),
        };
        let pin = crate::azure::pinned::Thumbprint::parse(&"0".repeat(40)).unwrap();
        let tls = crate::azure::pinned::client_config(pin).unwrap();
        (source, Http::for_identity(&tls).unwrap())
    }

    async fn ask(source: &TokenSource, http: &Http) -> Result<Granted, Refused> {
        source
            .ask(http, None, Instant::now() + Duration::from_secs(5))
            .await
    }

    #[tokio::test]
    async fn the_first_that_answers_is_asked_from_then_on() {
        let (source, http) = two(&nobody().await, &service(200, GRANTED).await);
        assert_eq!(source.candidate().kind, IdentityKind::Imds);
        ask(&source, &http).await.unwrap();
        assert_eq!(source.candidate().kind, IdentityKind::VmExtension);
        assert_eq!(source.endpoint().unwrap().path(), "/oauth2/token");
    }

    #[tokio::test]
    async fn a_service_that_refuses_is_there_and_no_other_is_asked() {
        let refusal = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
        let (source, http) = two(&service(400, refusal).await, &service(200, GRANTED).await);
        let refused = ask(&source, &http).await.unwrap_err();
        assert_eq!(refused.error.status, Some(400));
        assert_eq!(source.candidate().kind, IdentityKind::Imds);
    }

    #[tokio::test]
    async fn a_proxy_that_answers_for_the_metadata_service_is_not_taken_for_it() {
        let (source, http) = two(
            &service(403, "unreachable").await,
            &service(200, GRANTED).await,
        );
        ask(&source, &http).await.unwrap();
        assert_eq!(source.candidate().kind, IdentityKind::VmExtension);
    }

    #[tokio::test]
    async fn where_none_answers_the_first_ones_error_is_told_and_all_are_asked_again() {
        let (source, http) = two(&nobody().await, &nobody().await);
        let refused = ask(&source, &http).await.unwrap_err();
        assert!(refused.error.hint.unwrap().contains("Azure VM"));
        assert_eq!(source.chosen.load(Ordering::Relaxed), NONE);
    }
}
