//! What became of a request that got no answer, read from the errors beneath reqwest.
//!
//! Pure: it walks an error's chain of sources and names the [`Failure`], whether the service can
//! have seen the request, and a text that holds no address with a query, no header and no body.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io;

use crate::secrets::Failure;

/// A request that got no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// What happened.
    pub failure: Failure,
    /// How far the request came.
    pub reached: Reached,
    /// What was seen, for people: `Connection refused (os error 111)`.
    pub detail: String,
}

/// How far a request that failed can have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// There was no connection to send it on: the service has not seen it.
    Nothing,
    /// It was sent, or may have been: the service may have carried it out.
    Wire,
}

impl Lost {
    /// The deadline passed while waiting for an answer.
    pub(super) fn timed_out() -> Self {
        Self {
            failure: Failure::TimedOut,
            reached: Reached::Wire,
            detail: "no answer in time".to_owned(),
        }
    }

    /// The answer had begun but cannot be used.
    pub(super) fn unusable(detail: impl Into<String>) -> Self {
        Self {
            failure: Failure::Malformed,
            reached: Reached::Wire,
            detail: detail.into(),
        }
    }

    /// Names what happened to a request whose answer never began.
    pub(super) fn from_request(error: &reqwest::Error) -> Self {
        let reached = if error.is_connect() {
            Reached::Nothing
        } else {
            Reached::Wire
        };
        let (failure, detail) = diagnose(error);
        Self {
            failure,
            reached,
            detail,
        }
    }
}

fn diagnose(error: &reqwest::Error) -> (Failure, String) {
    if let Some(tls) = find::<rustls::Error>(error) {
        return (Failure::Tls, tls.to_string());
    }
    if error.is_dns() {
        return (
            Failure::Unreachable,
            "the host's name cannot be resolved".to_owned(),
        );
    }
    if let Some(io) = find::<io::Error>(error) {
        return match io.kind() {
            io::ErrorKind::TimedOut => (Failure::TimedOut, "no connection in time".to_owned()),
            io::ErrorKind::UnexpectedEof => (
                Failure::Unreachable,
                if error.is_connect() {
                    "the connection was closed during the handshake".to_owned()
                } else {
                    "the connection was closed before an answer".to_owned()
                },
            ),
            _ => (Failure::Unreachable, io.to_string()),
        };
    }
    if error.is_timeout() {
        return (Failure::TimedOut, "no connection in time".to_owned());
    }
    match find::<hyper::Error>(error) {
        Some(hyper) if hyper.is_parse() => {
            (Failure::Malformed, "the answer is not HTTP".to_owned())
        }
        Some(hyper) => (Failure::Unreachable, hyper.to_string()),
        // A proxy's refusal is one of these.
        None => (
            Failure::Unreachable,
            format!("cannot connect: {}", innermost(error)),
        ),
    }
}

/// The innermost error of type `E` in a chain. An [`io::Error`] hides what it wraps from
/// `source()`, so it is asked with `get_ref()`.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut found = None;
    let mut next = Some(error);
    while let Some(error) = next {
        found = error.downcast_ref::<E>().or(found);
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    found
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use reqwest::Client;
    use reqwest::dns::{Name, Resolve, Resolving};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A resolver that knows no name.
    struct Ignorant;

    impl Resolve for Ignorant {
        fn resolve(&self, _: Name) -> Resolving {
            Box::pin(async { Err("no such host".into()) })
        }
    }

    /// What is seen of a service that reads a request and answers `bytes`.
    async fn lost_to(bytes: &'static [u8]) -> Lost {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let service = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let read = stream.read(&mut [0; 4096]).await.unwrap();
            assert_ne!(read, 0);
            stream.write_all(bytes).await.unwrap();
        });
        let client = plain_client().build().unwrap();
        let error = client.get(url).send().await.unwrap_err();
        service.await.unwrap();
        Lost::from_request(&error)
    }

    fn plain_client() -> reqwest::ClientBuilder {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Client::builder().tls_backend_preconfigured(tls).no_proxy()
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_unreachable_and_nothing_was_sent() {
        let client = plain_client().dns_resolver(Arc::new(Ignorant));
        let sent = client.build().unwrap().get("http://vault.invalid/").send();
        let lost = Lost::from_request(&sent.await.unwrap_err());
        assert_eq!(lost.failure, Failure::Unreachable);
        assert_eq!(lost.reached, Reached::Nothing);
        assert_eq!(lost.detail, "the host's name cannot be resolved");
    }

    #[tokio::test]
    async fn a_connection_slow_to_be_made_is_timed_out_and_nothing_was_sent() {
        // It takes connections and answers no handshake.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let client = plain_client().connect_timeout(Duration::from_millis(50));
        let error = client.build().unwrap().get(url).send().await.unwrap_err();
        let lost = Lost::from_request(&error);
        assert_eq!(lost.failure, Failure::TimedOut);
        assert_eq!(lost.reached, Reached::Nothing);
    }

    #[tokio::test]
    async fn a_connection_closed_instead_of_an_answer_may_have_carried_the_request() {
        let lost = lost_to(b"").await;
        assert_eq!(lost.failure, Failure::Unreachable);
        assert_eq!(lost.reached, Reached::Wire);
    }

    #[tokio::test]
    async fn an_answer_that_is_not_http_is_malformed() {
        let lost = lost_to(b"220 mail.example ESMTP\r\n\r\n").await;
        assert_eq!(lost.failure, Failure::Malformed);
        assert_eq!(lost.reached, Reached::Wire);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_tls_error_is_found_beneath_two_io_errors() {
        let tls = rustls::Error::NoCertificatesPresented;
        let inner = io::Error::new(io::ErrorKind::InvalidData, tls);
        let outer = Outer(io::Error::other(inner));
        assert_eq!(
            find::<rustls::Error>(&outer),
            Some(&rustls::Error::NoCertificatesPresented)
        );
    }

    #[test]
    fn the_innermost_io_error_says_what_happened() {
        let inner = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let outer = Outer(io::Error::other(inner));
        assert_eq!(
            find::<io::Error>(&outer).unwrap().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
}
