//! The az CLI's `file-encoding` convention: how bytes that are no text become a secret.
//!
//! A value whose tag `file-encoding` is `base64` or `hex` is shown decoded, white space ignored;
//! any other tag, or none, means the value is the bytes. Bytes that are not UTF-8 are stored as
//! base64 in lines of 76 columns, as `az keyvault secret set --encoding base64` does.
//! Source: azure-cli `keyvault/_validators.py` and `custom.py`.

#![forbid(unsafe_code)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::secret_bytes::SecretBytes;

/// The tag that says how a value is encoded.
pub const ENCODING_TAG: &str = "file-encoding";

/// The longest value a vault stores, in bytes of UTF-8. The service says "25600 characters";
/// bytes are the reading that is safe for both.
pub const STORED_LIMIT: usize = 25_600;

/// The most tags a vault takes, [`ENCODING_TAG`] among them. Source: Microsoft's `about-secrets`.
pub const TAGS_MAX: usize = 15;

/// Columns of az's base64 lines (Python's `encodebytes`).
const COLUMNS: usize = 76;

/// A value as the vault is to store it.
pub struct Stored {
    /// The text.
    pub text: Zeroizing<String>,
    /// What the tag [`ENCODING_TAG`] must say; `None`: the text is the bytes.
    pub encoding: Option<&'static str>,
}

impl Stored {
    /// Whether a vault would store it.
    pub fn fits(&self) -> bool {
        self.text.len() <= STORED_LIMIT
    }
}

/// The bytes that a stored value stands for; `None` if it is not what its tag says.
pub fn decode(stored: SecretBytes, encoding: Option<&str>) -> Option<SecretBytes> {
    match encoding {
        Some("base64") => from_base64(&stored),
        Some("hex") => from_hex(&without_white_space(&stored)).map(SecretBytes::new),
        _ => Some(stored),
    }
}

/// How `bytes` are to be stored: as they are if they are UTF-8, in base64 otherwise.
pub fn encode(bytes: &[u8]) -> Stored {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Stored {
            text: Zeroizing::new(text.to_owned()),
            encoding: None,
        };
    }
    let line = to_base64(bytes);
    let mut text = Zeroizing::new(String::with_capacity(line.len() + line.len() / COLUMNS + 1));
    for start in (0..line.len()).step_by(COLUMNS) {
        text.push_str(&line[start..line.len().min(start + COLUMNS)]);
        text.push('\n');
    }
    Stored {
        text,
        encoding: Some("base64"),
    }
}

/// How long `bytes` will be as stored. A character cut off at the end counts as text, since the
/// next write may complete it.
pub fn stored_length(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_some() => {
            let line = bytes.len().div_ceil(3) * 4;
            line + line.div_ceil(COLUMNS)
        }
        _ => bytes.len(),
    }
}

/// The bytes that base64 stands for, white space ignored.
pub(super) fn from_base64(text: &SecretBytes) -> Option<SecretBytes> {
    let compact = without_white_space(text);
    STANDARD.decode(&compact).ok().map(SecretBytes::new)
}

/// Base64 in one line.
pub(super) fn to_base64(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(bytes))
}

fn without_white_space(stored: &SecretBytes) -> Zeroizing<Vec<u8>> {
    let bytes = stored.expose().iter().copied();
    Zeroizing::new(bytes.filter(|byte| !byte.is_ascii_whitespace()).collect())
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(nibble(*high)? * 16 + nibble(*low)?).ok();
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(stored: &str, encoding: &str) -> Option<Vec<u8>> {
        let stored = SecretBytes::new(stored.into());
        decode(stored, Some(encoding)).map(|bytes| bytes.expose().to_vec())
    }

    #[test]
    fn base64_and_hex_are_shown_decoded_and_other_tags_are_not() {
        assert_eq!(decoded("AP8=\n", "base64"), Some(vec![0, 255]));
        assert_eq!(decoded("00 fF\n", "hex"), Some(vec![0, 255]));
        assert_eq!(decoded("00", "utf-8"), Some(b"00".to_vec()));
        assert_eq!(decoded("00", "utf-16le"), Some(b"00".to_vec()));
    }

    #[test]
    fn what_is_not_as_its_tag_says_does_not_decode() {
        assert_eq!(decoded("not base64!", "base64"), None);
        assert_eq!(decoded("0g", "hex"), None);
        assert_eq!(decoded("000", "hex"), None);
    }

    #[test]
    fn base64_is_laid_out_as_az_does_it() {
        // Python: base64.encodebytes(b'\xff' * 58)
        let text = encode(&[0xff; 58]).text;
        assert_eq!(*text, format!("{}\n/w==\n", "/".repeat(76)));
    }

    #[test]
    fn a_character_cut_at_the_end_counts_as_text() {
        assert_eq!(stored_length("ä".as_bytes()), 2);
        assert_eq!(stored_length(&"ä".as_bytes()[..1]), 1);
        assert_eq!(stored_length(b"\xffa"), 5);
    }

    proptest! {
        #[test]
        fn every_byte_string_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let stored = encode(&bytes);
            prop_assert_eq!(stored.encoding.is_none(), std::str::from_utf8(&bytes).is_ok());
            let text = SecretBytes::new(stored.text.as_bytes().to_vec());
            let cut_off = std::str::from_utf8(&bytes).is_err_and(|error| error.error_len().is_none());
            prop_assert_eq!(stored_length(&bytes), if cut_off { bytes.len() } else { text.len() });
            let back = decode(text, stored.encoding).unwrap();
            prop_assert_eq!(back.expose(), &bytes[..]);
        }
    }
}
