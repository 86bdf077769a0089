//! Answers a worker's questions from /proc, which the worker itself may not be able to read.
//!
//! One thread per worker, so that a slow /proc delays only who asked. Another brings a worker the
//! news, so that one that does not listen yet misses none and holds nobody up.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::socket::{MsgFlags, recv, send};
use nix::unistd::Pid;

use super::events::{Event, Events};
use super::gate::Passer;
use super::mountpoint::mounts_of;
use crate::link::{Answer, Flusher, MAX_DATAGRAM, News, Question, ToKeeper, ToWorker};

/// `PF_SIGNALED` of the kernel's `include/linux/sched.h`: killed by a signal.
const PF_SIGNALED: u64 = 0x400;

/// Answers what `worker` asks until it is gone. `device` is the mount's, as mountinfo names it.
pub(super) fn answer(
    worker: u32,
    socket: &OwnedFd,
    device: &str,
    events: &Events,
    passer: &Passer<'_>,
) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        passer.pass();
        let received = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(0) => return,
            Ok(length) => &buffer[..length],
            Err(Errno::EINTR | Errno::ECONNRESET) => continue,
            Err(_) => return,
        };
        match serde_json::from_slice(received) {
            Ok(ToKeeper::Ask { number, question }) => {
                let answer = find_out(question, device);
                if !tell(socket, &ToWorker::Answer { number, answer }) {
                    return;
                }
            }
            Ok(ToKeeper::Failed { text }) => events.put(Event::Failed { worker, text }),
            Err(error) => tracing::warn!(%error, "a worker said something unknown"),
        }
    }
}

/// Brings a worker news, by a thread that waits until there is room for them.
pub(super) struct Messenger {
    sender: Sender<News>,
    waiting: Arc<AtomicUsize>,
}

impl Messenger {
    /// Starts the thread. It ends with this, or when the worker is gone.
    pub(super) fn to(worker: u32, socket: Arc<OwnedFd>) -> io::Result<Self> {
        let (sender, news) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&waiting);
        thread::Builder::new()
            .name(format!("news-{worker}"))
            .spawn(move || {
                for item in news {
                    // To one that is gone, nothing is brought; its successor gets all records.
                    tell(&socket, &ToWorker::News(item));
                    counted.fetch_sub(1, Ordering::SeqCst);
                }
            })?;
        Ok(Self { sender, waiting })
    }

    /// Brings this behind all that came before.
    pub(super) fn bring(&self, news: News) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // Fails only when the thread has ended, and the process with it.
        let _ = self.sender.send(news);
    }

    /// Whether all has been brought.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }
}

/// Sends a worker something, and waits until there is room for it. False if the worker is gone.
fn tell(socket: &OwnedFd, message: &ToWorker) -> bool {
    loop {
        match try_to_tell(socket, message, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            sent => return sent.is_ok(),
        }
    }
}

/// Sends a worker something. A worker that is gone, or so busy that its socket is full, does
/// without.
pub(super) fn tell_now(socket: &OwnedFd, message: &ToWorker) {
    let sent = try_to_tell(socket, message, MsgFlags::MSG_DONTWAIT);
    if let Err(error) = sent
        && error != Errno::EPIPE
        && error != Errno::ECONNRESET
    {
        tracing::warn!(%error, "a worker did not get its message");
    }
}

fn try_to_tell(socket: &OwnedFd, message: &ToWorker, flags: MsgFlags) -> nix::Result<usize> {
    let datagram = serde_json::to_vec(message).map_err(|_| Errno::EINVAL)?;
    send(
        socket.as_raw_fd(),
        &datagram,
        flags | MsgFlags::MSG_NOSIGNAL,
    )
}

fn find_out(question: Question, device: &str) -> Answer {
    match question {
        Question::ProcessOf { thread } => Answer::Process(process_of(thread)),
        Question::Flusher {
            ino,
            opener,
            thread,
            alone,
        } => Answer::Flusher(flusher(ino, opener, thread, alone, device)),
    }
}

fn process_of(thread: u32) -> Option<u32> {
    tgid(&status_of(thread)?)
}

/// The processes that started `thread`'s, from the nearest on.
fn ancestors(thread: u32) -> impl Iterator<Item = u32> {
    let parent = |process: &u32| {
        let parent = number_in(&status_of(*process)?, "PPid:")?;
        u32::try_from(parent).ok().filter(|parent| *parent > 1)
    };
    std::iter::successors(parent(&thread), parent)
}

fn flusher(ino: u64, opener: u32, thread: u32, alone: bool, device: &str) -> Flusher {
    let status = status_of(thread);
    let is_exiting = status.as_deref().is_some_and(is_exiting);
    // Gone is asked last: it may go while the other is read.
    if (is_exiting && is_being_killed(thread)) || is_gone(thread) {
        return Flusher::Killed;
    }
    // A shell's `exec 3>f; echo a >&3` closes a duplicate of its own. Two files that the opener
    // has open with the same inode cannot be told apart: then its close is taken for the end.
    let is_opener = status.as_deref().and_then(tgid) == Some(opener);
    if (alone || !is_opener) && holds(opener, ino, device) {
        return Flusher::NotYet;
    }
    // The opener has passed it on to a shell that runs one program after the other.
    if !is_opener && ancestors(thread).any(|process| holds(process, ino, device)) {
        return Flusher::NotYet;
    }
    Flusher::Final
}

/// proc_pid_status(5), which can be read of every thread at any time. Most other files cannot: an
/// execve(2) that closes a file waits for its FLUSH with a lock that reading them waits for.
fn status_of(thread: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{thread}/status")).ok()
}

