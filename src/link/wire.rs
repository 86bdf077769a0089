//! What travels between keeper and worker besides FUSE messages.
//!
//! Two sockets join them. On the first, that of the FUSE messages, a worker also sends *notes*, in
//! frames that look like a reply no kernel would know; sharing the socket is what puts a note
//! before the reply that follows it. The second carries questions, answers and news as JSON.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use crate::config::Config;

/// The longest record a note may have, in bytes.
pub const MAX_RECORD: usize = 1024;

/// The longest datagram on the second socket, in bytes: a note's record as JSON, with room.
pub(crate) const MAX_DATAGRAM: usize = 16 * 1024;

/// The descriptor a worker finds its FUSE messages on.
pub(crate) const MESSAGES_DESCRIPTOR: i32 = 3;
/// The descriptor of questions, answers and news.
pub(crate) const QUESTIONS_DESCRIPTOR: i32 = 4;
/// The descriptor of a memory file with the [`Handover`].
pub(crate) const HANDOVER_DESCRIPTOR: i32 = 5;

/// `unique` and `error` of a note's header. The kernel counts `unique` up from two, notifications
/// have zero, and no errno or notification code comes near the mark.
const NOTE_UNIQUE: u64 = u64::MAX;
const NOTE_MARK: i32 = 0x6b76_6673;
const NOTE_HEADER: usize = 32;

/// What a note is about. A key has at most one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NoteKey {
    /// An inode, by its number.
    Inode(u64),
    /// An open file, by its handle. The keeper itself withdraws it once RELEASE is answered.
    Handle(u64),
    /// The open file with this handle has staged bytes that die with the worker. While there are
    /// any of its own, a worker is not retired. The keeper withdraws it with the handle.
    Staged(u64),
    /// The temporary file with this inode number lives in the worker's memory alone. While there
    /// are any, no other worker takes over, for a minute at most. No successor gets it.
    Temporary(u64),
}

/// What a worker is given when it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Handover {
    /// What the mount was told to do.
    pub config: Config,
    /// Which worker of this mount it is, counted from one. The handles it makes carry the number
    /// in their upper 32 bits, so that the keeper can tell whose a handle is.
    pub generation: u32,
    /// Whether there is a standard error to log to.
    pub foreground: bool,
    /// What the workers before it left.
    pub notes: Vec<(NoteKey, Vec<u8>)>,
}

/// A note on its way from a worker to the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoteFrame<'a> {
    /// Keep this record, in place of any before it.
    Deposit(NoteKey, &'a [u8]),
    /// Forget the record.
    Withdraw(NoteKey),
}

impl<'a> NoteFrame<'a> {
    /// The frame as one datagram.
    pub(crate) fn encode(self) -> Vec<u8> {
        let (kind, key, record) = match self {
            Self::Deposit(key, record) => (1u8, key, record),
            Self::Withdraw(key) => (2, key, &[][..]),
        };
        let (key_kind, number) = match key {
            NoteKey::Inode(number) => (1u8, number),
            NoteKey::Handle(number) => (2, number),
            NoteKey::Staged(number) => (3, number),
            NoteKey::Temporary(number) => (4, number),
        };
        let length = NOTE_HEADER + record.len();
        let mut frame = Vec::with_capacity(length);
        frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        frame.extend_from_slice(&NOTE_MARK.to_ne_bytes());
        frame.extend_from_slice(&NOTE_UNIQUE.to_ne_bytes());
        frame.extend_from_slice(&[kind, key_kind, 0, 0, 0, 0, 0, 0]);
        frame.extend_from_slice(&number.to_ne_bytes());
        frame.extend_from_slice(record);
        frame
    }

    /// Whether a header with these two fields begins a note.
    pub(crate) fn is_header(unique: u64, error: i32) -> bool {
        unique == NOTE_UNIQUE && error == NOTE_MARK
    }

