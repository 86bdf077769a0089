//! The few fields of FUSE messages that a relay needs, read and written byte by byte.
//!
//! Numbers and layouts are those of the kernel's `include/uapi/linux/fuse.h`, in the machine's
//! own byte order. What the operations mean is the worker's affair.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The length of the header of a request.
pub(super) const IN_HEADER: usize = 40;
/// The length of the header of a reply.
pub(super) const OUT_HEADER: usize = 16;

/// Uniques from here on, to the next bit, are the keeper's own requests. The kernel counts from
/// two, and marks a request it sends again with the highest bit.
const OWN_UNIQUES: Range<u64> = 1 << 62..1 << 63;

const FATTR_FH: u32 = 1 << 6;
const GETATTR_FH: u32 = 1 << 0;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opcode(u32);

impl Opcode {
    pub(super) const LOOKUP: Self = Self(1);
    pub(super) const FORGET: Self = Self(2);
    pub(super) const GETATTR: Self = Self(3);
    pub(super) const SETATTR: Self = Self(4);
    const READLINK: Self = Self(5);
    pub(super) const SYMLINK: Self = Self(6);
    pub(super) const MKNOD: Self = Self(8);
    pub(super) const MKDIR: Self = Self(9);
    pub(super) const RENAME: Self = Self(12);
    pub(super) const LINK: Self = Self(13);
    pub(super) const OPEN: Self = Self(14);
    pub(super) const READ: Self = Self(15);
    pub(super) const WRITE: Self = Self(16);
    pub(super) const STATFS: Self = Self(17);
    pub(super) const RELEASE: Self = Self(18);
    pub(super) const FSYNC: Self = Self(20);
    pub(super) const SETXATTR: Self = Self(21);
    pub(super) const FLUSH: Self = Self(25);
    pub(super) const INIT: Self = Self(26);
    pub(super) const OPENDIR: Self = Self(27);
    pub(super) const READDIR: Self = Self(28);
    pub(super) const RELEASEDIR: Self = Self(29);
    pub(super) const FSYNCDIR: Self = Self(30);
    pub(super) const CREATE: Self = Self(35);
    pub(super) const INTERRUPT: Self = Self(36);
    pub(super) const DESTROY: Self = Self(38);
    pub(super) const BATCH_FORGET: Self = Self(42);
    pub(super) const FALLOCATE: Self = Self(43);
    pub(super) const READDIRPLUS: Self = Self(44);
    pub(super) const RENAME2: Self = Self(45);
    pub(super) const LSEEK: Self = Self(46);
    pub(super) const COPY_FILE_RANGE: Self = Self(47);
    const STATX: Self = Self(52);

    /// Whether the kernel waits for no reply.
    pub(super) fn is_unanswered(self) -> bool {
        matches!(self, Self::FORGET | Self::BATCH_FORGET)
    }

    /// Whether a worker may be asked again what its predecessor may have done. Not where a second
    /// time would fail or do more than the first.
    pub(super) fn is_repeatable(self) -> bool {
        !matches!(
            self,
            Self::RENAME | Self::RENAME2 | Self::FALLOCATE | Self::COPY_FILE_RANGE
        )
    }

    /// Whether requests of this kind carry what a user wrote.
    pub(super) fn carries_payload(self) -> bool {
        matches!(self, Self::WRITE | Self::SETXATTR)
    }
}

/// The header of a request from the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct InHeader {
    pub(super) opcode: Opcode,
    /// The number its reply must carry.
    pub(super) unique: u64,
    pub(super) nodeid: u64,
    /// The thread that waits for the reply; zero where it cannot be seen or none waits.
    pub(super) pid: u32,
}

impl InHeader {
    /// Reads the header; `None` if the message is cut.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        if message.len() < IN_HEADER || u32_at(message, 0)? as usize != message.len() {
            return None;
        }
        Some(Self {
            opcode: Opcode(u32_at(message, 4)?),
            unique: u64_at(message, 8)?,
            nodeid: u64_at(message, 16)?,
            pid: u32_at(message, 32)?,
        })
    }
}

/// The header of a reply to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutHeader {
    /// Zero, or an errno negated; in a notification its code.
    pub(super) error: i32,
    /// The request's number; zero in a notification.
    pub(super) unique: u64,
}

impl OutHeader {
    /// Reads the header; `None` if the message is cut.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        Some(Self {
            error: u32_at(message, 4)?.cast_signed(),
            unique: u64_at(message, 8)?,
        })
    }
}

