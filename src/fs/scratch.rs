//! Temporary files, in memory only: what editors and atomic writers make beside a secret.
//!
//! They never reach the vault under their own name. Renaming one onto a secret's name sets the
//! secret (`rename`). Refusing them would be worse: vim would write its swap file, with the
//! secret in it, to a disk.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::attributes::Attributes;
use super::editors::{Creation, is_vims_probe};
use super::staging::WriteAt;
use super::write::Change;
use crate::link::{Link, NoteKey};
use crate::secret_bytes::SecretBytes;
use crate::secrets::SecretName;

/// How many temporary files there may be.
const FILES_MAX: usize = 64;
/// How long one may be.
const LENGTH_MAX: u64 = 64 * 1024;
/// How long a closed file made the way mkstemp does waits to be renamed or removed, if its name
/// is a secret's: some programs make their real files so.
const MKSTEMP_LIFE: Duration = Duration::from_secs(5);
/// How long any other closed file is kept.
const LIFE: Duration = Duration::from_secs(60);
/// How often it is tried to set a secret from one, [`MKSTEMP_LIFE`] apart, before it is given up.
const TRIES: u32 = 3;
/// Set in every temporary file's inode number, never in a secret's.
pub(super) const INODE_BIT: u64 = 1 << 62;

/// A temporary file.
pub(super) struct Scratch {
    pub(super) ino: u64,
    /// Whether some reader went through the kernel's page cache (mmap, sendfile).
    page_cached: AtomicBool,
    /// Who is told that it is there, and that it is not any more.
    link: Arc<Link>,
    state: Mutex<State>,
}

struct State {
    /// Its name; `None` once it is removed.
    name: Option<String>,
    bytes: Zeroizing<Vec<u8>>,
    mode: u16,
    uid: u32,
    gid: u32,
    modified: SystemTime,
    created: SystemTime,
    /// How many have it open, or set a secret from it.
    opens: u32,
    /// Since when nobody does.
    closed: Instant,
    /// How often it has outlived its time.
    tries: u32,
    /// Whether it is set, when its time is over, if its name is a secret's.
    mkstemp: bool,
    /// Whether a write did not fit: what there is must not become a secret.
    cut: bool,
}

/// What becomes of a file whose time is over.
pub(super) enum Expired {
    /// It has a secret's name and bytes, and was made as some programs make their real files. It
    /// is still there, to be removed once it is set, or if this is the last try.
    Secret {
        name: SecretName,
        file: InUse,
        last: bool,
    },
    /// It is dropped.
    Dropped(String),
}

/// A file whose time does not run, since a secret is being set from it.
pub(super) struct InUse(Arc<Scratch>);

impl InUse {
    pub(super) fn new(scratch: Arc<Scratch>) -> Self {
        scratch.state.lock().opens += 1;
        Self(scratch)
    }
}

impl Deref for InUse {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.left();
    }
}

impl Scratch {
    /// One of those who have it open does no more.
    fn left(&self) {
        let mut state = self.state.lock();
        state.opens -= 1;
        state.closed = Instant::now();
        self.note_end(&state);
    }

    /// Tells the keeper if it has no name and nobody has it open: there is nothing left to lose.
    fn note_end(&self, state: &State) {
        if state.name.is_none() && state.opens == 0 {
            self.link.withdraw(NoteKey::Temporary(self.ino));
        }
    }

    pub(super) fn attributes(&self) -> Attributes {
        let state = self.state.lock();
        Attributes {
            ino: self.ino,
            directory: false,
            size: state.bytes.len() as u64,
            modified: state.modified,
            created: Some(state.created),
            mode: state.mode,
            uid: state.uid,
            gid: state.gid,
            fresh: false,
        }
    }

    /// A copy of the bytes from `offset`, `size` at most. `page_cached`: the kernel keeps them.
    pub(super) fn read(&self, offset: u64, size: u32, page_cached: bool) -> SecretBytes {
        if page_cached {
            self.page_cached.store(true, Ordering::Relaxed);
        }
        let state = self.state.lock();
        super::read::piece(&state.bytes, offset, size)
    }

    /// A copy of all bytes, to be set.
    pub(super) fn value(&self, trim_newline: bool) -> SecretBytes {
        super::staging::to_set(&self.state.lock().bytes, trim_newline)
    }

    /// Whether a write did not fit.
    pub(super) fn is_cut(&self) -> bool {
        self.state.lock().cut
    }