    /// Reads a datagram that [`NoteFrame::is_header`] recognised.
    pub(crate) fn decode(datagram: &'a [u8]) -> Option<Self> {
        let (header, record) = datagram.split_at_checked(NOTE_HEADER)?;
        let number = u64::from_ne_bytes(header[24..].try_into().ok()?);
        let key = match header[17] {
            1 => NoteKey::Inode(number),
            2 => NoteKey::Handle(number),
            3 => NoteKey::Staged(number),
            4 => NoteKey::Temporary(number),
            _ => return None,
        };
        match header[16] {
            1 => Some(Self::Deposit(key, record)),
            2 => Some(Self::Withdraw(key)),
            _ => None,
        }
    }
}

/// From worker to keeper, on the second socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToKeeper {
    /// A question; its answer will carry the same number.
    Ask { number: u64, question: Question },
    /// The worker cannot start, and why.
    Failed { text: String },
}

/// What a worker may ask of its keeper, which sees /proc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Question {
    /// Of which process is this thread?
    ProcessOf { thread: u32 },
    /// Is this FLUSH the end of a write?
    Flusher {
        ino: u64,
        opener: u32,
        thread: u32,
        /// Whether every descriptor of the opener that writes this file is this open file's.
        #[serde(default)]
        alone: bool,
    },
}

/// From keeper to worker, on the second socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// The answer to the question of this number.
    Answer { number: u64, answer: Answer },
    /// Something the worker must know.
    News(News),
}

/// The answers to [`Question`]s, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The process, if it can be seen.
    Process(Option<u32>),
    /// What the flush means.
    Flusher(Flusher),
}

/// What the FLUSH of a file that was written to means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flusher {
    /// The writer has closed it: what is staged is to be set.
    Final,
    /// One copy of the descriptor was closed; who opened the file still holds another.
    NotYet,
    /// The process is being killed by a signal: what is staged is half a value.
    Killed,
}

/// What the keeper tells a worker unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum News {
    /// The worker before this one, still finishing what it has, deposited a note.
    Adopted(NoteKey, Vec<u8>),
    /// A note of the worker before this one is no more.
    Withdrawn(NoteKey),
    /// Log files were moved away: open them anew.
    ReopenLogs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_out_as_it_went_in() {
        let record = vec![7u8; MAX_RECORD];
        for frame in [
            NoteFrame::Deposit(NoteKey::Inode(1), b"name"),
            NoteFrame::Deposit(NoteKey::Handle(u64::MAX), &record),
            NoteFrame::Deposit(NoteKey::Staged(3), b""),
            NoteFrame::Deposit(NoteKey::Temporary(4), b""),
            NoteFrame::Withdraw(NoteKey::Inode(9)),
        ] {
            let datagram = frame.encode();
            let error = i32::from_ne_bytes(datagram[4..8].try_into().unwrap());
            let unique = u64::from_ne_bytes(datagram[8..16].try_into().unwrap());
            assert!(NoteFrame::is_header(unique, error));
            assert_eq!(NoteFrame::decode(&datagram), Some(frame));
        }
    }

    #[test]
    fn a_cut_or_unknown_note_is_none() {
        let datagram = NoteFrame::Withdraw(NoteKey::Inode(9)).encode();
        assert_eq!(NoteFrame::decode(&datagram[..NOTE_HEADER - 1]), None);
        let mut unknown = datagram.clone();
        unknown[16] = 9;
        assert_eq!(NoteFrame::decode(&unknown), None);
        let mut unknown = datagram;
        unknown[17] = 0;
        assert_eq!(NoteFrame::decode(&unknown), None);
    }

    #[test]
    fn the_longest_record_fits_its_datagram_as_news() {
        let news = ToWorker::News(News::Adopted(
            NoteKey::Handle(u64::MAX),
            vec![255; MAX_RECORD],
        ));
        assert!(serde_json::to_vec(&news).unwrap().len() <= MAX_DATAGRAM);
    }
}