/// The file handle that a request names, if it is of a kind that names one.
pub(super) fn handle_of(opcode: Opcode, message: &[u8]) -> Option<u64> {
    match opcode {
        Opcode::READ
        | Opcode::WRITE
        | Opcode::RELEASE
        | Opcode::FSYNC
        | Opcode::FLUSH
        | Opcode::READDIR
        | Opcode::RELEASEDIR
        | Opcode::FSYNCDIR
        | Opcode::FALLOCATE
        | Opcode::READDIRPLUS
        | Opcode::LSEEK
        | Opcode::COPY_FILE_RANGE => u64_at(message, IN_HEADER),
        Opcode::GETATTR if u32_at(message, IN_HEADER)? & GETATTR_FH != 0 => {
            u64_at(message, IN_HEADER + 8)
        }
        Opcode::SETATTR if u32_at(message, IN_HEADER)? & FATTR_FH != 0 => {
            u64_at(message, IN_HEADER + 8)
        }
        _ => None,
    }
}

/// The number of the request that an INTERRUPT is about.
pub(super) fn interrupted_by(message: &[u8]) -> Option<u64> {
    u64_at(message, IN_HEADER)
}

/// The inode that a reply to LOOKUP is about, if it found one.
pub(super) fn found_by(reply: &[u8]) -> Option<u64> {
    let found = OutHeader::parse(reply)?.error == 0;
    u64_at(reply, OUT_HEADER).filter(|&nodeid| found && nodeid != 0)
}

/// Makes a request that fuser does not know one that it does, for the worker to recognise.
///
/// That is STATX, which Linux sends since 6.6 for a statx(2) that wants a birth time, and never
/// again once it was answered ENOSYS, as fuser would. It becomes a READLINK, which the kernel has
/// no reason to send (there are no symbolic links) and whose reply is whatever bytes the worker
/// gives. A worker that knows nothing of this answers ENOSYS, too. Nothing is lost: behind the
/// header the kernel always asks for all there is, and names no open file.
pub(super) fn dress_for_fuser(message: &mut [u8]) {
    if u32_at(message, 4) == Some(Opcode::STATX.0) {
        message[4..8].copy_from_slice(&Opcode::READLINK.0.to_ne_bytes());
    }
}

/// What an INIT reply settles between kernel and worker, comparable between workers.
pub(super) fn negotiated(init_reply: &[u8]) -> Option<&[u8]> {
    // Everything behind the header but `unused` and `reserved`, which both sides leave zero.
    init_reply.get(OUT_HEADER..)
}

/// A reply that says only that the request failed with this errno, or, with zero, that it is done.
pub(super) fn error_reply(unique: u64, errno: i32) -> [u8; OUT_HEADER] {
    let mut reply = [0; OUT_HEADER];
    reply[..4].copy_from_slice(&16u32.to_ne_bytes());
    reply[4..8].copy_from_slice(&(-errno).to_ne_bytes());
    reply[8..].copy_from_slice(&unique.to_ne_bytes());
    reply
}

/// Whether a reply with this number is to a request of the keeper's own.
pub(super) fn is_own(unique: u64) -> bool {
    OWN_UNIQUES.contains(&unique)
}

/// A request of the keeper's own: harmless, and answered by every filesystem.
pub(super) fn probe(sequence: u64) -> Vec<u8> {
    own_request(Opcode::STATFS, sequence, 1, &[])
}

/// Tells a worker that the mount is gone: to finish and end.
pub(super) fn destroy(sequence: u64) -> Vec<u8> {
    own_request(Opcode::DESTROY, sequence, 0, &[])
}

/// The requests that undo what `reply` created, when it answers a request the kernel has been
/// told has failed: without them handle and inode would never be given back.
pub(super) fn undo(opcode: Opcode, nodeid: u64, reply: &[u8], sequence: u64) -> Vec<Vec<u8>> {
    const ENTRY_OUT: usize = 128;
    let failed = OutHeader::parse(reply).is_none_or(|header| header.error != 0);
    let Some(body) = reply.get(OUT_HEADER..).filter(|_| !failed) else {
        return Vec::new();
    };
    let release = |kind, nodeid: u64, open_out: &[u8]| {
        let mut release_in = [0; 24];
        release_in[..8].copy_from_slice(open_out.get(..8)?);
        Some(own_request(kind, sequence, nodeid, &release_in))
    };
    let forget = || {
        let child = u64_at(body, 0).filter(|&child| child != 0)?;
        let request = own_request(Opcode::FORGET, sequence + 1, child, &1u64.to_ne_bytes());
        Some((child, request))
    };
    let mut requests = Vec::new();
    match opcode {
        Opcode::OPEN => requests.extend(release(Opcode::RELEASE, nodeid, body)),
        Opcode::OPENDIR => requests.extend(release(Opcode::RELEASEDIR, nodeid, body)),
        Opcode::CREATE => {
            if let Some((child, forget)) = forget() {
                let opened = body.get(ENTRY_OUT..).unwrap_or_default();
                requests.extend(release(Opcode::RELEASE, child, opened));
                requests.push(forget);
            }
        }
        Opcode::LOOKUP | Opcode::MKNOD | Opcode::MKDIR | Opcode::SYMLINK | Opcode::LINK => {
            requests.extend(forget().map(|(_, request)| request));
        }
        _ => {}
    }
    requests
}

