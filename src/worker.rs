//! The worker process: puts the rooms together and serves the mount until it ends.
//!
//! Decides nothing itself. It is unprivileged and may be killed at any moment: its keeper has
//! the mount, and starts another.

#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;

use fuser::{INodeNo, Notifier, Session, SessionACL};
use tracing::{debug, warn};

use crate::azure::KeyVault;
use crate::fs::{Options, SecretFs};
use crate::fuse::Adapter;
use crate::link::{self, Handover, Link, News};
use crate::log;
use crate::sys::{memory, process};

/// How many threads read requests. With one the message after a WRITE, which the keeper pads,
/// wipes what was written from fuser's receive buffer; with more it may go to another's buffer.
const SESSION_THREADS: usize = 1;

/// Serves a mount for the keeper that started this process.
pub fn exec_worker() -> ExitCode {
    let outcome = link::receive()
        .map_err(|error| format!("a worker is started by its keeper alone: {error}"))
        .and_then(|(handover, messages, link)| {
            let destination = if handover.foreground {
                log::Destination::Stderr
            } else {
                log::Destination::Syslog
            };
            log::start(handover.config.log, destination);
            harden();
            serve(handover, messages, link)
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            link::fail(&error);
            ExitCode::FAILURE
        }
    }
}

/// Serves FUSE messages from `messages` (a keeper's socket, or /dev/fuse itself) until the mount
/// ends. The error says why it could not begin.
pub fn serve(handover: Handover, messages: OwnedFd, link: Link) -> Result<(), String> {
    let Handover {
        config,
        generation,
        notes,
        ..
    } = handover;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no asynchronous runtime: {error}"))?;
    let in_runtime = runtime.enter();

    let vault = Arc::new(KeyVault::new(&config).map_err(|error| error.to_string())?);
    let link = Arc::new(link);
    let options = Options::new(&config, generation);
    let fs = SecretFs::new(Arc::clone(&vault), options, Arc::clone(&link), generation);
    let fs = Arc::new(fs);
    for (key, record) in notes {
        fs.adopt(key, &record);
    }

    let (invalidations, inodes) = mpsc::channel();
    let (sets, mut last_set) = tokio::sync::mpsc::channel(1);
    let handle = runtime.handle().clone();
    let adapter = Adapter::new(Arc::clone(&fs), handle, invalidations, sets);
    let mut session_config = fuser::Config::default();
    session_config.n_threads = Some(SESSION_THREADS);
    // The kernel has let in only whom the mount lets in.
    let session = Session::from_fd(adapter, messages, SessionACL::All, session_config)
        .map_err(|error| format!("the kernel's FUSE did not greet: {error}"))?;
    let notifier = session.notifier();
    spawn("notify", move || invalidate(&notifier, &inodes))?;
    let (ended, end) = tokio::sync::oneshot::channel();
    spawn("session", move || {
        // The receiver is gone only when the process is ending anyway.
        let _ = ended.send(session.run());
    })?;

    tokio::spawn(hear(Arc::clone(&fs), Arc::clone(&link)));
    tokio::spawn(async move { vault.warm_up().await });
    drop(in_runtime);
    if let Ok(Err(error)) = runtime.block_on(end) {
        debug!(%error, "the session ended");
    }
    // What is being set is set, and answered, if the keeper has the patience.
    runtime.block_on(async {
        last_set.recv().await;
        fs.finish().await;
    });
    Ok(())
}

/// Shuts other processes out of this one's memory, and the memory out of swap.
fn harden() {
    if let Err(error) = process::harden() {
        warn!(%error, "this process can be traced by others of its user");
    }
    match memory::lock() {
        memory::Locked::All => {}
        refused => debug!(?refused, "memory is not locked: it can reach a swap device"),
    }
}

/// Makes the kernel drop pages, from a thread of its own: a notification can wait until the
/// kernel has an answer that another thread is to give.
fn invalidate(notifier: &Notifier, inodes: &mpsc::Receiver<u64>) {
    for ino in inodes {
        // Fails if the kernel has forgotten the inode, and with it the pages.
        let _ = notifier.inval_inode(INodeNo(ino), 0, 0);
    }
}

/// Follows what the keeper has to say.
async fn hear(fs: Arc<SecretFs<KeyVault>>, link: Arc<Link>) {
    let mut news = link.notes();
    while let Some(item) = news.recv().await {
        match item {
            News::Adopted(key, record) => fs.adopt(key, &record),
            News::Withdrawn(key) => fs.disown(key),
            News::ReopenLogs => log::reopen(),
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = thread::Builder::new().name(name.into()).spawn(body);
    started
        .map(|_| ())
        .map_err(|error| format!("no thread for {name}: {error}"))
}
