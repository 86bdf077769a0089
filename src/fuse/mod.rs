//! The kernel's requests: unpacked, handed to [`SecretFs`], answered.
//!
//! The only room besides `worker` that names fuser. Decides nothing about secrets. A request is
//! tried on the session's thread first; what has to wait for the vault goes on as a task, so
//! that the session's thread never waits. How answers look to the kernel is in `answer`.

#![forbid(unsafe_code)]

mod answer;
mod statx;

use std::convert::Infallible;
use std::ffi::OsStr;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileHandle, INodeNo, InitFlags, IoctlFlags, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use tokio::runtime::Handle;

use crate::fs::{Access, Change, Creation, SecretFs, WriteAt};
use crate::metrics::METRICS;
use crate::secret_bytes::SecretBytes;
use crate::secrets::SecretStore;

/// The longest WRITE. Secrets are shorter; fuser's buffer is touched no further than this.
const MAX_WRITE: u32 = 64 * 1024;

/// What a program is told.
type Outcome<T> = Result<T, nix::errno::Errno>;

/// The bridge between fuser and the filesystem.
pub(crate) struct Adapter<S> {
    fs: Arc<SecretFs<S>>,
    runtime: Handle,
    /// Inodes whose pages the kernel shall drop; written by a thread of its own, because a
    /// notification can wait for a reply that this thread owes.
    invalidations: Sender<u64>,
    sets: SetUnderWay,
}

/// Held while a request that may set a secret is under way. Nothing is ever sent: the receiver
/// hears of the last one's end, and that there will be no more.
pub(crate) type SetUnderWay = tokio::sync::mpsc::Sender<Infallible>;

impl<S: SecretStore> Adapter<S> {
    pub(crate) fn new(
        fs: Arc<SecretFs<S>>,
        runtime: Handle,
        invalidations: Sender<u64>,
        sets: SetUnderWay,
    ) -> Self {
        Self {
            fs,
            runtime,
            invalidations,
            sets,
        }
    }

    /// Answers a request that may set a secret.
    fn answer_set<F>(
        &self,
        operation_name: &'static str,
        operation: impl FnOnce(Arc<SecretFs<S>>) -> F,
        reply: ReplyEmpty,
    ) where
        F: Future<Output = Outcome<()>> + Send + 'static,
    {
        let under_way = self.sets.clone();
        self.answer(operation_name, operation, move |outcome| {
            answer::empty(reply, outcome);
            drop(under_way);
        });
    }

    /// Runs an operation and its reply: here if it need not wait, as a task if it does.
    fn answer<T, F>(
        &self,
        kind: &'static str,
        operation: impl FnOnce(Arc<SecretFs<S>>) -> F,
        reply: impl FnOnce(Outcome<T>) + Send + 'static,
    ) where
        F: Future<Output = Outcome<T>> + Send + 'static,
        T: Send,
    {
        let reply = move |outcome: Outcome<T>| {
            METRICS.operation(kind, outcome.as_ref().map(|_| ()).map_err(|errno| *errno));
            reply(outcome);
        };
        let _in_runtime = self.runtime.enter();
        let mut operation = Box::pin(operation(Arc::clone(&self.fs)));
        let mut context = Context::from_waker(Waker::noop());
        match operation.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => reply(outcome),
            Poll::Pending => {
                self.runtime.spawn(async move { reply(operation.await) });
            }
        }
    }
}

