//! The certificate authority that the emulator makes for itself, and the vault's certificates.
//!
//! The authority's key never leaves memory, so trusting its certificate ends with the emulator.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use super::clock;

/// How long a valid certificate is, either side of now.
const VALIDITY: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Which certificate the vault shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certificate {
    /// For `localhost`, `127.0.0.1` and `::1`, by the emulator's authority.
    Valid,
    /// The same, but its time is over.
    Expired,
    /// For another host.
    WrongHost,
    /// By an authority that nobody knows.
    UnknownIssuer,
}

/// A certificate authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, for clients to trust.
    pub(super) pem: String,
    /// What the vault starts with.
    pub(super) first: Arc<ServerConfig>,
    /// The SHA-1 of that one's certificate, in hexadecimal.
    pub(super) thumbprint: String,
}

impl Authority {
    /// Makes an authority and the vault's first certificate.
    pub(super) fn new(first: Certificate) -> io::Result<Self> {
        let (issuer, pem) = new_issuer("keyvaultfs emulator")?;
        let (first, thumbprint) = server_config(&issuer, first)?;
        Ok(Self {
            issuer,
            pem,
            first,
            thumbprint,
        })
    }

    /// TLS for the vault with a certificate of that kind.
    pub(super) fn server_config(&self, certificate: Certificate) -> io::Result<Arc<ServerConfig>> {
        server_config(&self.issuer, certificate).map(|(config, _)| config)
    }
}

fn server_config(
    issuer: &Issuer<'static, KeyPair>,
    certificate: Certificate,
) -> io::Result<(Arc<ServerConfig>, String)> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let params = leaf(certificate)?;
    let signed = if certificate == Certificate::UnknownIssuer {
        let (stranger, _) = new_issuer("a stranger")?;
        params.signed_by(&key, &stranger)
    } else {
        params.signed_by(&key, issuer)
    };
    let signed = signed.map_err(io::Error::other)?.der().clone();
    let thumbprint = digest(&SHA1_FOR_LEGACY_USE_ONLY, &signed);
    let thumbprint = thumbprint.as_ref().iter().map(|byte| format!("{byte:02X}"));
    let thumbprint = thumbprint.collect();
    let chain = vec![signed];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), thumbprint))
}

fn new_issuer(name: &str) -> io::Result<(Issuer<'static, KeyPair>, String)> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_now(&mut params);
    let pem = params.self_signed(&key).map_err(io::Error::other)?.pem();
    Ok((Issuer::new(params, key), pem))
}

fn leaf(certificate: Certificate) -> io::Result<CertificateParams> {
    let host = match certificate {
        Certificate::WrongHost => "elsewhere.invalid",
        _ => "localhost",
    };
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(io::Error::other)?;
    if certificate != Certificate::WrongHost {
        params.subject_alt_names.extend([
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ]);
    }
    params.distinguished_name.push(DnType::CommonName, host);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    valid_now(&mut params);
    if certificate == Certificate::Expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    Ok(params)
}

pub(super) fn valid_now(params: &mut CertificateParams) {
    let now = rcgen::date_time_ymd(1970, 1, 1) + clock::since_1970();
    params.not_before = now - VALIDITY;
    params.not_after = now + VALIDITY;
}
