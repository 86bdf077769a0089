//! The bytes of a file being written, until they are set: pure, no request and no lock.

#![forbid(unsafe_code)]

use nix::errno::Errno;
use zeroize::Zeroizing;

use crate::secret_bytes::SecretBytes;
use crate::secrets::{STORED_LIMIT, stored_length};

/// Where a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteAt {
    /// At this offset; a gap before it is filled with zeros.
    Offset(u64),
    /// At the end, whatever the offset.
    End,
}

/// A handle's bytes, and whether some of them wait to be set.
///
/// "Nothing written sets nothing": emptying the file by itself is no change that waits, so that
/// a pipeline that fails before its first byte does not wipe the secret.
#[derive(Default)]
pub(super) struct Staging {
    bytes: Zeroizing<Vec<u8>>,
    changed: bool,
}

impl Staging {
    /// Starts from a secret's current bytes.
    pub(super) fn from_current(bytes: &[u8]) -> Self {
        // The capacity is there from the start: growing would leave pieces to the allocator.
        let mut staged = Zeroizing::new(Vec::with_capacity(STORED_LIMIT.max(bytes.len())));
        staged.extend_from_slice(bytes);
        Self {
            bytes: staged,
            changed: false,
        }
    }

    /// The bytes as a reader of the handle sees them.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether bytes written wait to be set.
    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }

    /// Writes; EFBIG if the vault could not store the result, which then is as it was.
    pub(super) fn write(&mut self, at: WriteAt, data: &[u8]) -> Result<(), Errno> {
        let start = match at {
            WriteAt::Offset(offset) => usize::try_from(offset).map_err(|_| Errno::EFBIG)?,
            WriteAt::End => self.bytes.len(),
        };
        let end = start.checked_add(data.len()).ok_or(Errno::EFBIG)?;
        if end > STORED_LIMIT.max(self.bytes.len()) {
            return Err(Errno::EFBIG);
        }
        let mut next = Self::from_current(&self.bytes).bytes;
        if next.len() < end {
            next.resize(end, 0);
        }
        next[start..end].copy_from_slice(data);
        self.replace(next)
    }

    /// Sets the length, filling with zeros; EFBIG as for a write.
    pub(super) fn resize(&mut self, length: u64) -> Result<(), Errno> {
        if length == self.bytes.len() as u64 {
            return Ok(());
        }
        if length == 0 {
            self.bytes = Zeroizing::default();
            self.changed = false;
            return Ok(());
        }
        let length = usize::try_from(length).map_err(|_| Errno::EFBIG)?;
        if length > STORED_LIMIT.max(self.bytes.len()) {
            return Err(Errno::EFBIG);
        }
        let mut next = Self::from_current(&self.bytes).bytes;
        next.resize(length, 0);
        self.replace(next)
    }

    /// A copy of the bytes to be set; see [`to_set`].
    pub(super) fn to_set(&self, trim_newline: bool) -> SecretBytes {
        to_set(&self.bytes, trim_newline)
    }

    /// The bytes have been set.
    pub(super) fn set_done(&mut self) {
        self.changed = false;
    }

    fn replace(&mut self, next: Zeroizing<Vec<u8>>) -> Result<(), Errno> {
        if stored_length(&next) > STORED_LIMIT {
            return Err(Errno::EFBIG);
        }
        self.bytes = next;
        self.changed = true;
        Ok(())
    }
}

/// A copy of `bytes`, less one trailing newline if `trim_newline`.
pub(super) fn to_set(bytes: &[u8], trim_newline: bool) -> SecretBytes {
    let trimmed = bytes.strip_suffix(b"\n").filter(|_| trim_newline);
    SecretBytes::new(trimmed.unwrap_or(bytes).to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn writes_go_to_their_offset_or_to_the_end() {
        let mut staging = Staging::from_current(b"abc");
        assert!(!staging.is_changed());
        staging.write(WriteAt::Offset(1), b"X").unwrap();
        staging.write(WriteAt::End, b"d").unwrap();
        staging.write(WriteAt::Offset(6), b"e").unwrap();
        assert_eq!(staging.bytes(), b"aXcd\0\0e");
        assert!(staging.is_changed());
    }

    #[test]
    fn emptying_alone_is_no_change_and_takes_back_what_waited() {
        let mut staging = Staging::from_current(b"abc");
        staging.resize(0).unwrap();
        assert!(!staging.is_changed());
        staging.write(WriteAt::End, b"x").unwrap();
        staging.resize(0).unwrap();
        assert!(!staging.is_changed());
        staging.resize(2).unwrap();
        assert!(staging.is_changed());
    }

    #[test]
    fn what_the_vault_cannot_store_is_refused_and_changes_nothing() {
        let mut staging = Staging::default();
        staging.write(WriteAt::End, &[b'x'; STORED_LIMIT]).unwrap();
        assert_eq!(staging.write(WriteAt::End, b"y"), Err(Errno::EFBIG));
        // One byte that is no text makes the whole need base64.
        assert_eq!(
            staging.write(WriteAt::Offset(0), b"\xff"),
            Err(Errno::EFBIG)
        );
        assert_eq!(
            staging.write(WriteAt::Offset(u64::MAX), b"y"),
            Err(Errno::EFBIG)
        );
        assert_eq!(staging.resize(u64::MAX), Err(Errno::EFBIG));
        assert_eq!(staging.bytes(), &[b'x'; STORED_LIMIT][..]);
    }

    #[test]
    fn one_trailing_newline_is_trimmed_on_demand() {
        let staging = Staging::from_current(b"a\n\n");
        assert_eq!(staging.to_set(false).expose(), b"a\n\n");
        assert_eq!(staging.to_set(true).expose(), b"a\n");
    }

    proptest! {
        #[test]
        fn staging_agrees_with_a_plain_file(
            writes in proptest::collection::vec((0u64..300, proptest::collection::vec(any::<u8>(), 0..50)), 0..20)
        ) {
            let (mut staging, mut file) = (Staging::default(), Vec::new());
            for (offset, data) in writes {
                staging.write(WriteAt::Offset(offset), &data).unwrap();
                let (start, end) = (offset as usize, offset as usize + data.len());
                if file.len() < end { file.resize(end, 0); }
                file[start..end].copy_from_slice(&data);
            }
            prop_assert_eq!(staging.bytes(), &file[..]);
        }
    }
}
