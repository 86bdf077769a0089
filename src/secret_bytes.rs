//! The one type that holds a secret's bytes.
//!
//! It wipes itself when dropped and prints redacted. It is neither `Clone` nor serialisable, so
//! that every copy of a value is a call to [`SecretBytes::expose`], which is easy to search for.

#![forbid(unsafe_code)]

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// A secret's bytes, or any bytes as sensitive: a token, a staged write.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over `bytes`; their buffer is wiped when this is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves. The caller must not let them reach a log, an error or a metric.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

/// How far below its caller [`wipe_stack`] wipes.
const WIPED: usize = 256 << 10;

/// Wipes what calls that have returned left on this thread's stack: for after work that others'
/// code does with a secret in local variables.
#[inline(never)]
pub fn wipe_stack() {
    let mut left_behind = [0_u8; WIPED];
    left_behind.zeroize();
    std::hint::black_box(&mut left_behind);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_prints_redacted() {
        let secret = SecretBytes::new(b"canary".to_vec());
        assert_eq!(format!("{secret:?}"), "SecretBytes(redacted)");
    }
}
