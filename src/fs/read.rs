//! READ: bytes of a snapshot, or of a writer's own staging.

#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;

use nix::errno::Errno;

use super::handles::{Body, Fate};
use super::{LOST, SecretFs};
use crate::secret_bytes::SecretBytes;
use crate::secrets::SecretStore;

impl<S: SecretStore> SecretFs<S> {
    /// Reads up to `size` bytes at `offset` of an open file of inode `ino`; fewer only at the end.
    /// `page_cached` says that the kernel keeps the pages it gets, which then must be taken from
    /// it after the release.
    pub async fn read(
        &self,
        fh: u64,
        ino: u64,
        offset: u64,
        size: u32,
        page_cached: bool,
    ) -> Result<SecretBytes, Errno> {
        if self.fixed.contains(ino) {
            return self.read_fixed(fh, ino, offset, size).await;
        }
        let Some(handle) = self.handles.find(fh).await else {
            let scratch = self.scratches.opened(fh).ok_or(LOST)?;
            return Ok(scratch.read(offset, size, page_cached));
        };
        if page_cached {
            handle.page_cached.store(true, Ordering::Relaxed);
        }
        match &handle.body {
            Body::Reader(snapshot) => {
                let secret = self.snapshot(&handle.node, snapshot).await?;
                let bytes = secret
                    .as_ref()
                    .map_or(&[][..], |secret| secret.value.expose());
                Ok(piece(bytes, offset, size))
            }
            Body::Writer(writer) => {
                let mut state = writer.state.lock().await;
                if state.fate == Fate::Lost {
                    return Err(Errno::EIO);
                }
                self.load(&handle, writer, &mut state, self.deadline())
                    .await?;
                Ok(piece(state.staging.bytes(), offset, size))
            }
        }
    }
}

/// What there is of `size` bytes at `offset`.
pub(super) fn piece(bytes: &[u8], offset: u64, size: u32) -> SecretBytes {
    let start = usize::try_from(offset)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    let rest = &bytes[start..];
    SecretBytes::new(rest[..rest.len().min(size as usize)].to_vec())
}
