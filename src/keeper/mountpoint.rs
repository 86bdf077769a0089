//! The place in the file tree: whether it can be mounted on, and what /proc says is there.
//!
//! Read from /proc/self/mountinfo before the path itself is touched: a stat of a mount that hangs
//! would hang too.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{SFlag, stat};
use nix::sys::statvfs::statvfs;

use super::error::MountError;
use crate::sys::fuse_mount::{FILESYSTEM_TYPE, unmount};

/// A line of a mountinfo file; proc_pid_mountinfo(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    /// What fdinfo calls `mnt_id`.
    pub(super) id: u64,
    /// `major:minor` of the file system, the same in every mount namespace.
    pub(super) device: String,
    /// Where it is mounted.
    pub(super) path: PathBuf,
    /// Its type.
    pub(super) kind: String,
}

/// Makes sure that `path` is a directory with nothing mounted on it but, maybe, an automount
/// trigger. A mount of ours whose keeper died is cleared away.
pub(super) fn prepare(path: &Path) -> Result<(), MountError> {
    if let Some(mounted) = top(path)
        && mounted.kind != "autofs"
    {
        if mounted.kind != FILESYSTEM_TYPE || !is_dead(path) {
            return Err(MountError::AlreadyMounted {
                path: path.into(),
                kind: mounted.kind,
            });
        }
        unmount(path).map_err(|error| MountError::DeadMount {
            path: path.into(),
            reason: error.to_string(),
        })?;
        return prepare(path);
    }
    match stat(path) {
        Ok(found)
            if SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits())
                == SFlag::S_IFDIR =>
        {
            Ok(())
        }
        Ok(_) | Err(Errno::ENOTDIR) => Err(MountError::NotADirectory(path.into())),
        Err(Errno::ENOENT) => Err(MountError::MountpointMissing(path.into())),
        Err(error) => Err(MountError::MountpointUnreadable {
            path: path.into(),
            reason: error.desc().into(),
        }),
    }
}

/// What was mounted last on `path`, if anything is.
pub(super) fn top(path: &Path) -> Option<Mounted> {
    let mounts = mounts_of("self").ok()?;
    mounts.into_iter().rfind(|mounted| mounted.path == path)
}

/// The mounts that a process sees, in the order of its mountinfo.
pub(super) fn mounts_of(process: &str) -> io::Result<Vec<Mounted>> {
    let text = fs::read(format!("/proc/{process}/mountinfo"))?;
    Ok(text
        .split(|&byte| byte == b'\n')
        .filter_map(parse)
        .collect())
}

/// Whether nobody serves the mount of ours at `path`. Not by a stat, which the kernel may answer
/// from what it remembers of the directory.
fn is_dead(path: &Path) -> bool {
    let answer = statvfs(path).err();
    matches!(answer, Some(Errno::ENOTCONN | Errno::ECONNABORTED))
}

fn parse(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = text(fields.next()?)?.parse().ok()?;
    let device = text(fields.nth(1)?)?.to_owned();
    let path = unescape(fields.nth(1)?);
    // Optional fields end with a dash; behind it comes the type.
    fields.find(|&field| field == b"-")?;
    let kind = text(fields.next()?)?.to_owned();
    Some(Mounted {
        id,
        device,
        path,
        kind,
    })
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

/// The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, behind)) = rest.split_first() {
        let octal = (first == b'\\')
            .then(|| behind.get(..3).and_then(text))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(octal.unwrap_or(first));
        rest = if octal.is_some() {
            &behind[3..]
        } else {
            behind
        };
    }
    OsString::from_vec(path).into()
}

/// Whether a file system of this device is what a path leads to now.
pub(super) fn is_there(path: &Path, device: &str) -> bool {
    debug_assert!(path.as_os_str().as_bytes().starts_with(b"/"));
    top(path).is_some_and(|mounted| mounted.device == device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountinfo_line_is_read_past_its_optional_fields() {
        let line =
            b"36 35 0:98 / /mnt/my\\040vault rw,noatime shared:1 master:2 - fuse.keyvaultfs v rw";
        assert_eq!(
            parse(line),
            Some(Mounted {
                id: 36,
                device: "0:98".into(),
                path: "/mnt/my vault".into(),
                kind: "fuse.keyvaultfs".into(),
            })
        );
        let plain = b"36 35 98:0 / /mnt rw - ext4 /dev/root rw";
        assert_eq!(parse(plain).unwrap().kind, "ext4");
        assert_eq!(parse(b"36 35 98:0 / /mnt rw"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_mountpoint_must_be_a_free_directory() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(prepare(directory.path()), Ok(()));
        let missing = directory.path().join("missing");
        assert_eq!(
            prepare(&missing),
            Err(MountError::MountpointMissing(missing))
        );
        assert_eq!(prepare(&file), Err(MountError::NotADirectory(file.clone())));
        let below = file.join("below");
        assert_eq!(prepare(&below), Err(MountError::NotADirectory(below)));
        assert_eq!(
            prepare(Path::new("/proc")),
            Err(MountError::AlreadyMounted {
                path: "/proc".into(),
                kind: "proc".into()
            })
        );
    }
}