    pub(super) fn write(&self, at: WriteAt, data: &[u8]) -> Result<(), Errno> {
        let mut state = self.state.lock();
        let start = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => state.bytes.len() as u64,
        };
        let end = start.checked_add(data.len() as u64).ok_or(Errno::EFBIG)?;
        if end > state.bytes.len() as u64
            && let Err(errno) = resize(&mut state, end)
        {
            state.cut = true;
            return Err(errno);
        }
        // Both fit, since they are within LENGTH_MAX.
        let (start, end) = (start as usize, end as usize);
        state.bytes[start..end].copy_from_slice(data);
        state.modified = SystemTime::now();
        Ok(())
    }

    pub(super) fn change(&self, change: Change) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if let Some(size) = change.size {
            resize(&mut state, size)?;
            state.cut &= size > 0;
            state.modified = SystemTime::now();
        }
        state.mode = change
            .mode
            .map_or(state.mode, |mode| (mode & 0o7777) as u16);
        state.uid = change.uid.unwrap_or(state.uid);
        state.gid = change.gid.unwrap_or(state.gid);
        state.modified = change.modified.unwrap_or(state.modified);
        Ok(())
    }
}

fn resize(state: &mut MutexGuard<'_, State>, size: u64) -> Result<(), Errno> {
    if size > LENGTH_MAX {
        return Err(Errno::EFBIG);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize));
    bytes.extend_from_slice(&state.bytes[..state.bytes.len().min(size as usize)]);
    bytes.resize(size as usize, 0);
    state.bytes = bytes;
    Ok(())
}

/// The temporary files of a mount.
pub(super) struct Scratches {
    link: Arc<Link>,
    /// Guards which files there are, and under which names.
    table: Mutex<Table>,
}

struct Table {
    next: u64,
    /// By name, without case where it is a secret's.
    by_name: HashMap<String, Arc<Scratch>>,
    /// With those that are removed and still open or known to the kernel.
    by_inode: HashMap<u64, (Arc<Scratch>, u64)>,
    by_handle: HashMap<u64, Arc<Scratch>>,
}

impl Scratches {
    /// Inode numbers made here have `generation` in them: no two workers make the same.
    pub(super) fn new(generation: u32, link: Arc<Link>) -> Self {
        Self {
            link,
            table: Mutex::new(Table {
                next: INODE_BIT | u64::from(generation) << 32,
                by_name: HashMap::new(),
                by_inode: HashMap::new(),
                by_handle: HashMap::new(),
            }),
        }
    }

    /// Creates a file, and counts one lookup. ENOSPC if there are too many.
    pub(super) fn create(&self, name: &str, how: Creation) -> Result<Arc<Scratch>, Errno> {
        let mut table = self.table.lock();
        if table.by_inode.len() >= FILES_MAX {
            return Err(Errno::ENOSPC);
        }
        table.next += 1;
        let now = SystemTime::now();
        let scratch = Arc::new(Scratch {
            ino: table.next,
            page_cached: AtomicBool::new(false),
            link: Arc::clone(&self.link),
            state: Mutex::new(State {
                name: Some(name.to_owned()),
                bytes: Zeroizing::default(),
                mode: (how.mode & 0o7777) as u16,
                uid: how.uid,
                gid: how.gid,
                modified: now,
                created: now,
                opens: 0,
                closed: Instant::now(),
                tries: 0,
                mkstemp: how.is_mkstemp() || is_vims_probe(name),
                cut: false,
            }),
        });
        table
            .by_inode
            .insert(scratch.ino, (Arc::clone(&scratch), 1));
        table.by_name.insert(key(name), Arc::clone(&scratch));
        self.link.deposit(NoteKey::Temporary(scratch.ino), b"");
        Ok(scratch)
    }

    /// The file of this name.
    pub(super) fn named(&self, name: &str) -> Option<Arc<Scratch>> {
        self.table.lock().by_name.get(&key(name)).cloned()
    }

    /// The file of this name, with one lookup counted.
    pub(super) fn lookup(&self, name: &str) -> Option<Arc<Scratch>> {
        let mut table = self.table.lock();
        let scratch = table.by_name.get(&key(name)).cloned()?;
        table
            .by_inode
            .entry(scratch.ino)
            .or_insert_with(|| (Arc::clone(&scratch), 0))
            .1 += 1;
        Some(scratch)
    }

    /// The file with this inode number.
    pub(super) fn get(&self, ino: u64) -> Option<Arc<Scratch>> {
        self.table
            .lock()
            .by_inode
            .get(&ino)
            .map(|(scratch, _)| Arc::clone(scratch))
    }

    /// Enters an open file.
    pub(super) fn enter(&self, fh: u64, scratch: &Arc<Scratch>) {
        self.table.lock().by_handle.insert(fh, Arc::clone(scratch));
        scratch.state.lock().opens += 1;
    }

    /// The file that is open under this number.
    pub(super) fn opened(&self, fh: u64) -> Option<Arc<Scratch>> {
        self.table.lock().by_handle.get(&fh).cloned()
    }

