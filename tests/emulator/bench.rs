//! An emulator with a client beside it.

use std::time::Duration;

use keyvaultfs::emulator::{Emulator, Options};
use reqwest::header::HeaderMap;
use serde_json::Value;

/// An emulator and a client that trusts it.
pub(crate) struct Bench {
    pub(crate) emulator: Emulator,
    pub(crate) http: reqwest::Client,
    pub(crate) runtime: tokio::runtime::Runtime,
}

/// An answer received whole.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("the body is JSON")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).expect("the header is there");
        value.to_str().expect("the header is text")
    }

    /// Status, code and inner code of an error of the vault.
    pub(crate) fn error(&self) -> (u16, String, Option<String>) {
        let error = &self.json()["error"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        (
            self.status,
            text(&error["code"]).expect("an error has a code"),
            text(&error["innererror"]["code"]),
        )
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let emulator = Emulator::start(options).expect("an emulator starts");
        let pem = std::fs::read(&emulator.endpoints().ca_cert).expect("there is a CA");
        let ca = reqwest::Certificate::from_pem(&pem).expect("the CA is PEM");
        let http = reqwest::Client::builder()
            .tls_certs_only([ca])
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .build()
            .expect("a client can be built");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be built");
        Self {
            emulator,
            http,
            runtime,
        }
    }

    pub(crate) fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
        self.runtime.block_on(async {
            let response = request.send().await?;
            Ok(Reply {
                status: response.status().as_u16(),
                headers: response.headers().clone(),
                text: response.text().await?,
            })
        })
    }

    pub(crate) fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        self.try_send(request).expect("the emulator answers")
    }

    /// Asks IMDS with this query.
    pub(crate) fn imds(&self, query: &str) -> Reply {
        let url = format!("{}?{query}", self.emulator.endpoints().imds);
        self.send(self.http.get(url).header("Metadata", "true"))
    }

    pub(crate) fn token_for(&self, resource: &str) -> String {
        let reply = self.imds(&format!("api-version=2018-02-01&resource={resource}"));
        let token = reply.json()["access_token"].as_str().map(str::to_owned);
        token.expect("IMDS gives a token")
    }

    /// A request to the vault with a fresh token.
    pub(crate) fn vault(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let token = self.token_for("https://vault.azure.net");
        self.vault_without_token(method, path)
            .header("Authorization", format!("Bearer {token}"))
    }

    pub(crate) fn vault_without_token(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let vault = &self.emulator.endpoints().vault;
        let method = method.parse().expect("a method");
        self.http
            .request(method, format!("{vault}{path}?api-version=7.6"))
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send(self.vault("GET", path))
    }

    pub(crate) fn put(&self, name: &str, body: &Value) -> Reply {
        self.send(self.put_request(name, body))
    }

    pub(crate) fn put_request(&self, name: &str, body: &Value) -> reqwest::RequestBuilder {
        self.vault("PUT", &format!("/secrets/{name}"))
            .body(body.to_string())
    }

    pub(crate) fn control(&self, method: &str, path: &str, body: &Value) -> Reply {
        let url = format!("{}{path}", self.emulator.endpoints().control);
        let method = method.parse().expect("a method");
        self.send(self.http.request(method, url).body(body.to_string()))
    }
}

/// What IMDS is asked for a token for the vault.
pub(crate) const TOKEN_QUERY: &str = "api-version=2018-02-01&resource=https://vault.azure.net";
