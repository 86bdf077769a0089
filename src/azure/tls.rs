//! What TLS means here: version 1.2 or 1.3, the certificate checked against the system's trusted
//! certificates and those of the configuration.
//!
//! Built by hand rather than by reqwest, so that the rules stand in one place, every client shares
//! one session cache, and a machine without a certificate bundle works if it is given its own.

#![forbid(unsafe_code)]

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// Why no client could be made of a configuration; the text says what would mend it.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A `--ca-cert` that holds no certificate, or one that cannot be read.
    #[error("{0}")]
    CaCertificate(String),
    /// No trusted certificate at all.
    #[error(
        "this machine has no trusted certificates; install the package ca-certificates, or name \
         the vault's CA with --ca-cert"
    )]
    NothingTrusted,
    /// The identity service that is named is not there, or cannot select the identity.
    #[error("{0}")]
    Identity(String),
    /// The proxy's address is none.
    #[error("the proxy cannot be used: {0}")]
    Proxy(String),
    /// The HTTP client could not be made.
    #[error("cannot set up HTTP: {0}")]
    Http(String),
}

/// The versions spoken, which are those Key Vault speaks.
pub(super) const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// The TLS configuration that all clients share. `extra` are texts in PEM.
pub(super) fn client_config(extra: &[String]) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore::empty();
    for pem in extra {
        add_pem(&mut roots, pem)?;
    }
    // A bundle may hold certificates that are old or odd; they are simply not trusted.
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        return Err(SetupError::NothingTrusted);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(|error| SetupError::Http(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn add_pem(roots: &mut RootCertStore, pem: &str) -> Result<(), SetupError> {
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| {
            SetupError::CaCertificate(format!("a CA certificate is not valid PEM: {error}"))
        })?;
        roots.add(certificate).map_err(|error| {
            SetupError::CaCertificate(format!("a CA certificate cannot be used: {error}"))
        })?;
        found = true;
    }
    if !found {
        return Err(SetupError::CaCertificate(
            "a CA file holds no certificate; it must have a line -----BEGIN CERTIFICATE-----"
                .to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_certificate_is_an_error_that_says_so() {
        for text in [
            "",
            "nonsense",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            let error = client_config(&[text.to_owned()]).unwrap_err();
            assert!(error.to_string().contains("holds no certificate"), "{text}");
        }
    }

    #[test]
    fn a_ca_file_with_a_broken_certificate_is_an_error_that_says_so() {
        for text in [
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let error = client_config(&[text.to_owned()]).unwrap_err();
            assert!(error.to_string().contains("a CA certificate"), "{text}");
        }
    }
}