impl<S: SecretStore> fuser::Filesystem for Adapter<S> {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // All or nothing together, so one at a time. Without the first one hung LOOKUP freezes
        // the directory; without the second O_TRUNC cannot be told from truncate(2).
        for wanted in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
        ] {
            if let Err(missing) = config.add_capabilities(wanted) {
                tracing::warn!(?missing, "the kernel is too old for this");
            }
        }
        // A smaller one than the kernel's is always accepted.
        let _ = config.set_max_write(MAX_WRITE);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (tid, name) = (request.pid(), name.to_owned());
        self.answer(
            "lookup",
            move |fs| async move { fs.lookup(parent.0, &name, tid).await },
            move |outcome| answer::entry(reply, outcome),
        );
    }

    fn forget(&self, _request: &Request, ino: INodeNo, lookups: u64) {
        self.fs.forget(ino.0, lookups);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let tid = request.pid();
        self.answer(
            "getattr",
            move |fs| async move { fs.getattr(ino.0, fh.map(|fh| fh.0), tid).await },
            move |outcome| answer::attributes(reply, outcome),
        );
    }

    /// A STATX: the keeper dresses it so (`keeper::protocol`), since fuser does not know it. What
    /// READLINK is answered goes to the kernel as it is, and there are no symbolic links.
    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        let tid = request.pid();
        self.answer(
            "statx",
            move |fs| async move { fs.statx(ino.0, tid).await },
            move |outcome| answer::statx(reply, outcome),
        );
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let tid = request.pid();
        let change = Change {
            mode,
            uid,
            gid,
            size,
            modified: mtime.map(time),
        };
        self.answer(
            "setattr",
            move |fs| async move { fs.setattr(ino.0, fh.map(|fh| fh.0), change, tid).await },
            move |outcome| answer::attributes(reply, outcome),
        );
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (tid, access) = (request.pid(), access(flags));
        self.answer(
            "open",
            move |fs| async move { fs.open(ino.0, access, tid).await },
            move |outcome| answer::opened(reply, outcome),
        );
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (tid, name) = (request.pid(), name.to_owned());
        let how = Creation {
            uid: request.uid(),
            gid: request.gid(),
            mode,
            flags,
        };
        self.answer(
            "create",
            move |fs| async move { fs.create(parent.0, &name, tid, how).await },
            move |outcome| answer::created(reply, outcome),
        );
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // Only a read(2) has a lock owner; mmap and sendfile fill the page cache.
        let page_cached = lock_owner.is_none();
        self.answer(
            "read",
            move |fs| async move { fs.read(fh.0, ino.0, offset, size, page_cached).await },
            move |outcome| answer::data(reply, outcome),
        );
    }

    fn write(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = SecretBytes::new(data.to_vec());
        // The kernel's offset for O_APPEND is its own idea of the size.
        let at = if flags.0 & libc::O_APPEND == 0 {
            WriteAt::Offset(offset)
        } else {
            WriteAt::End
        };
        self.answer(
            "write",
            move |fs| async move { fs.write(fh.0, at, &data).await },
            move |outcome| answer::written(reply, outcome),
        );
    }

    fn flush(
        &self,
        request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let tid = request.pid();
        self.answer_set(
            "flush",
            move |fs| async move { fs.flush(fh.0, tid).await },
            reply,
        );
    }

    fn fsync(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.answer_set(
            "fsync",
            move |fs| async move { fs.fsync(fh.0).await },
            reply,
        );
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let invalidations = self.invalidations.clone();
        self.answer(
            "release",
            move |fs| async move { Ok(fs.release(fh.0).await) },
            move |released| {
                reply.ok();
                if let Ok(Some(ino)) = released.map(|released| released.page_cached) {
                    // Fails only when the mount is ending, and the pages with it.
                    let _ = invalidations.send(ino);
                }
            },
        );
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        // The mode alone would let root list the secrets. Opening the directory is left to the
        // mode, though: `perl -i` renames relative to it.
        answer::entries(reply, offset, self.fs.readdir(ino.0));
    }

    fn access(&self, _request: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // Reached only without default_permissions, with which every mount is made.
        reply.error(Errno::ENOSYS);
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        // No blocks, as in /proc; names are as long as the longest, `Name@<32 hex>`.
        reply.statfs(0, 0, 0, 0, 0, 4096, 160, 4096);
    }

    fn getxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        // An ACL is not missing, it cannot be. ENOSYS would switch all attributes off for good.
        if name.as_encoded_bytes().starts_with(b"system.posix_acl_") {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let Some(name) = name.to_str().map(str::to_owned) else {
            return reply.error(Errno::NO_XATTR);
        };
        let tid = request.pid();
        self.answer(
            "getxattr",
            move |fs| async move { fs.getxattr(ino.0, &name, tid).await },
            move |outcome| answer::xattr(reply, size, outcome),
        );
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let tid = request.pid();
        self.answer(
            "listxattr",
            move |fs| async move { fs.listxattr(ino.0, tid).await },
            move |outcome| answer::xattr(reply, size, outcome),
        );
    }

    fn setxattr(
        &self,
        _request: &Request,
        _ino: INodeNo,
        name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        // cp and install set an ACL, and fall back to chmod where there are none.
        let acl = name.as_encoded_bytes().starts_with(b"system.posix_acl_");
        reply.error(if acl { Errno::EOPNOTSUPP } else { Errno::EPERM });
    }

    fn removexattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        // What isatty(3) expects of a file.
        reply.error(Errno::ENOTTY);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer::empty(reply, self.fs.unlink(parent.0, name));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        // RENAME_NOREPLACE is the kernel's own business, exchanging two files would set both.
        if !(flags & !RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let (tid, name, newname) = (request.pid(), name.to_owned(), newname.to_owned());
        self.answer_set(
            "rename",
            move |fs| async move {
                fs.rename((parent.0, &name), (newparent.0, &newname), tid)
                    .await
            },
            reply,
        );
    }

    // The vault grants get and set, nothing else.

    fn rmdir(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn mkdir(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn mknod(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn symlink(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _link_name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn link(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _newparent: INodeNo,
        _newname: &OsStr,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn fallocate(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EOPNOTSUPP);
    }
}

fn time(wanted: TimeOrNow) -> SystemTime {
    match wanted {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

fn access(flags: OpenFlags) -> Access {
    let mode = flags.acc_mode();
    Access {
        read: mode != OpenAccMode::O_WRONLY,
        write: mode != OpenAccMode::O_RDONLY,
        truncate: flags.0 & libc::O_TRUNC != 0,
    }
}
