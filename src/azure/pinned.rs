//! TLS to a server known by its certificate's thumbprint, as Service Fabric's is: no authority
//! vouches for it, and no name is in it.
//!
//! The handshake's signature is checked all the same: whoever shows the certificate must have its
//! key.

#![forbid(unsafe_code)]

use std::sync::Arc;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::tls::{SetupError, VERSIONS};

/// The SHA-1 of a certificate, which is how Service Fabric names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thumbprint([u8; 20]);

impl Thumbprint {
    /// Parses 40 hexadecimal digits; spaces and colons among them are skipped.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let written = text.chars().filter(|c| !c.is_whitespace() && *c != ':');
        let digits: Vec<u8> = written
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()?;
        let (pairs, []) = digits.as_chunks::<2>() else {
            return None;
        };
        let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        bytes.try_into().ok().map(Self)
    }

    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate);
        sum.as_ref().try_into().ok().map(Self)
    }
}

/// TLS that trusts the certificate of this thumbprint and no other.
pub(super) fn client_config(trusted: Thumbprint) -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Pinned {
        trusted,
        provider: provider.clone(),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(|error| SetupError::Http(error.to_string()))?
        // rustls calls every verifier of one's own dangerous.
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Pinned {
    trusted: Thumbprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Thumbprint::of(end_entity) == Some(self.trusted) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_40_hexadecimal_digits_however_they_are_grouped() {
        // printf abc | sha1sum
        let plain = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let spaced = "A9 99 3E 36 47 06 81 6A BA 3E 25 71 78 50 C2 6C 9C D0 D8 9D";
        let expected = Thumbprint::of(&CertificateDer::from_slice(b"abc"));
        assert!(expected.is_some());
        for text in [plain, spaced, &spaced.replace(' ', ":")] {
            assert_eq!(Thumbprint::parse(text), expected, "{text}");
        }
        for text in [
            "",
            "a9",
            &plain[1..],
            &plain.replace('a', "g"),
            &format!("{plain}00"),
        ] {
            assert_eq!(Thumbprint::parse(text), None, "{text}");
        }
    }
}
