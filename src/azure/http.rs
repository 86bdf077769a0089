//! One HTTP exchange: a request out, a whole answer back, all before a deadline.
//!
//! The two clients differ in what they may do: the vault's is https only and may use a proxy, the
//! identity services' never does. Both follow no redirect, retry nothing, decode no compression
//! and stop reading at a limit. Trying again is the callers' business.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use reqwest::{Client, ClientBuilder, Method, Proxy, Request, Response};
use rustls::ClientConfig;
use zeroize::Zeroizing;

use super::tls::SetupError;
use super::transport::Lost;
use crate::config::Config;
use crate::metrics::{METRICS, Service};
use crate::secret_bytes::SecretBytes;

/// The longest answer taken from a vault. A bundle with the longest value, all of it escaped,
/// stays below a fifth of this.
const VAULT_BODY_LIMIT: usize = 1 << 20;

/// The longest answer taken from an identity service.
const IDENTITY_BODY_LIMIT: usize = 64 << 10;

/// The longest a connection to a vault may take to be made; then another is tried.
const VAULT_CONNECT: Duration = Duration::from_secs(5);

/// The longest a connection to an identity service may take: it is on this machine or beside it.
const IDENTITY_CONNECT: Duration = Duration::from_secs(2);

const USER_AGENT: &str = concat!("keyvaultfs/", env!("CARGO_PKG_VERSION"));

/// Which connection a request goes out on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// One that is kept open, if there is one.
    Kept,
    /// A new one, for a request that may have met a connection the service had given up.
    Fresh,
}

/// An HTTP client with its limits.
pub(super) struct Http {
    kept: Client,
    fresh: Client,
    body_limit: usize,
    /// Whom it speaks to, for the metrics.
    service: Service,
}

/// An answer, whole. Its body may hold a secret.
#[derive(Debug)]
pub(super) struct Answer {
    /// HTTP status.
    pub status: u16,
    /// HTTP headers.
    pub headers: HeaderMap,
    /// The body; empty if it could not be read and the status says no success.
    pub body: SecretBytes,
}

impl Http {
    /// The client for the vault.
    pub(super) fn for_vault(config: &Config, tls: &ClientConfig) -> Result<Self, SetupError> {
        let proxy = config.proxy.as_ref().map(|url| Proxy::all(url.clone()));
        let proxy = proxy.transpose();
        let proxy = proxy.map_err(|error| SetupError::Proxy(error.without_url().to_string()))?;
        let base = || {
            let base = base(tls)
                .https_only(true)
                .connect_timeout(VAULT_CONNECT.min(config.timeout));
            match &proxy {
                Some(proxy) => base.proxy(proxy.clone()),
                None => base,
            }
        };
        Ok(Self {
            kept: build(base().pool_idle_timeout(config.keep_alive))?,
            fresh: build(base().pool_max_idle_per_host(0))?,
            body_limit: VAULT_BODY_LIMIT,
            service: Service::Vault,
        })
    }

    /// The client for Azure Resource Manager: as for the vault.
    pub(super) fn for_resource_manager(
        config: &Config,
        tls: &ClientConfig,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            service: Service::ResourceManager,
            ..Self::for_vault(config, tls)?
        })
    }

    /// The client for identity services: never through a proxy. Nothing is kept open, since
    /// tokens are asked for once an hour.
    pub(super) fn for_identity(tls: &ClientConfig) -> Result<Self, SetupError> {
        let base = base(tls)
            .connect_timeout(IDENTITY_CONNECT)
            .pool_max_idle_per_host(0);
        let client = build(base)?;
        Ok(Self {
            kept: client.clone(),
            fresh: client,
            body_limit: IDENTITY_BODY_LIMIT,
            service: Service::Identity,
        })
    }

    /// Sends `request` and reads the whole answer. Any HTTP status is an answer.
    pub(super) async fn send(
        &self,
        request: Request,
        connection: Connection,
        deadline: Instant,
    ) -> Result<Answer, Lost> {
        let method = method_name(request.method());
        let began = Instant::now();
        let answer = self.exchange(request, connection, deadline).await;
        let status = answer.as_ref().ok().map(|answer| answer.status);
        METRICS.request(self.service, method, status, began.elapsed());
        answer
    }

    async fn exchange(
        &self,
        request: Request,
        connection: Connection,
        deadline: Instant,
    ) -> Result<Answer, Lost> {
        let client = match connection {
            Connection::Kept => &self.kept,
            Connection::Fresh => &self.fresh,
        };
        let head = tokio::time::timeout_at(deadline.into(), client.execute(request));
        let response = match head.await {
            Err(_elapsed) => return Err(Lost::timed_out()),
            Ok(Err(error)) => return Err(Lost::from_request(&error)),
            Ok(Ok(response)) => response,
        };
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = tokio::time::timeout_at(deadline.into(), self.body(response)).await;
        let body = match body.unwrap_or_else(|_elapsed| Err(Lost::timed_out())) {
            Ok(body) => body,
            // The status alone tells what failed.
            Err(_) if status != 200 => SecretBytes::new(Vec::new()),
            Err(lost) => return Err(lost),
        };
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    async fn body(&self, mut response: Response) -> Result<SecretBytes, Lost> {
        let expected = response.content_length().unwrap_or(0);
        let expected = usize::try_from(expected).unwrap_or(usize::MAX);
        if expected > self.body_limit {
            return Err(Lost::unusable("the answer is far too long"));
        }
        let mut body = Zeroizing::new(Vec::with_capacity(expected));
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > self.body_limit => {
                    return Err(Lost::unusable("the answer is far too long"));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(SecretBytes::new(std::mem::take(&mut *body))),
                Err(_) => return Err(Lost::unusable("the answer was cut short")),
            }
        }
    }
}

/// What holds for every client.
fn base(tls: &ClientConfig) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .user_agent(USER_AGENT)
}

/// The method as the metrics know it.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        _ => "other",
    }
}

fn build(builder: ClientBuilder) -> Result<Client, SetupError> {
    let client = builder.build();
    client.map_err(|error| SetupError::Http(error.to_string()))
}
