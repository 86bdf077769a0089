//! A certificate's secret in the two forms programs want: PEM, and a binary PFX.
//!
//! A vault keeps a certificate with its private key as a secret of the same name, in base64 of a
//! PFX with an empty password, or in PEM, as the certificate's policy says. Pure: bytes in, bytes
//! out. What is not a certificate's secret has neither form.
//! Source: Microsoft's `about-certificates`, "Composition of a certificate".

#![forbid(unsafe_code)]

use p12_keystore::error::Error as Pkcs12Error;
use p12_keystore::{
    Certificate, KeyStore, KeyStoreEntry, Pkcs12Archive, PrivateKey, PrivateKeyChain,
};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::encoding;
use super::no_password;
use super::{Properties, Secret};
use crate::secret_bytes::SecretBytes;

/// The content type of a PFX, in base64.
const PKCS12: &str = "application/x-pkcs12";
/// The content type of PEM.
const PEM: &str = "application/x-pem-file";

/// The password of a certificate's PFX.
const EMPTY_PASSWORD: &str = "";

/// PEM's label of a key in PKCS #8.
const PKCS8: &str = "PRIVATE KEY";
/// Columns of a PEM line (RFC 7468).
const COLUMNS: usize = 64;

/// The most certificates that are taken for one: a chain is rarely longer than four.
const CERTIFICATES_MAX: usize = 64;

/// How a certificate's secret is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CertificateForm {
    /// The private key, its certificate, and the chain in order, in PEM.
    Pem,
    /// A binary PFX with an empty password.
    Pfx,
}

/// Why there is no such form of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoForm {
    /// No certificate keeps it.
    #[error("it is not a certificate's secret")]
    NotACertificate,
    /// It is not what its content type says.
    #[error("{0}")]
    Damaged(&'static str),
}

impl CertificateForm {
    /// What the file's name ends with, after a dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Pem => "pem",
            Self::Pfx => "pfx",
        }
    }

    /// The form of files whose name ends so.
    pub fn from_extension(extension: &str) -> Option<Self> {
        [Self::Pem, Self::Pfx]
            .into_iter()
            .find(|form| form.extension() == extension)
    }

    /// Whether this form of such a secret is the same bytes each time it is made. A PFX that is
    /// made of PEM has random salts.
    pub fn is_reproducible(self, properties: &Properties) -> bool {
        self == Self::Pem || properties.content_type.as_deref() == Some(PKCS12)
    }

    /// The secret in this form. May take as long as a key derivation.
    ///
    /// # Errors
    ///
    /// If no certificate keeps the secret, or it cannot be read.
    pub fn of(self, secret: &Secret) -> Result<SecretBytes, NoForm> {
        let content_type = secret.properties.content_type.as_deref();
        match (self, content_type.filter(|_| secret.properties.managed)) {
            (Self::Pfx, Some(PKCS12)) => pfx_bytes(secret),
            (Self::Pem, Some(PKCS12)) => Ok(Parts::from_pfx(&pfx_bytes(secret)?)?.to_pem()),
            (Self::Pem, Some(PEM)) => Ok(Parts::from_pem(secret.value.expose())?.to_pem()),
            (Self::Pfx, Some(PEM)) => Parts::from_pem(secret.value.expose())?.to_pfx(),
            _ => Err(NoForm::NotACertificate),
        }
    }
}

/// What a certificate's secret is made of.
struct Parts {
    /// PEM's label, and the key in DER. None if the key may not be exported.
    key: Option<(&'static str, Zeroizing<Vec<u8>>)>,
    /// The key's own first, then who issued the one before, then whatever else there is.
    certificates: Vec<Certificate>,
}

impl Parts {
    fn from_pfx(pfx: &SecretBytes) -> Result<Self, NoForm> {
        let archive = match Pkcs12Archive::from_pkcs12(pfx.expose(), EMPTY_PASSWORD) {
            Ok(archive) => archive,
            Err(Pkcs12Error::MacError(_)) => return Self::from_pfx_without_password(pfx),
            Err(error) => {
                return Err(NoForm::Damaged(match error {
                    Pkcs12Error::UnsupportedEncryptionScheme => "the PFX has an unknown encryption",
                    Pkcs12Error::X509Error(_) => "a certificate in the PFX cannot be read",
                    _ => "the PFX cannot be read",
                }));
            }
        };
        let mut keys = archive.keys.into_iter();
        let key = keys.next().map(|bag| {
            let der = Zeroizing::new(bag.key.as_der().to_vec());
            (PKCS8, der)
        });
        let certificates = archive.certs.into_iter().map(|bag| bag.cert).collect();
        Self::new(key, certificates)
    }

    fn from_pfx_without_password(pfx: &SecretBytes) -> Result<Self, NoForm> {
        let damaged = NoForm::Damaged("the PFX is damaged, or its password is not empty");
        let opened = no_password::open(pfx.expose()).ok_or(damaged)?;
        Self::new(opened.key.map(|key| (PKCS8, key)), opened.certificates)
    }

