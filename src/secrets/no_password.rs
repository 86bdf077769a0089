//! A PFX with no password at all, which is another than the empty one: PKCS #12 derives its keys
//! from no bytes there, and from two zero bytes here. Programs write either when told "no
//! password", OpenSSL and Java read both; p12-keystore reads the second alone.
//! Source: RFC 7292, appendix B; OpenSSL's `PKCS12_verify_mac`.
//!
//! What p12-keystore does is not done again: bags are found with the types beneath it, and what is
//! in them goes back to it. The MAC, which anybody could have made, tells damage.

#![forbid(unsafe_code)]

use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use cms::cert::x509::spki::AlgorithmIdentifierOwned;
use cms::content_info::ContentInfo;
use cms::encrypted_data::EncryptedData;
use der::asn1::{ContextSpecific, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use des::TdesEde3;
use hmac::{Hmac, KeyInit, Mac};
use p12_keystore::Certificate;
use pkcs5::pbes2;
use pkcs12::kdf::{Pkcs12KeyType, derive_key};
use pkcs12::pbe_params::{EncryptedPrivateKeyInfo, Pkcs12PbeParams};
use pkcs12::pfx::Pfx;
use pkcs12::safe_bag::{PrivateKeyInfo, SafeContents};
use pkcs12::{AuthenticatedSafe, CertBag, MacData};
use rc2::Rc2;
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ENCRYPTED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.6");
const KEY_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.1");
const SHROUDED_KEY_BAG: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.2");
const CERT_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.3");
const TRIPLE_DES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.3");
const RC2_40: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.6");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");

/// The most rounds of a key derivation that are made: as many as p12-keystore makes.
const ROUNDS_MAX: u32 = 1_000_000;

/// What was in a PFX.
#[derive(Default)]
pub(super) struct Opened {
    /// The first private key, in PKCS #8.
    pub(super) key: Option<Zeroizing<Vec<u8>>>,
    pub(super) certificates: Vec<Certificate>,
}

/// Opens a PFX that was made with no password; `None` if it was made with any, or is damaged.
pub(super) fn open(pfx: &[u8]) -> Option<Opened> {
    let pfx = Pfx::from_der(pfx).ok()?;
    let safes = octets(&pfx.auth_safe)?;
    verify(&pfx.mac_data?, &safes)?;
    let mut opened = Opened::default();
    for safe in AuthenticatedSafe::from_der(&safes).ok()? {
        let content = match safe.content_type {
            DATA => Zeroizing::new(octets(&safe)?),
            ENCRYPTED_DATA => {
                let encrypted = EncryptedData::from_der(&safe.content.to_der().ok()?).ok()?;
                let encrypted = encrypted.enc_content_info;
                let content = encrypted.encrypted_content?;
                decrypt(&encrypted.content_enc_alg, content.as_bytes())?
            }
            _ => return None,
        };
        opened.take(SafeContents::from_der(&content).ok()?)?;
    }
    Some(opened)
}

impl Opened {
    fn take(&mut self, bags: SafeContents) -> Option<()> {
        for bag in bags {
            match bag.bag_id {
                CERT_BAG => {
                    let bag = ContextSpecific::<CertBag>::from_der(&bag.bag_value).ok()?;
                    let der = bag.value.cert_value.as_bytes();
                    self.certificates.push(Certificate::from_der(der).ok()?);
                }
                SHROUDED_KEY_BAG => {
                    let bag = ContextSpecific::<EncryptedPrivateKeyInfo>::from_der(&bag.bag_value);
                    let bag = bag.ok()?.value;
                    let key = decrypt(&bag.encryption_algorithm, bag.encrypted_data.as_bytes())?;
                    self.key = self.key.take().or(Some(key));
                }
                KEY_BAG => {
                    let bag = ContextSpecific::<PrivateKeyInfo>::from_der(&bag.bag_value).ok()?;
                    let key = Zeroizing::new(bag.value.to_der().ok()?);
                    self.key = self.key.take().or(Some(key));
                }
                _ => {}
            }
        }
        Some(())
    }
}

/// Whether this is the MAC of `data` under no password; other digests than these two are not met.
fn verify(mac: &MacData, data: &[u8]) -> Option<()> {
    let rounds = mac.iterations;
    let salt = mac.mac_salt.as_bytes();
    let expected = mac.mac.digest.as_bytes();
    if !u32::try_from(rounds).is_ok_and(|rounds| rounds <= ROUNDS_MAX) {
        return None;
    }
    match mac.mac.algorithm.oid {
        SHA1 => {
            let key = derive_key::<Sha1>(&[], salt, Pkcs12KeyType::Mac, rounds, 20);
            let mac = Hmac::<Sha1>::new_from_slice(&key).ok()?;
            mac.chain_update(data).verify_slice(expected).ok()
        }
        SHA256 => {
            let key = derive_key::<Sha256>(&[], salt, Pkcs12KeyType::Mac, rounds, 32);
            let mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
            mac.chain_update(data).verify_slice(expected).ok()
        }
        _ => None,
    }
}

fn octets(content: &ContentInfo) -> Option<Vec<u8>> {
    let octets = OctetString::from_der(&content.content.to_der().ok()?).ok()?;
    Some(octets.into_bytes().into())
}

fn decrypt(algorithm: &AlgorithmIdentifierOwned, data: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let parameters = algorithm.parameters.as_ref()?.to_der().ok()?;
    if algorithm.oid == PBES2 {
        let parameters = pbes2::Parameters::from_der(&parameters).ok()?;
        let rounds = parameters.kdf.pbkdf2()?.iteration_count;
        // Its keys are derived alike from no password and from the empty one.
        let plain = (rounds <= ROUNDS_MAX).then(|| parameters.decrypt([], data));
        return plain?.ok().map(Zeroizing::new);
    }
    let Pkcs12PbeParams { salt, iterations } = Pkcs12PbeParams::from_der(&parameters).ok()?;
    if !u32::try_from(iterations).is_ok_and(|rounds| rounds <= ROUNDS_MAX) {
        return None;
    }
    let derive = |kind, length| {
        let derived = derive_key::<Sha1>(&[], salt.as_bytes(), kind, iterations, length);
        Zeroizing::new(derived)
    };
    let key = |length| derive(Pkcs12KeyType::EncryptionKey, length);
    let iv = derive(Pkcs12KeyType::Iv, 8);
    let plain = match algorithm.oid {
        TRIPLE_DES => Decryptor::<TdesEde3>::new_from_slices(&key(24), &iv)
            .ok()?
            .decrypt_padded_vec::<Pkcs7>(data),
        RC2_40 => Decryptor::<Rc2>::new_from_slices(&key(5), &iv)
            .ok()?
            .decrypt_padded_vec::<Pkcs7>(data),
        _ => return None,
    };
    plain.ok().map(Zeroizing::new)
}
