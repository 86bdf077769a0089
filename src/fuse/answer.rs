//! Answers as the kernel wants them: attributes, how long it may remember them, errnos.

#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, ReplyXattr,
};

use super::{Outcome, statx};
use crate::fs::{Attributes, DirectoryEntry, Opened};
use crate::secret_bytes::SecretBytes;

/// What the kernel may remember of a file: nothing, since the vault may change it any time.
const FILE_TTL: Duration = Duration::ZERO;
/// But for how long what a LOOKUP has just told serves the open(2) and fstat(2) it is for: they
/// take microseconds, and two requests fewer.
const FRESH_TTL: Duration = Duration::from_millis(10);
/// What it may remember of a directory, which holds no secret and never changes.
const DIRECTORY_TTL: Duration = Duration::from_secs(3600);

pub(super) fn empty(reply: ReplyEmpty, outcome: Outcome<()>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(told(errno)),
    }
}

pub(super) fn entry(reply: ReplyEntry, outcome: Outcome<Attributes>) {
    match outcome {
        Ok(attributes) => {
            let lasting = ttl(&attributes);
            let fresh = if attributes.fresh { FRESH_TTL } else { lasting };
            reply.entry_with_ttls(&fresh, &lasting, &attr(&attributes), Generation(0));
        }
        Err(errno) => reply.error(told(errno)),
    }
}

pub(super) fn attributes(reply: ReplyAttr, outcome: Outcome<Attributes>) {
    match outcome {
        Ok(attributes) => reply.attr(&ttl(&attributes), &attr(&attributes)),
        Err(errno) => reply.error(told(errno)),
    }
}

pub(super) fn statx(reply: ReplyData, outcome: Outcome<Attributes>) {
    match outcome {
        Ok(attributes) => {
            let (ttl, attr) = (ttl(&attributes), attr(&attributes));
            reply.data(&statx::encode(ttl, &attr, attributes.created));
        }
        Err(errno) => reply.error(told(errno)),
    }
}

pub(super) fn opened(reply: ReplyOpen, outcome: Outcome<Opened>) {
    match outcome {
        Ok(opened) => reply.opened(FileHandle(opened.fh), open_flags(opened.writable)),
        Err(errno) => reply.error(told(errno)),
    }
}

pub(super) fn created(reply: ReplyCreate, outcome: Outcome<(Attributes, Opened)>) {
    match outcome {
        Ok((attributes, opened)) => reply.created(
            &FILE_TTL,
            &attr(&attributes),
            Generation(0),
            FileHandle(opened.fh),
            open_flags(opened.writable),
        ),
        Err(errno) => reply.error(told(errno)),
    }
}

pub(super) fn data(reply: ReplyData, outcome: Outcome<SecretBytes>) {
    match outcome {
        Ok(bytes) => reply.data(bytes.expose()),
        Err(errno) => reply.error(told(errno)),
    }
}

pub(super) fn written(reply: ReplyWrite, outcome: Outcome<u32>) {
    match outcome {
        Ok(written) => reply.written(written),
        Err(errno) => reply.error(told(errno)),
    }
}

pub(super) fn entries(
    mut reply: ReplyDirectory,
    offset: u64,
    outcome: Outcome<Vec<DirectoryEntry>>,
) {
    let entries = match outcome {
        Ok(entries) => entries,
        Err(errno) => return reply.error(told(errno)),
    };
    for (next, entry) in (1..)
        .zip(entries)
        .skip(offset.try_into().unwrap_or(usize::MAX))
    {
        let kind = kind(entry.directory);
        if reply.add(INodeNo(entry.ino), next, kind, entry.name) {
            break;
        }
    }
    reply.ok();
}

/// `size` is the room the caller has; with none it asks how much it would take.
pub(super) fn xattr(reply: ReplyXattr, size: u32, outcome: Outcome<Vec<u8>>) {
    match outcome {
        // Secrets' attributes are short: at most 15 tags of 1 KiB.
        Ok(bytes) if size == 0 => reply.size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
        Ok(bytes) if bytes.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(bytes) => reply.data(&bytes),
        Err(errno) => reply.error(told(errno)),
    }
}

/// The errno as fuser has it. Not by `From<io::Error>`, which would show a socket's errno.
fn told(errno: nix::errno::Errno) -> Errno {
    Errno::from_i32(errno as i32)
}

fn ttl(attributes: &Attributes) -> Duration {
    if attributes.directory {
        DIRECTORY_TTL
    } else {
        FILE_TTL
    }
}

fn kind(directory: bool) -> FileType {
    if directory {
        FileType::Directory
    } else {
        FileType::RegularFile
    }
}

/// Values do not stay in the kernel's page cache; a reader's close has nothing to report.
fn open_flags(writable: bool) -> FopenFlags {
    if writable {
        FopenFlags::FOPEN_DIRECT_IO
    } else {
        FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH
    }
}

fn attr(attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.ino),
        size: attributes.size,
        blocks: attributes.size.div_ceil(512),
        atime: attributes.modified,
        mtime: attributes.modified,
        ctime: attributes.modified,
        // For macOS alone; Linux asks by STATX.
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(attributes.directory),
        perm: attributes.mode,
        nlink: if attributes.directory { 2 } else { 1 },
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}
