//! The contract of open, read, write, truncate, close, fsync and rename, as simply as it can be
//! said: what a correct filesystem answers to a sequence of operations on a few names.
//!
//! Knows no filesystem. The unit tests hold the filesystem to it without a kernel, `tests/tools`
//! the program through a real mount.

use nix::errno::Errno;
use proptest::prelude::*;

/// The names that operations are about.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

/// One thing that a program, or somebody else, does. Handles are numbered as they are opened.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Open {
        name: usize,
        how: How,
    },
    Read {
        handle: usize,
        offset: u64,
        length: u32,
    },
    /// At the offset, or at the end if the handle appends.
    Write {
        handle: usize,
        offset: u64,
        data: Vec<u8>,
    },
    Resize {
        handle: usize,
        length: u64,
    },
    Fsync {
        handle: usize,
    },
    Close {
        handle: usize,
    },
    Stat {
        name: usize,
    },
    /// A temporary file is written and renamed onto the name.
    Replace {
        name: usize,
        value: Vec<u8>,
    },
    /// Somebody else sets the secret in the vault.
    SetElsewhere {
        name: usize,
        value: Vec<u8>,
    },
    /// A program empties the secret, writes that, and is killed.
    Kill {
        name: usize,
        value: Vec<u8>,
    },
    /// The vault will refuse the next set, once.
    FailNextSet,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// O_RDONLY
    Read,
    /// O_RDWR
    Update,
    /// O_WRONLY | O_APPEND
    Append,
    /// O_WRONLY | O_CREAT | O_TRUNC
    Replace,
}

impl How {
    pub(crate) fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Update)
    }

    pub(crate) fn writes(self) -> bool {
        self != Self::Read
    }
}

/// What an operation ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Bytes(Vec<u8>),
    Size(u64),
    Failed(Errno),
}

/// The state that a correct filesystem and its vault are in.
#[derive(Default)]
pub(crate) struct Model {
    /// All versions of each name, oldest first.
    pub(crate) versions: [Vec<Vec<u8>>; NAMES.len()],
    /// Every file that was opened; none where it is closed.
    handles: Vec<Option<Handle>>,
    fails_next_set: bool,
}

struct Handle {
    name: usize,
    how: How,
    bytes: Vec<u8>,
    /// Whether bytes were written that are not set.
    changed: bool,
    /// Whether it holds a name that the vault did not have, and has not set it.
    creates: bool,
}

/// Sequences of operations; some are about handles that are not open.
pub(crate) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let name = 0..NAMES.len();
    let handle = 0..6usize;
    let value = proptest::collection::vec(b'a'..=b'z', 1..12);
    let how = prop_oneof![
        Just(How::Read),
        Just(How::Update),
        Just(How::Append),
        Just(How::Replace)
    ];
    let op = prop_oneof![
        5 => (name.clone(), how).prop_map(|(name, how)| Op::Open { name, how }),
        4 => (handle.clone(), 0..16u64, 1..16u32)
            .prop_map(|(handle, offset, length)| Op::Read { handle, offset, length }),
        6 => (handle.clone(), 0..16u64, value.clone())
            .prop_map(|(handle, offset, data)| Op::Write { handle, offset, data }),
        2 => (handle.clone(), 0..16u64).prop_map(|(handle, length)| Op::Resize { handle, length }),
        2 => handle.clone().prop_map(|handle| Op::Fsync { handle }),
        4 => handle.prop_map(|handle| Op::Close { handle }),
        2 => name.clone().prop_map(|name| Op::Stat { name }),
        1 => (name.clone(), value.clone()).prop_map(|(name, value)| Op::Replace { name, value }),
        1 => (name.clone(), value.clone())
            .prop_map(|(name, value)| Op::SetElsewhere { name, value }),
        1 => (name, value).prop_map(|(name, value)| Op::Kill { name, value }),
        1 => Just(Op::FailNextSet),
    ];
    proptest::collection::vec(op, 1..40)
}

