//! Certificates that the vault keeps, as far as anyone sees them through their secrets: a new
//! key, its certificate, an intermediate and a root, as a PFX in base64 or as PEM.
//!
//! Source: Microsoft's `about-certificates`, "Composition of a certificate".

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

use super::tls::valid_now;

/// In what form a certificate's secret is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificateFormat {
    /// A PFX without a password, in base64.
    #[serde(rename = "application/x-pkcs12")]
    Pkcs12,
    /// The key, then the certificates.
    #[serde(rename = "application/x-pem-file")]
    Pem,
}

impl CertificateFormat {
    /// The secret's content type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Pkcs12 => "application/x-pkcs12",
            Self::Pem => "application/x-pem-file",
        }
    }

    /// Makes a certificate for `host`, and the value of its secret.
    pub(super) fn issue(self, host: &str) -> io::Result<String> {
        let chain = Chain::new(host).map_err(io::Error::other)?;
        match self {
            Self::Pem => Ok(chain.pem()),
            Self::Pkcs12 => chain.pfx().map_err(io::Error::other),
        }
    }
}

struct Chain {
    key: KeyPair,
    /// The key's own first, the root last.
    certificates: [rcgen::Certificate; 3],
}

impl Chain {
    fn new(host: &str) -> Result<Self, rcgen::Error> {
        let [root_key, intermediate_key, key] = [
            KeyPair::generate()?,
            KeyPair::generate()?,
            KeyPair::generate()?,
        ];
        let root_params = authority("keyvaultfs emulator's certificates: root");
        let intermediate_params = authority("keyvaultfs emulator's certificates: intermediate");
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, host);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        valid_now(&mut params);

        let root = root_params.self_signed(&root_key)?;
        let issuer = Issuer::from_params(&root_params, &root_key);
        let intermediate = intermediate_params.signed_by(&intermediate_key, &issuer)?;
        let issuer = Issuer::from_params(&intermediate_params, &intermediate_key);
        let leaf = params.signed_by(&key, &issuer)?;
        Ok(Self {
            key,
            certificates: [leaf, intermediate, root],
        })
    }

    fn pem(&self) -> String {
        let certificates = self.certificates.iter().map(rcgen::Certificate::pem);
        std::iter::once(self.key.serialize_pem())
            .chain(certificates)
            .collect()
    }

    fn pfx(&self) -> Result<String, p12_keystore::error::Error> {
        let key = PrivateKey::from_der(&self.key.serialize_der())?;
        let certificates = self
            .certificates
            .iter()
            .map(|one| Certificate::from_der(one.der()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut store = KeyStore::new();
        let chain = PrivateKeyChain::new("1", key, certificates);
        store.add_entry("1", KeyStoreEntry::PrivateKeyChain(chain));
        // As few rounds as Key Vault makes: there is no password to protect.
        let writer = store
            .writer("")
            .encryption_iterations(2000)
            .mac_iterations(2000);
        Ok(STANDARD.encode(writer.write()?))
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_now(&mut params);
    params
}