fn own_request(opcode: Opcode, sequence: u64, nodeid: u64, body: &[u8]) -> Vec<u8> {
    let length = IN_HEADER + body.len();
    let unique = OWN_UNIQUES.start | (sequence & (OWN_UNIQUES.start - 1));
    let mut message = Vec::with_capacity(length);
    message.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend_from_slice(&opcode.0.to_ne_bytes());
    message.extend_from_slice(&unique.to_ne_bytes());
    message.extend_from_slice(&nodeid.to_ne_bytes());
    message.resize(IN_HEADER, 0);
    message.extend_from_slice(body);
    message
}

fn u32_at(message: &[u8], offset: usize) -> Option<u32> {
    let bytes = message.get(offset..offset + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn u64_at(message: &[u8], offset: usize) -> Option<u64> {
    let bytes = message.get(offset..offset + 8)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(error: i32, body: &[u8]) -> Vec<u8> {
        let mut reply = error_reply(8, -error).to_vec();
        reply.extend_from_slice(body);
        reply
    }

    #[test]
    fn a_cut_request_is_no_request() {
        let whole = own_request(Opcode::LOOKUP, 1, 1, b"name\0");
        assert!(InHeader::parse(&whole).is_some());
        assert!(InHeader::parse(&whole[..whole.len() - 1]).is_none());
        assert!(InHeader::parse(&whole[..IN_HEADER - 1]).is_none());
    }

    #[test]
    fn a_statx_goes_to_the_worker_as_what_fuser_knows() {
        let sent = own_request(Opcode::STATX, 1, 9, &[7; 24]);
        let mut passed_on = sent.clone();
        dress_for_fuser(&mut passed_on);
        let header = InHeader::parse(&passed_on).unwrap();
        assert_eq!((header.opcode, header.nodeid), (Opcode::READLINK, 9));
        assert_eq!(passed_on[8..], sent[8..]);
        let mut other = own_request(Opcode::GETATTR, 1, 9, &[7; 16]);
        let unchanged = other.clone();
        dress_for_fuser(&mut other);
        assert_eq!(other, unchanged);
    }

    #[test]
    fn an_abandoned_open_is_released() {
        let mut open_out = 0x0001_0000_0000_0007u64.to_ne_bytes().to_vec();
        open_out.extend_from_slice(&[0; 8]);
        let [release] = &undo(Opcode::OPEN, 42, &reply(0, &open_out), 3)[..] else {
            panic!("one request");
        };
        let header = InHeader::parse(release).unwrap();
        assert_eq!((header.opcode, header.nodeid), (Opcode::RELEASE, 42));
        assert!(is_own(header.unique));
        assert_eq!(
            handle_of(header.opcode, release),
            Some(0x0001_0000_0000_0007)
        );
    }

    #[test]
    fn an_abandoned_create_is_released_and_forgotten() {
        let mut body = vec![0; 128 + 16];
        body[..8].copy_from_slice(&77u64.to_ne_bytes());
        body[128..136].copy_from_slice(&5u64.to_ne_bytes());
        let requests = undo(Opcode::CREATE, 1, &reply(0, &body), 10);
        let headers: Vec<_> = requests
            .iter()
            .map(|request| InHeader::parse(request).unwrap())
            .map(|header| (header.opcode, header.nodeid))
            .collect();
        assert_eq!(headers, [(Opcode::RELEASE, 77), (Opcode::FORGET, 77)]);
    }

    #[test]
    fn what_failed_or_was_not_found_needs_no_undoing() {
        assert!(undo(Opcode::OPEN, 1, &reply(-2, &[]), 0).is_empty());
        assert!(undo(Opcode::LOOKUP, 1, &reply(0, &[0; 128]), 0).is_empty());
        assert!(undo(Opcode::READ, 1, &reply(0, b"value"), 0).is_empty());
        assert!(undo(Opcode::OPEN, 1, &reply(0, &[]), 0).is_empty());
    }

    #[test]
    fn handles_are_found_where_a_request_names_one() {
        let mut body = [0u8; 24];
        body[8..16].copy_from_slice(&9u64.to_ne_bytes());
        let stat_by_path = own_request(Opcode::GETATTR, 1, 1, &body);
        assert_eq!(handle_of(Opcode::GETATTR, &stat_by_path), None);
        body[0] = 1;
        let fstat = own_request(Opcode::GETATTR, 1, 1, &body);
        assert_eq!(handle_of(Opcode::GETATTR, &fstat), Some(9));
        let read = own_request(Opcode::READ, 1, 1, &9u64.to_ne_bytes());
        assert_eq!(handle_of(Opcode::READ, &read), Some(9));
        assert_eq!(handle_of(Opcode::READ, &read[..IN_HEADER]), None);
        assert_eq!(handle_of(Opcode::LOOKUP, &read), None);
    }
}
