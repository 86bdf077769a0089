//! A program with the keeper of keyvaultfs and a worker that misbehaves on demand.
//!
//! `fixture mount DIR [MILLISECONDS]` mounts in the background, `fixture foreground DIR` does not
//! return; `fixture direct DIR` serves the same files with fuser on /dev/fuse, without a keeper.
//! What a file does when it is opened is said by its name; see [`Behaviour`].

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, Session, SessionACL, WriteFlags,
};
use keyvaultfs::cli;
use keyvaultfs::config::Config;
use keyvaultfs::keeper;
use keyvaultfs::link::{self, Link, News, NoteKey};
use keyvaultfs::log;
use keyvaultfs::sys::fuse_mount::FuseMount;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[1..] {
        ["@keeper", ..] => keeper::exec_keeper(),
        ["@worker", ..] => work(),
        ["mount", directory] => mount(directory, "10000", false),
        ["mount", directory, timeout] => mount(directory, timeout, false),
        ["foreground", directory] => mount(directory, "10000", true),
        ["direct", directory] => direct(directory),
        _ => ExitCode::from(2),
    }
}

fn mount(directory: &str, timeout: &str, foreground: bool) -> ExitCode {
    let config = config(directory, timeout);
    if foreground {
        log::start(config.log, log::Destination::Stderr);
    }
    match keeper::mount(config, foreground) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// As the command line makes it, which needs a vault's name.
fn config(directory: &str, timeout: &str) -> Config {
    let mut words = vec![
        "keyvaultfs".into(),
        "--identity=imds".into(),
        format!("--timeout={timeout}ms"),
        "--uid=0".into(),
        "--gid=0".into(),
        "--file-mode=0666".into(),
        "--dir-mode=0333".into(),
        "--log-level=debug".into(),
        "fixture".into(),
        directory.to_owned(),
    ];
    if nix::unistd::geteuid().is_root() {
        words.push("--allow-other".into());
    }
    let words: Vec<_> = words.into_iter().map(OsString::from).collect();
    cli::config(&words).expect("the arguments of a mount")
}

fn work() -> ExitCode {
    let Ok((handover, messages, link)) = link::receive() else {
        return ExitCode::FAILURE;
    };
    if handover.config.mountpoint.ends_with("fails") {
        link::fail("the fixture was told to fail");
        return ExitCode::FAILURE;
    }
    if handover.config.mountpoint.ends_with("tarries") {
        loop {
            thread::park();
        }
    }
    if handover.config.mountpoint.ends_with("dies") {
        return ExitCode::FAILURE;
    }
    if handover.generation > 1 && handover.config.mountpoint.ends_with("hopeless") {
        return ExitCode::FAILURE;
    }
    let mut fs = Fixture::new(handover.generation, link);
    for (key, record) in handover.notes {
        match key {
            NoteKey::Inode(ino) => {
                let name = String::from_utf8(record).expect("a name");
                fs.inodes.lock().expect("no panic").insert(ino, name);
            }
            NoteKey::Handle(_) => fs.inherited += 1,
            NoteKey::Staged(_) | NoteKey::Temporary(_) => {}
        }
    }
    // As one that still sets a secret does, it keeps its socket.
    let lingers = handover.config.mountpoint.ends_with("lingers");
    let socket = messages.try_clone();
    let (inodes, mut news) = (Arc::clone(&fs.inodes), fs.link.notes());
    thread::spawn(move || {
        while let Some(news) = news.blocking_recv() {
            if let News::Adopted(NoteKey::Inode(ino), record) = news {
                let name = String::from_utf8(record).expect("a name");
                inodes.lock().expect("no panic").insert(ino, name);
            }
        }
    });
    let session = Session::from_fd(fs, messages, SessionACL::All, fuser::Config::default());
    match session.and_then(Session::run) {
        Ok(()) if lingers => loop {
            let _kept = &socket;
            thread::park();
        },
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn direct(directory: &str) -> ExitCode {
    let mount = FuseMount {
        source: "direct",
        mountpoint: directory.as_ref(),
        allow_other: true,
        read_only: false,
        security_contexts: &[],
    };
    let device = mount.mount().expect("a mount");
    let fs = Fixture::new(0, Link::detached());
    let session = Session::from_fd(fs, device, SessionACL::All, fuser::Config::default());
    session.and_then(Session::run).expect("a session");
    ExitCode::SUCCESS
}

/// What the name of a file makes it do.
enum Behaviour {
    /// `value…`: holds its name, 64 bytes long.
    Plain,
    /// `worker…`: holds the worker's process id and generation.
    Worker,
    /// `open-MILLISECONDS…`: opening it takes so long.
    SlowOpen(u64),
    /// `lookup-MILLISECONDS…`: looking it up takes so long.
    SlowLookup(u64),
    /// `hung…`: looking it up takes 900 milliseconds, and opening it for ever.
    Hung,
    /// `crash…`: opening it kills the worker.
    Crash,
    /// `block…`: opening it stops the thread that reads requests.
    Block,
    /// `opened…`: holds how many handles are open, its own included.
    Opened,
    /// `kept…`: its handle is never done with being released.
    Kept,
    /// `inherited…`: holds how many handles of others its worker was told of when it began.
    Inherited,
    /// `forgotten…`: holds how many inodes the kernel has forgotten.
    Forgotten,
}

impl Behaviour {
    fn of(name: &str) -> Option<Self> {
        let milliseconds = |rest: &str| rest.split('-').next()?.parse().ok();
        if let Some(rest) = name.strip_prefix("open-") {
            return milliseconds(rest).map(Self::SlowOpen);
        }
        if let Some(rest) = name.strip_prefix("lookup-") {
            return milliseconds(rest).map(Self::SlowLookup);
        }
        match name {
            _ if name.starts_with("value") => Some(Self::Plain),
            _ if name.starts_with("worker") => Some(Self::Worker),
            _ if name.starts_with("hung") => Some(Self::Hung),
            _ if name.starts_with("crash") => Some(Self::Crash),
            _ if name.starts_with("block") => Some(Self::Block),
            _ if name.starts_with("opened") => Some(Self::Opened),
            _ if name.starts_with("kept") => Some(Self::Kept),
            _ if name.starts_with("inherited") => Some(Self::Inherited),
            _ if name.starts_with("forgotten") => Some(Self::Forgotten),
            _ => None,
        }
    }
}

struct Fixture {
    generation: u32,
    link: Link,
    inodes: Arc<Mutex<HashMap<u64, String>>>,
    next: AtomicU64,
    open: Arc<AtomicU64>,
    inherited: u64,
    forgotten: AtomicU64,
}

impl Fixture {
    fn new(generation: u32, link: Link) -> Self {
        Self {
            generation,
            link,
            inodes: Arc::default(),
            next: AtomicU64::new(u64::from(generation) << 32),
            open: Arc::default(),
            inherited: 0,
            forgotten: AtomicU64::new(0),
        }
    }

    fn name(&self, ino: INodeNo) -> Option<String> {
        self.inodes.lock().expect("no panic").get(&ino.0).cloned()
    }

    fn content(&self, name: &str) -> Vec<u8> {
        let text = match Behaviour::of(name) {
            Some(Behaviour::Worker) => format!("{} {}", std::process::id(), self.generation),
            Some(Behaviour::Opened) => self.open.load(Ordering::SeqCst).to_string(),
            Some(Behaviour::Inherited) => self.inherited.to_string(),
            Some(Behaviour::Forgotten) => self.forgotten.load(Ordering::SeqCst).to_string(),
            _ => format!("{name:.<64}"),
        };
        text.into_bytes()
    }
}

impl Filesystem for Fixture {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        let _ = config.set_max_write(64 * 1024);
        Ok(())
    }

    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_string_lossy().into_owned();
        let Some(behaviour) = Behaviour::of(&name) else {
            return reply.error(Errno::ENOENT);
        };
        let ino = ino(&name);
        let attr = file(ino, 64);
        let mut inodes = self.inodes.lock().expect("no panic");
        if inodes.insert(ino, name.clone()).is_none() {
            self.link.deposit(NoteKey::Inode(ino), name.as_bytes());
        }
        let delay = match behaviour {
            Behaviour::SlowLookup(delay) => Some(delay),
            Behaviour::Hung => Some(900),
            _ => None,
        };
        match delay {
            Some(delay) => drop(thread::spawn(move || {
                thread::sleep(Duration::from_millis(delay));
                reply.entry(&Duration::ZERO, &attr, Generation(0));
            })),
            None => reply.entry(&Duration::ZERO, &attr, Generation(0)),
        }
    }

    fn forget(&self, _request: &Request, _ino: INodeNo, _lookups: u64) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match ino {
            INodeNo::ROOT => reply.attr(&Duration::from_secs(3600), &directory()),
            _ if self.name(ino).is_some() => reply.attr(&Duration::ZERO, &file(ino.0, 64)),
            _ => reply.error(Errno::ESTALE),
        }
    }

    fn open(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let Some(name) = self.name(ino) else {
            return reply.error(Errno::ESTALE);
        };
        let handle = FileHandle(self.next.fetch_add(1, Ordering::SeqCst));
        self.link
            .deposit(NoteKey::Handle(handle.0), name.as_bytes());
        let open = Arc::clone(&self.open);
        let answer = move || {
            open.fetch_add(1, Ordering::SeqCst);
            reply.opened(
                handle,
                FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH,
            );
        };
        match Behaviour::of(&name) {
            Some(Behaviour::SlowOpen(delay)) => drop(thread::spawn(move || {
                thread::sleep(Duration::from_millis(delay));
                answer();
            })),
            // Dropped, it would answer.
            Some(Behaviour::Hung) => std::mem::forget(answer),
            Some(Behaviour::Crash) => std::process::abort(),
            Some(Behaviour::Block) => loop {
                thread::park();
            },
            _ => answer(),
        }
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        _size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(name) = self.name(ino) else {
            return reply.error(Errno::EIO);
        };
        let content = self.content(&name);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        reply.data(content.get(from..).unwrap_or_default());
    }

    fn write(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.link.deposit(NoteKey::Staged(fh.0), b"");
        reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let name = self.name(ino).unwrap_or_default();
        if let Some(Behaviour::Kept) = Behaviour::of(&name) {
            // Dropped, it would answer.
            return std::mem::forget(reply);
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
        reply.ok();
    }
}

fn ino(name: &str) -> u64 {
    // FNV-1a: the same in every worker.
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }) | 2
}

fn file(ino: u64, size: u64) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: 1,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0o666,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn directory() -> FileAttr {
    FileAttr {
        kind: FileType::Directory,
        perm: 0o333,
        ..file(1, 0)
    }
}