    fn from_pem(pem: &[u8]) -> Result<Self, NoForm> {
        let mut key = None;
        let mut certificates = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(|_| NoForm::Damaged("the PEM cannot be read"))?;
            let label =
                match kind {
                    SectionKind::PrivateKey => PKCS8,
                    SectionKind::RsaPrivateKey => "RSA PRIVATE KEY",
                    SectionKind::EcPrivateKey => "EC PRIVATE KEY",
                    SectionKind::Certificate => {
                        let certificate = Certificate::from_der(&der);
                        certificates.push(certificate.map_err(|_| {
                            NoForm::Damaged("a certificate in the PEM cannot be read")
                        })?);
                        continue;
                    }
                    _ => continue,
                };
            key = key.or(Some((label, Zeroizing::new(der))));
        }
        Self::new(key, certificates)
    }

    fn new(
        key: Option<(&'static str, Zeroizing<Vec<u8>>)>,
        certificates: Vec<Certificate>,
    ) -> Result<Self, NoForm> {
        if certificates.is_empty() {
            return Err(NoForm::Damaged("there is no certificate in it"));
        }
        if certificates.len() > CERTIFICATES_MAX {
            return Err(NoForm::Damaged("there are too many certificates in it"));
        }
        let key_der = key.as_ref().map(|(_, der)| der.as_slice());
        Ok(Self {
            certificates: in_order(key_der, certificates),
            key,
        })
    }

    fn to_pem(&self) -> SecretBytes {
        let mut text = Vec::with_capacity(encoding::STORED_LIMIT);
        if let Some((label, der)) = &self.key {
            push_section(&mut text, label, der);
        }
        for certificate in &self.certificates {
            push_section(&mut text, "CERTIFICATE", certificate.as_der());
        }
        SecretBytes::new(text)
    }

    fn to_pfx(&self) -> Result<SecretBytes, NoForm> {
        let Some((PKCS8, der)) = &self.key else {
            return Err(NoForm::Damaged("the PEM has no private key in PKCS #8"));
        };
        let damaged = |_| NoForm::Damaged("the PEM's private key cannot be read");
        let key = PrivateKey::from_der(der).map_err(damaged)?;
        // The id only joins the key to its certificate, within the file.
        let chain = PrivateKeyChain::new("1", key, self.certificates.iter().cloned());
        let mut store = KeyStore::new();
        store.add_entry("1", KeyStoreEntry::PrivateKeyChain(chain));
        let written = store.writer(EMPTY_PASSWORD).write();
        written
            .map(SecretBytes::new)
            .map_err(|_| NoForm::Damaged("the PEM cannot be made into a PFX"))
    }
}

fn pfx_bytes(secret: &Secret) -> Result<SecretBytes, NoForm> {
    encoding::from_base64(&secret.value).ok_or(NoForm::Damaged("the PFX is not in base64"))
}

/// The leaf, who issued it, who issued that, and at last what is not of the chain.
fn in_order(key: Option<&[u8]>, mut rest: Vec<Certificate>) -> Vec<Certificate> {
    let mut ordered = vec![rest.remove(leaf(key, &rest))];
    while let Some(last) = ordered.last() {
        let issued = |issuer: &Certificate| issuer.subject() == last.issuer();
        let Some(next) = rest.iter().position(issued) else {
            break;
        };
        ordered.push(rest.remove(next));
    }
    ordered.append(&mut rest);
    ordered
}

/// Which is the key's own certificate; for a key that is not there or of a kind nobody here knows,
/// the first that issued none of the others.
fn leaf(key: Option<&[u8]>, certificates: &[Certificate]) -> usize {
    let key = key.and_then(|der| PrivateKeyDer::try_from(der).ok());
    let by_key = key
        .and_then(|key| any_supported_type(&key).ok())
        .and_then(|key| {
            certificates.iter().position(|certificate| {
                let der = CertificateDer::from(certificate.as_der());
                let pair = CertifiedKey::new(vec![der.into_owned()], key.clone());
                pair.keys_match().is_ok()
            })
        });
    let issued_none = || {
        certificates.iter().position(|one| {
            let mut others = certificates.iter().filter(|other| *other != one);
            others.all(|other| other.issuer() != one.subject())
        })
    };
    by_key.or_else(issued_none).unwrap_or(0)
}

fn push_section(text: &mut Vec<u8>, label: &str, der: &[u8]) {
    text.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
    for line in encoding::to_base64(der).as_bytes().chunks(COLUMNS) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::secrets::SecretVersion;

    /// Made with `openssl pkcs12 -export -passout pass:` of one key, its certificate, and a chain
    /// whose root comes first: with AES, with RC2 and 3DES (`-legacy`), with 3DES alone.
    const PFX: [&[u8]; 3] = [
        include_bytes!("../../tests/data/modern.pfx"),
        include_bytes!("../../tests/data/legacy.pfx"),
        include_bytes!("../../tests/data/3des.pfx"),
    ];
    /// The same key, leaf, intermediate and root, as `openssl` wrote them.
    const EXPECTED: &[u8] = include_bytes!("../../tests/data/certificate.pem");

    fn secret(content_type: &str, managed: bool, value: &[u8]) -> Secret {
        Secret {
            value: SecretBytes::new(value.to_vec()),
            properties: Properties {
                version: SecretVersion::parse(&"0".repeat(32)).unwrap(),
                enabled: true,
                created: None,
                updated: None,
                not_before: None,
                expires: None,
                content_type: Some(content_type.to_owned()),
                tags: BTreeMap::new(),
                managed,
            },
        }
    }

    fn pkcs12(pfx: &[u8]) -> Secret {
        secret(PKCS12, true, encoding::to_base64(pfx).as_bytes())
    }

    /// The sections of EXPECTED in another order.
    fn shuffled(order: [usize; 4]) -> Vec<u8> {
        let text = std::str::from_utf8(EXPECTED).unwrap();
        let mut whole = Vec::new();
        let mut start = 0;
        for (end, _) in text.match_indices("-----BEGIN").skip(1) {
            whole.push(&text[start..end]);
            start = end;
        }
        whole.push(&text[start..]);
        order.map(|index| whole[index]).concat().into_bytes()
    }

    #[test]
    fn a_pfx_of_any_common_encryption_becomes_key_leaf_and_chain_in_order() {
        for (index, pfx) in PFX.iter().enumerate() {
            let pem = CertificateForm::Pem.of(&pkcs12(pfx)).unwrap();
            assert!(pem.expose() == EXPECTED, "number {index}");
            let back = CertificateForm::Pfx.of(&pkcs12(pfx)).unwrap();
            assert!(back.expose() == *pfx);
        }
    }

    #[test]
    fn a_pfx_with_no_password_is_opened_like_one_with_an_empty_password() {
        // Made with OpenSSL's PKCS12_create of the key and its certificate, the password null.
        for pfx in [
            include_bytes!("../../tests/data/no-password-legacy.pfx").as_slice(),
            include_bytes!("../../tests/data/no-password-aes.pfx").as_slice(),
        ] {
            let pem = CertificateForm::Pem.of(&pkcs12(pfx)).unwrap();
            assert!(EXPECTED.starts_with(pem.expose()));
            for length in (0..pfx.len()).step_by(53) {
                assert!(CertificateForm::Pem.of(&pkcs12(&pfx[..length])).is_err());
            }
        }
    }

    #[test]
    fn pem_is_put_in_order_by_key_and_issuers() {
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [0, 3, 1, 2]] {
            let mixed = secret(PEM, true, &shuffled(order));
            let pem = CertificateForm::Pem.of(&mixed).unwrap();
            assert!(pem.expose() == EXPECTED, "{order:?}");
        }
    }