    /// Takes an open file out, if there is one. `Some` with its inode's number if the kernel may
    /// have pages of it.
    pub(super) fn close(&self, fh: u64) -> Option<Option<u64>> {
        let scratch = self.table.lock().by_handle.remove(&fh)?;
        scratch.left();
        let page_cached = scratch.page_cached.load(Ordering::Relaxed);
        Some(page_cached.then_some(scratch.ino))
    }

    /// The kernel forgets `lookups` lookups.
    pub(super) fn forget(&self, ino: u64, lookups: u64) {
        let mut table = self.table.lock();
        if let Some((scratch, count)) = table.by_inode.get_mut(&ino) {
            *count = count.saturating_sub(lookups);
            if *count == 0 && scratch.state.lock().name.is_none() {
                table.by_inode.remove(&ino);
            }
        }
    }

    /// Removes the name; the bytes live on while somebody has the file open.
    pub(super) fn unlink(&self, name: &str) -> Option<Arc<Scratch>> {
        let mut table = self.table.lock();
        let scratch = table.by_name.remove(&key(name))?;
        {
            let mut state = scratch.state.lock();
            state.name = None;
            scratch.note_end(&state);
        }
        if table
            .by_inode
            .get(&scratch.ino)
            .is_some_and(|(_, lookups)| *lookups == 0)
        {
            table.by_inode.remove(&scratch.ino);
        }
        Some(scratch)
    }

    /// Removes a file, whatever its name is by now.
    pub(super) fn remove(&self, scratch: &Scratch) {
        let name = scratch.state.lock().name.clone();
        name.and_then(|name| self.unlink(&name));
    }

    /// Gives a file another temporary name, in place of any that has it.
    pub(super) fn rename(&self, from: &str, to: &str) {
        let Some(scratch) = self.named(from) else {
            return;
        };
        self.unlink(to);
        let mut table = self.table.lock();
        table.by_name.remove(&key(from));
        scratch.state.lock().name = Some(to.to_owned());
        table.by_name.insert(key(to), scratch);
    }

    /// Whether there is any, open or not.
    pub(super) fn is_empty(&self) -> bool {
        self.table.lock().by_name.is_empty()
    }

    /// The files whose time is over.
    pub(super) fn expire(&self, now: Instant) -> Vec<Expired> {
        self.ended(|closed, life| now >= closed + life)
    }

    /// All closed files, whatever is left of their time.
    pub(super) fn expire_all(&self) -> Vec<Expired> {
        self.ended(|_, _| true)
    }

    fn ended(&self, is_over: impl Fn(Instant, Duration) -> bool) -> Vec<Expired> {
        let mut expired = Vec::new();
        let names: Vec<_> = self.table.lock().by_name.values().cloned().collect();
        for scratch in names {
            let mut state = scratch.state.lock();
            let Some(name) = state.name.clone() else {
                continue;
            };
            let secret = SecretName::parse(&name).ok().filter(|_| state.mkstemp);
            let life = if secret.is_some() { MKSTEMP_LIFE } else { LIFE };
            if state.opens > 0 || !is_over(state.closed, life) {
                continue;
            }
            state.tries += 1;
            let last = state.tries == TRIES;
            let empty = state.bytes.is_empty();
            drop(state);
            expired.push(match secret {
                Some(name) if !empty => {
                    let file = InUse::new(scratch);
                    Expired::Secret { name, file, last }
                }
                _ => {
                    self.unlink(&name);
                    Expired::Dropped(name)
                }
            });
        }
        expired
    }
}

/// A name as the table has it: a secret's name without case, since it is one name.
fn key(name: &str) -> String {
    SecretName::parse(name).map_or_else(|_| name.to_owned(), |secret| secret.folded())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MKSTEMP: Creation = Creation {
        uid: 0,
        gid: 0,
        mode: 0o100_600,
        flags: libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC,
    };

    #[tokio::test(start_paused = true)]
    async fn there_are_at_most_64_of_64_kib() {
        let scratches = Scratches::new(1, Arc::new(Link::detached()));
        for number in 0..64 {
            scratches.create(&format!("t{number}"), MKSTEMP).unwrap();
        }
        assert_eq!(
            scratches.create("u", MKSTEMP).map(|_| ()),
            Err(Errno::ENOSPC)
        );
        let scratch = scratches.named("t0").unwrap();
        scratch.write(WriteAt::Offset(0), &[1; 65536]).unwrap();
        assert_eq!(scratch.write(WriteAt::End, b"x"), Err(Errno::EFBIG));
        assert_eq!(scratch.attributes().size, 65536);
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_file_lives_while_the_kernel_knows_it() {
        let scratches = Scratches::new(1, Arc::new(Link::detached()));
        let scratch = scratches.create("t", MKSTEMP).unwrap();
        scratches.unlink("t");
        assert!(scratches.named("t").is_none());
        assert!(scratches.get(scratch.ino).is_some());
        scratches.forget(scratch.ino, 1);
        assert!(scratches.get(scratch.ino).is_none());
    }
}
