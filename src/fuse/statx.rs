//! The reply to STATX, laid out here because fuser 0.18 does not know the request: as in the
//! kernel's `include/uapi/linux/fuse.h`, in the machine's own byte order.

#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType};

/// The length of `struct fuse_statx_out`. The kernel refuses a reply of any other.
const STATX_OUT: usize = 288;

/// The `struct fuse_statx_out` that says of a file what `attr` does, and when it was born if that
/// is known. The kernel may remember it for `ttl`.
pub(super) fn encode(ttl: Duration, attr: &FileAttr, born: Option<SystemTime>) -> Vec<u8> {
    let kind = match attr.kind {
        FileType::Directory => libc::S_IFDIR,
        _ => libc::S_IFREG,
    };
    let mode = kind | u32::from(attr.perm);
    let mask = libc::STATX_BASIC_STATS | born.map_or(0, |_| libc::STATX_BTIME);
    let born = born.unwrap_or(SystemTime::UNIX_EPOCH);

    let mut out = Vec::with_capacity(STATX_OUT);
    let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
    put(&ttl.as_secs().to_ne_bytes());
    put(&ttl.subsec_nanos().to_ne_bytes());
    put(&[0; 4 + 16]); // flags, spare
    put(&mask.to_ne_bytes());
    put(&attr.blksize.to_ne_bytes());
    put(&[0; 8]); // attributes
    put(&attr.nlink.to_ne_bytes());
    put(&attr.uid.to_ne_bytes());
    put(&attr.gid.to_ne_bytes());
    put(&(mode as u16).to_ne_bytes()); // types and permissions have no more bits
    put(&[0; 2]); // spare
    put(&attr.ino.0.to_ne_bytes());
    put(&attr.size.to_ne_bytes());
    put(&attr.blocks.to_ne_bytes());
    put(&[0; 8]); // which attributes are known
    for time in [attr.atime, born, attr.ctime, attr.mtime] {
        // No file here is older than 1970.
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        put(&since.as_secs().to_ne_bytes());
        put(&since.subsec_nanos().to_ne_bytes());
        put(&[0; 4]);
    }
    out.resize(STATX_OUT, 0); // device numbers, spare
    out
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use fuser::INodeNo;

    use super::*;

    /// Where `struct fuse_statx`, which has the layout of `struct statx`, begins.
    const STATX: usize = STATX_OUT - size_of::<libc::statx>();

    fn at<const N: usize>(out: &[u8], offset: usize) -> [u8; N] {
        out[offset..offset + N].try_into().unwrap()
    }

    fn u32_at(out: &[u8], offset: usize) -> u32 {
        u32::from_ne_bytes(at(out, STATX + offset))
    }

    fn u64_at(out: &[u8], offset: usize) -> u64 {
        u64::from_ne_bytes(at(out, STATX + offset))
    }

    fn at_time(seconds: u64, nanos: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    fn file() -> FileAttr {
        FileAttr {
            ino: INodeNo(77),
            size: 1_000,
            blocks: 2,
            atime: at_time(2_000, 7),
            mtime: at_time(3_000, 8),
            ctime: at_time(4_000, 9),
            crtime: SystemTime::UNIX_EPOCH,
            kind: FileType::RegularFile,
            perm: 0o640,
            nlink: 1,
            uid: 3,
            gid: 4,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    #[test]
    fn each_field_is_where_struct_statx_has_it() {
        let out = encode(Duration::ZERO, &file(), Some(at_time(1_000, 999_999_999)));
        assert_eq!((out.len(), STATX), (STATX_OUT, 32));
        assert_eq!(out[..STATX], [0; 32], "it is not to be remembered");
        let shown = [
            u32_at(&out, offset_of!(libc::statx, stx_mask)),
            u32_at(&out, offset_of!(libc::statx, stx_blksize)),
            u32_at(&out, offset_of!(libc::statx, stx_nlink)),
            u32_at(&out, offset_of!(libc::statx, stx_uid)),
            u32_at(&out, offset_of!(libc::statx, stx_gid)),
        ];
        let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
        assert_eq!(shown, [mask, 4096, 1, 3, 4]);
        let mode = u16::from_ne_bytes(at(&out, STATX + offset_of!(libc::statx, stx_mode)));
        assert_eq!(mode, 0o100_640);
        let shown = [
            u64_at(&out, offset_of!(libc::statx, stx_ino)),
            u64_at(&out, offset_of!(libc::statx, stx_size)),
            u64_at(&out, offset_of!(libc::statx, stx_blocks)),
        ];
        assert_eq!(shown, [77, 1_000, 2]);
        for (time, shown) in [
            (offset_of!(libc::statx, stx_atime), (2_000, 7)),
            (offset_of!(libc::statx, stx_btime), (1_000, 999_999_999)),
            (offset_of!(libc::statx, stx_ctime), (4_000, 9)),
            (offset_of!(libc::statx, stx_mtime), (3_000, 8)),
        ] {
            let nanos = time + offset_of!(libc::statx_timestamp, tv_nsec);
            assert_eq!((u64_at(&out, time), u32_at(&out, nanos)), shown);
        }
    }

    #[test]
    fn what_has_no_birth_time_does_not_claim_one() {
        let out = encode(Duration::ZERO, &file(), None);
        assert_eq!(u32_at(&out, 0), libc::STATX_BASIC_STATS);
        assert_eq!(u64_at(&out, offset_of!(libc::statx, stx_btime)), 0);
    }

    #[test]
    fn a_directory_is_one_and_may_be_remembered() {
        let directory = FileAttr {
            kind: FileType::Directory,
            ..file()
        };
        let out = encode(Duration::new(3600, 5), &directory, None);
        assert_eq!(u64::from_ne_bytes(at(&out, 0)), 3600);
        assert_eq!(u32::from_ne_bytes(at(&out, 8)), 5);
        let mode = u16::from_ne_bytes(at(&out, STATX + offset_of!(libc::statx, stx_mode)));
        assert_eq!(mode, 0o040_640);
    }
}