fn tgid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

/// Whether it is a thread on its way out: it has given back its memory before it closes its files.
fn is_exiting(status: &str) -> bool {
    !status.lines().any(|line| line.starts_with("VmSize:"))
}

/// Of a thread that is exiting, and so in no execve(2).
fn is_being_killed(thread: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{thread}/stat")) else {
        return false;
    };
    flags_of(&stat).is_some_and(|flags| flags & PF_SIGNALED != 0)
}

/// Whether there is no such thread. One waits for the answer to its FLUSH as long as it lives, or
/// until the keeper answers it because of a signal that ends it. Asked of the kernel, since /proc
/// may hide what is there; 0 is a thread of another namespace.
fn is_gone(thread: u32) -> bool {
    let thread = Pid::from_raw(thread.cast_signed());
    thread.as_raw() > 0 && kill(thread, None) == Err(Errno::ESRCH)
}

/// The ninth field of proc_pid_stat(5); the second, a name in parentheses, may hold anything.
fn flags_of(stat: &str) -> Option<u64> {
    let behind_name = &stat[stat.rfind(')')? + 1..];
    behind_name.split_whitespace().nth(6)?.parse().ok()
}

/// Whether a process has a descriptor through which it can write this file of this mount.
fn holds(process: u32, ino: u64, device: &str) -> bool {
    // A mount has another id in every namespace; the device tells which of them are ours.
    let ours: Option<Vec<u64>> = mounts_of(&process.to_string()).ok().map(|mounts| {
        mounts
            .into_iter()
            .filter(|mounted| mounted.device == device)
            .map(|mounted| mounted.id)
            .collect()
    });
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fdinfo")) else {
        return false;
    };
    descriptors.flatten().any(|descriptor| {
        let Ok(info) = fs::read_to_string(descriptor.path()) else {
            return false;
        };
        number_in(&info, "ino:") == Some(ino)
            && is_writable(&info)
            && ours
                .as_ref()
                .is_none_or(|ours| number_in(&info, "mnt_id:").is_none_or(|id| ours.contains(&id)))
    })
}

fn is_writable(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok());
    flags.is_none_or(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

fn number_in(info: &str, name: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;
    use crate::link::NoteKey;

    #[test]
    fn flags_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0";
        assert_eq!(flags_of(stat), Some(4_194_560));
        assert_eq!(flags_of("42 (a"), None);
    }

    #[test]
    fn a_worker_that_does_not_listen_yet_misses_no_news() {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let messenger = Messenger::to(2, Arc::new(ours)).unwrap();
        // Many times what the socket holds.
        for number in 0..5000 {
            messenger.bring(News::Withdrawn(NoteKey::Inode(number)));
        }
        let mut buffer = vec![0; MAX_DATAGRAM];
        for number in 0..5000 {
            let length = recv(theirs.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
            let ToWorker::News(news) = serde_json::from_slice(&buffer[..length]).unwrap() else {
                panic!("it is news");
            };
            assert_eq!(news, News::Withdrawn(NoteKey::Inode(number)));
        }
    }

    #[test]
    fn a_process_that_has_ended_has_no_memory_left() {
        assert!(!is_exiting(&status_of(std::process::id()).unwrap()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let ended = || status_of(child.id()).unwrap().contains("State:\tZ");
        while !ended() {
            thread::yield_now();
        }
        assert!(is_exiting(&status_of(child.id()).unwrap()));
        child.wait().unwrap();
    }

    #[test]
    fn ancestors_are_found_up_to_the_first_process() {
        let parent = nix::unistd::getppid().as_raw().cast_unsigned();
        let first = ancestors(std::process::id()).next();
        assert_eq!(first, Some(parent).filter(|parent| *parent > 1));
        assert_eq!(ancestors(1).next(), None);
    }

    #[test]
    fn a_thread_belongs_to_its_process() {
        let process = std::process::id();
        let thread = nix::unistd::gettid().as_raw().cast_unsigned();
        assert_eq!(process_of(thread), Some(process));
        assert_eq!(process_of(0), None);
    }

    #[test]
    fn a_thread_that_did_not_wait_for_its_flush_was_killed() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let thread = child.id();
        child.wait().unwrap();
        assert_eq!(flusher(1, thread, thread, true, "0:0"), Flusher::Killed);
        // Of another namespace: nothing can be told.
        assert_eq!(flusher(1, 0, 0, true, "0:0"), Flusher::Final);
    }

    #[test]
    fn a_flush_is_not_the_end_while_the_opener_holds_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reader = File::open(file.path()).unwrap();
        let file = file.into_file();
        let metadata = file.metadata().unwrap();
        let (major, minor) = (
            nix::sys::stat::major(metadata.dev()),
            nix::sys::stat::minor(metadata.dev()),
        );
        let device = format!("{major}:{minor}");
        let opener = std::process::id();
        let parent = nix::unistd::getppid().as_raw().cast_unsigned();
        let ino = metadata.ino();
        let told = |thread, alone, device| flusher(ino, opener, thread, alone, device);
        assert_eq!(told(parent, false, &device), Flusher::NotYet);
        assert_eq!(told(parent, false, "0:0"), Flusher::Final);
        assert_eq!(told(opener, true, &device), Flusher::NotYet);
        assert_eq!(told(opener, false, &device), Flusher::Final);
        drop(file);
        assert_eq!(reader.metadata().unwrap().ino(), ino);
        assert_eq!(told(parent, false, &device), Flusher::Final);
        assert_eq!(told(opener, true, &device), Flusher::Final);
    }
}
