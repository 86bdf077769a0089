//! The words that the parsers of this room give, for [`crate::fuzzed`].

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{CertificateForm, Properties, Secret, SecretVersion, decode, encode, stored_length};
use crate::secret_bytes::SecretBytes;

/// A PFX, or PEM if it does not begin like DER: what is read of it is read the same a second time,
/// and a binary PFX is shown as it is.
pub fn certificate(bytes: &[u8]) {
    let pkcs12 = |pfx: &[u8]| secret("application/x-pkcs12", STANDARD.encode(pfx).into_bytes());
    let pem = |pem: &[u8]| secret("application/x-pem-file", pem.to_vec());
    let is_pfx = bytes.first() == Some(&0x30);
    let source = if is_pfx { pkcs12(bytes) } else { pem(bytes) };
    if is_pfx {
        let shown = CertificateForm::Pfx.of(&source);
        assert!(shown.is_ok_and(|shown| shown.expose() == bytes));
    }
    let Ok(shown) = CertificateForm::Pem.of(&source) else {
        return;
    };
    let again = CertificateForm::Pem.of(&pem(shown.expose()));
    assert!(again.is_ok_and(|again| again.expose() == shown.expose()));
    if !is_pfx && let Ok(pfx) = CertificateForm::Pfx.of(&source) {
        let back = CertificateForm::Pem.of(&pkcs12(pfx.expose()));
        assert!(back.is_ok_and(|back| back.expose() == shown.expose()));
    }
}

/// A stored value under each `file-encoding`: what decodes is spelt in one way but for white space
/// and case, so that nothing in it was passed over; and every byte string comes back.
pub fn encoding(stored: &[u8]) {
    let decoded = |encoding| decode(SecretBytes::new(stored.to_vec()), encoding);
    let text = stored.iter().filter(|byte| !byte.is_ascii_whitespace());
    let text: Vec<u8> = text.copied().collect();
    if let Some(value) = decoded(Some("base64")) {
        assert!(STANDARD.encode(value.expose()).as_bytes() == text);
    }
    if let Some(value) = decoded(Some("hex")) {
        let digits = value.expose().iter().map(|byte| format!("{byte:02x}"));
        assert!(digits.collect::<String>().as_bytes() == text.to_ascii_lowercase());
    }
    assert!(decoded(None).is_some_and(|value| value.expose() == stored));

    let written = encode(stored);
    let text = SecretBytes::new(written.text.as_bytes().to_vec());
    // A character cut off at the end counts as text until the next write.
    let broken = std::str::from_utf8(stored).is_err_and(|error| error.error_len().is_some());
    let length = if broken { text.len() } else { stored.len() };
    assert_eq!(stored_length(stored), length);
    assert!(decode(text, written.encoding).is_some_and(|value| value.expose() == stored));
}

fn secret(content_type: &str, value: Vec<u8>) -> Secret {
    Secret {
        value: SecretBytes::new(value),
        properties: Properties {
            version: SecretVersion::parse(&"0".repeat(32)).expect("32 digits are a version"),
            enabled: true,
            created: None,
            updated: None,
            not_before: None,
            expires: None,
            content_type: Some(content_type.to_owned()),
            tags: BTreeMap::new(),
            managed: true,
        },
    }
}
