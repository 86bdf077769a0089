//! What a worker tells the kernel unasked: to forget an inode's pages.
//!
//! Written by a thread of its own: the kernel takes such a message only when no read of that
//! inode is pending, and whoever waits for that must not be who passes replies on.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use nix::errno::Errno;
use nix::unistd::write;

/// Where notifications go.
pub(super) struct Notifications {
    sender: Sender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
}

impl Notifications {
    /// Starts the thread that writes them to `device`.
    pub(super) fn start(device: &OwnedFd) -> io::Result<Self> {
        let device = device.try_clone()?;
        let (sender, receiver) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&waiting);
        thread::Builder::new()
            .name("notify".into())
            .spawn(move || write_all(&device, &receiver, &counted))?;
        Ok(Self { sender, waiting })
    }

    /// Puts one in.
    pub(super) fn put(&self, message: Vec<u8>) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // Fails only when the thread has ended, and the process with it.
        let _ = self.sender.send(message);
    }

    /// Whether none waits or is being written.
    pub(super) fn are_done(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }
}

fn write_all(device: &OwnedFd, messages: &Receiver<Vec<u8>>, waiting: &AtomicUsize) {
    while let Ok(message) = messages.recv() {
        // ENOENT: the kernel has forgotten the inode already, which is what was asked for.
        if let Err(error) = write(device, &message)
            && !matches!(error, Errno::ENOENT | Errno::ENOTDIR | Errno::ENODEV)
        {
            tracing::debug!(%error, "the kernel refuses a notification");
        }
        waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
