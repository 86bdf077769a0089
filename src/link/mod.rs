//! A worker's side of the two sockets that join it to its keeper.
//!
//! [`receive`] takes them over and gives the FUSE messages' to fuser; a [`Link`] deposits notes
//! with the keeper, asks it what only it can see, and hears its news. What the keeper makes of
//! that is `keeper`'s business; what the records say is the filesystem's.

#![forbid(unsafe_code)]

mod wire;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use nix::sys::socket::{MsgFlags, recv, send};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::sys::descriptors;
pub(crate) use wire::{
    Answer, HANDOVER_DESCRIPTOR, MAX_DATAGRAM, MESSAGES_DESCRIPTOR, NoteFrame,
    QUESTIONS_DESCRIPTOR, Question, ToKeeper, ToWorker,
};
pub use wire::{Flusher, Handover, MAX_RECORD, News, NoteKey};

/// The questions' socket, for [`fail`], which has no link at hand.
static QUESTIONS: OnceLock<Arc<OwnedFd>> = OnceLock::new();

/// What joins a worker to its keeper. Shared by reference from any thread or task.
pub struct Link {
    /// `None` without a keeper.
    sockets: Option<Sockets>,
    next: AtomicU64,
    asked: Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>,
    news: Mutex<Option<mpsc::UnboundedReceiver<News>>>,
}

struct Sockets {
    messages: OwnedFd,
    questions: Arc<OwnedFd>,
}

/// Takes over what the keeper left on the descriptors 3, 4 and 5, once in a process: what the
/// worker must know, the socket on which fuser will find its messages, and the link.
///
/// One thread alone may read the messages: each message is padded to wipe the one before from the
/// buffer of the thread that reads it. When the keeper is gone, so is this process: there is
/// nobody left to work for.
pub fn receive() -> io::Result<(Handover, OwnedFd, Link)> {
    let messages = descriptors::inherited(MESSAGES_DESCRIPTOR)?;
    let questions = Arc::new(descriptors::inherited(QUESTIONS_DESCRIPTOR)?);
    let handover = File::from(descriptors::inherited(HANDOVER_DESCRIPTOR)?);
    let _ = QUESTIONS.set(Arc::clone(&questions));
    let handover = serde_json::from_reader(io::BufReader::new(handover))?;

    let (told, news) = mpsc::unbounded_channel();
    let link = Link {
        sockets: Some(Sockets {
            messages: messages.try_clone()?,
            questions: Arc::clone(&questions),
        }),
        next: AtomicU64::new(0),
        asked: Arc::default(),
        news: Mutex::new(Some(news)),
    };
    let asked = Arc::clone(&link.asked);
    thread::Builder::new()
        .name("link".into())
        .spawn(move || listen(&questions, &asked, &told))?;
    Ok((handover, messages, link))
}

/// Tells the keeper that this worker cannot start, and why. The text reaches whoever mounts, if
/// this is the mount's first worker, and the log. The caller then ends the process.
pub fn fail(text: &str) {
    let sent = QUESTIONS
        .get()
        .is_some_and(|socket| tell(socket, &ToKeeper::Failed { text: text.into() }).is_ok());
    if !sent {
        eprintln!("keyvaultfs: {text}");
    }
}

impl Link {
    /// A link to nobody, for benchmarks and tests that run without a keeper: notes go nowhere,
    /// threads have no known process, and every flush is final.
    pub fn detached() -> Self {
        Self {
            sockets: None,
            next: AtomicU64::new(0),
            asked: Arc::default(),
            news: Mutex::new(Some(mpsc::unbounded_channel().1)),
        }
    }

    /// Leaves `record` with the keeper, in place of any of the same key, for this worker's
    /// successor. The keeper has it before any reply that is sent after this returns. Records
    /// hold no secret and at most [`MAX_RECORD`] bytes; a longer one is a defect and not sent.
    pub fn deposit(&self, key: NoteKey, record: &[u8]) {
        debug_assert!(record.len() <= MAX_RECORD, "{key:?}");
        if record.len() <= MAX_RECORD {
            self.note(NoteFrame::Deposit(key, record));
        }
    }

    /// Takes a record back. Those of a handle need it only if the handle lives on: RELEASE takes
    /// them along.
    pub fn withdraw(&self, key: NoteKey) {
        self.note(NoteFrame::Withdraw(key));
    }

    /// The process of a thread, if the keeper can see it.
    pub async fn process_of(&self, thread: u32) -> Option<u32> {
        match self.ask(Question::ProcessOf { thread }).await {
            Some(Answer::Process(process)) => process,
            _ => None,
        }
    }

    /// What it means that `thread` flushes the file `ino`, which the process `opener` opened, and
    /// opened once only if it is `alone`. [`Flusher::Final`] where that cannot be told.
    pub async fn flusher(&self, ino: u64, opener: u32, thread: u32, alone: bool) -> Flusher {
        let question = Question::Flusher {
            ino,
            opener,
            thread,
            alone,
        };
        match self.ask(question).await {
            Some(Answer::Flusher(flusher)) => flusher,
            _ => Flusher::Final,
        }
    }

    /// The keeper's news. The first caller gets them all; later callers get a receiver that has
    /// ended.
    pub fn notes(&self) -> mpsc::UnboundedReceiver<News> {
        self.news
            .lock()
            .take()
            .unwrap_or_else(|| mpsc::unbounded_channel().1)
    }

    fn note(&self, frame: NoteFrame<'_>) {
        let Some(sockets) = &self.sockets else { return };
        // Errors mean that the keeper is gone, and then so is this process.
        let _ = send(
            sockets.messages.as_raw_fd(),
            &frame.encode(),
            MsgFlags::MSG_NOSIGNAL,
        );
    }

    async fn ask(&self, question: Question) -> Option<Answer> {
        let sockets = self.sockets.as_ref()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (answered, answer) = oneshot::channel();
        self.asked.lock().insert(number, answered);
        if tell(&sockets.questions, &ToKeeper::Ask { number, question }).is_err() {
            self.asked.lock().remove(&number);
        }
        answer.await.ok()
    }
}

/// Hands out what the keeper sends until the keeper is gone.
fn listen(
    socket: &OwnedFd,
    asked: &Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    news: &mpsc::UnboundedSender<News>,
) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let received = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(0) => std::process::exit(0),
            Ok(length) => &buffer[..length],
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => std::process::exit(1),
        };
        match serde_json::from_slice(received) {
            Ok(ToWorker::Answer { number, answer }) => {
                if let Some(answered) = asked.lock().remove(&number) {
                    let _ = answered.send(answer);
                }
            }
            Ok(ToWorker::News(item)) => {
                let _ = news.send(item);
            }
            Err(error) => tracing::warn!(%error, "the keeper said something unknown"),
        }
    }
}

fn tell(socket: &OwnedFd, message: &ToKeeper) -> io::Result<()> {
    let datagram = serde_json::to_vec(message)?;
    send(socket.as_raw_fd(), &datagram, MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn without_a_keeper_every_flush_is_final() {
        let link = Link::detached();
        link.deposit(NoteKey::Inode(1), b"name");
        link.withdraw(NoteKey::Inode(1));
        assert_eq!(link.flusher(1, 2, 3, true).await, Flusher::Final);
        assert_eq!(link.process_of(1).await, None);
        assert!(link.notes().recv().await.is_none());
    }
}