    #[test]
    fn without_its_key_a_certificate_is_still_in_order() {
        let whole = shuffled([3, 2, 1, 0]);
        let text = String::from_utf8(whole).unwrap();
        let certificates = &text[..text.find("-----BEGIN PRIVATE").unwrap()];
        let keyless = secret(PEM, true, certificates.as_bytes());
        let pem = CertificateForm::Pem.of(&keyless).unwrap();
        let expected = shuffled([1, 2, 3, 0]);
        assert!(expected.starts_with(pem.expose()));
        let pfx = CertificateForm::Pfx.of(&keyless);
        assert!(matches!(pfx, Err(NoForm::Damaged(_))));
    }

    #[test]
    fn pem_becomes_a_pfx_with_the_same_content() {
        let source = secret(PEM, true, EXPECTED);
        let pfx = CertificateForm::Pfx.of(&source).unwrap();
        let pem = CertificateForm::Pem.of(&pkcs12(pfx.expose())).unwrap();
        assert!(pem.expose() == EXPECTED);
        assert!(!CertificateForm::Pfx.is_reproducible(&source.properties));
        assert!(CertificateForm::Pem.is_reproducible(&source.properties));
    }

    #[test]
    fn only_a_certificates_secret_has_these_forms() {
        let base64 = encoding::to_base64(PFX[0]);
        for other in [
            secret(PKCS12, false, base64.as_bytes()),
            secret(PEM, false, EXPECTED),
            secret("text/plain", true, EXPECTED),
        ] {
            for form in [CertificateForm::Pem, CertificateForm::Pfx] {
                assert_eq!(form.of(&other).err(), Some(NoForm::NotACertificate));
            }
        }
    }

    #[test]
    fn what_is_damaged_is_told_from_what_is_locked() {
        let reason = |secret: &Secret| match CertificateForm::Pem.of(secret) {
            Err(NoForm::Damaged(reason)) => reason,
            other => panic!("{other:?}"),
        };
        let mut flipped = PFX[0].to_vec();
        flipped[1000] ^= 1;
        assert!(reason(&pkcs12(&flipped)).contains("password"));
        assert!(reason(&pkcs12(&PFX[0][..2000])).contains("cannot be read"));
        assert!(reason(&secret(PKCS12, true, b"!")).contains("base64"));
        assert!(reason(&secret(PEM, true, b"no PEM")).contains("no certificate"));
    }

    #[test]
    fn no_cut_of_a_pfx_makes_it_panic() {
        for length in (0..PFX[0].len()).step_by(97) {
            assert!(CertificateForm::Pem.of(&pkcs12(&PFX[0][..length])).is_err());
        }
    }
}