impl Model {
    /// What the operation must end with; `None` if it is about a handle that is not open.
    pub(crate) fn apply(&mut self, op: &Op) -> Option<Outcome> {
        Some(match op {
            Op::Open { name, how } => self.open(*name, *how),
            Op::Read {
                handle,
                offset,
                length,
            } => {
                let handle = self.handle(*handle)?;
                if !handle.how.reads() {
                    return Some(Outcome::Failed(Errno::EBADF));
                }
                let rest = handle.bytes.iter().skip(*offset as usize);
                Outcome::Bytes(rest.take(*length as usize).copied().collect())
            }
            Op::Write {
                handle,
                offset,
                data,
            } => self.handle(*handle)?.write(*offset as usize, data),
            Op::Resize { handle, length } => self.handle(*handle)?.resize(*length as usize),
            Op::Fsync { handle } => self.settle(*handle)?,
            Op::Close { handle } => {
                let outcome = self.settle(*handle)?;
                self.handles[*handle] = None;
                outcome
            }
            Op::Stat { name } => self.stat(*name),
            Op::Replace { name, value } => self.set(*name, value.clone()),
            Op::SetElsewhere { name, value } => {
                self.versions[*name].push(value.clone());
                Outcome::Done
            }
            Op::Kill { .. } => Outcome::Done,
            Op::FailNextSet => {
                self.fails_next_set = true;
                Outcome::Done
            }
        })
    }

    fn handle(&mut self, number: usize) -> Option<&mut Handle> {
        self.handles.get_mut(number)?.as_mut()
    }

    fn open(&mut self, name: usize, how: How) -> Outcome {
        let current = self.versions[name].last().cloned();
        let exists = current.is_some() || self.is_being_created(name);
        if !exists && how != How::Replace {
            return Outcome::Failed(Errno::ENOENT);
        }
        let creates = current.is_none() && how.writes();
        let bytes = match how {
            How::Replace => Vec::new(),
            _ => current.unwrap_or_default(),
        };
        self.handles.push(Some(Handle {
            name,
            how,
            bytes,
            changed: false,
            creates,
        }));
        Outcome::Done
    }

    fn stat(&self, name: usize) -> Outcome {
        match self.versions[name].last() {
            Some(value) => Outcome::Size(value.len() as u64),
            // Its size is that of whichever handle is meant.
            None if self.is_being_created(name) => Outcome::Done,
            None => Outcome::Failed(Errno::ENOENT),
        }
    }

    fn is_being_created(&self, name: usize) -> bool {
        let mut open = self.handles.iter().flatten();
        open.any(|handle| handle.creates && handle.name == name)
    }

    /// Sets what a handle has written, if anything waits.
    fn settle(&mut self, number: usize) -> Option<Outcome> {
        let handle = self.handle(number)?;
        if !handle.changed {
            return Some(Outcome::Done);
        }
        let (name, bytes) = (handle.name, handle.bytes.clone());
        let outcome = self.set(name, bytes);
        if outcome == Outcome::Done {
            let handle = self.handle(number)?;
            (handle.changed, handle.creates) = (false, false);
        }
        Some(outcome)
    }

    fn set(&mut self, name: usize, value: Vec<u8>) -> Outcome {
        if std::mem::take(&mut self.fails_next_set) {
            return Outcome::Failed(Errno::EPERM);
        }
        self.versions[name].push(value);
        Outcome::Done
    }
}

impl Handle {
    fn write(&mut self, offset: usize, data: &[u8]) -> Outcome {
        if !self.how.writes() {
            return Outcome::Failed(Errno::EBADF);
        }
        let start = match self.how {
            How::Append => self.bytes.len(),
            _ => offset,
        };
        let end = start + data.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[start..end].copy_from_slice(data);
        self.changed = true;
        Outcome::Done
    }

    fn resize(&mut self, length: usize) -> Outcome {
        if !self.how.writes() {
            return Outcome::Failed(Errno::EINVAL);
        }
        if self.bytes.len() != length {
            self.bytes.resize(length, 0);
            // Nothing written sets nothing.
            self.changed = length > 0;
        }
        Outcome::Done
    }
}
