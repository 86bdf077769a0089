//! Random operations on the filesystem, without a kernel, against the model.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::model::{How, Model, NAMES, Op, Outcome, ops};
use super::*;

/// A filesystem, and the files that the operations opened, as the model counts them.
struct Subject {
    mount: Mount,
    open: Vec<Option<Open>>,
}

#[derive(Clone, Copy)]
struct Open {
    fh: u64,
    ino: u64,
    how: How,
}

impl Subject {
    async fn apply(&mut self, op: &Op) -> Result<Outcome, Errno> {
        let fs = &self.mount.fs;
        match op {
            Op::Open { name, how } => {
                let open = self.open_file(NAMES[*name], *how).await?;
                self.open.push(Some(open));
            }
            // The kernel keeps these from a file that was not opened for them.
            Op::Read { handle, .. } if !self.opened(*handle).how.reads() => {
                return Err(Errno::EBADF);
            }
            Op::Write { handle, .. } if !self.opened(*handle).how.writes() => {
                return Err(Errno::EBADF);
            }
            Op::Resize { handle, .. } if !self.opened(*handle).how.writes() => {
                return Err(Errno::EINVAL);
            }
            Op::Read {
                handle,
                offset,
                length,
            } => {
                let Open { fh, ino, .. } = self.opened(*handle);
                let bytes = fs.read(fh, ino, *offset, *length, false).await?;
                return Ok(Outcome::Bytes(bytes.expose().to_vec()));
            }
            Op::Write {
                handle,
                offset,
                data,
            } => {
                let open = self.opened(*handle);
                let at = match open.how {
                    How::Append => WriteAt::End,
                    _ => WriteAt::Offset(*offset),
                };
                let data = SecretBytes::new(data.clone());
                fs.write(open.fh, at, &data).await?;
            }
            Op::Resize { handle, length } => {
                let open = self.opened(*handle);
                let change = Change {
                    size: Some(*length),
                    ..Change::default()
                };
                fs.setattr(open.ino, Some(open.fh), change, 7).await?;
            }
            Op::Fsync { handle } => fs.fsync(self.opened(*handle).fh).await?,
            Op::Close { handle } => {
                let open = self.open[*handle].take().unwrap();
                let closed = fs.flush(open.fh, 7).await;
                fs.release(open.fh).await;
                closed?;
            }
            Op::Stat { name } => {
                return Ok(Outcome::Size(self.mount.lookup(NAMES[*name]).await?.size));
            }
            Op::Replace { name, value } => self.replace(NAMES[*name], value).await?,
            Op::SetElsewhere { name, value } => self.mount.vault.put(NAMES[*name], value),
            // A program that is gone without a close: only the RELEASE comes.
            Op::Kill { name, value } => {
                let open = self.open_file(NAMES[*name], How::Replace).await?;
                self.mount.write(open.fh, value).await?;
                fs.release(open.fh).await;
            }
            Op::FailNextSet => *self.mount.vault.set_faults.lock() = [Failure::ScopeLocked].into(),
        }
        Ok(Outcome::Done)
    }

    fn opened(&self, handle: usize) -> Open {
        self.open[handle].unwrap()
    }

    async fn open_file(&self, name: &str, how: How) -> Result<Open, Errno> {
        let access = Access {
            read: how.reads(),
            write: how.writes(),
            truncate: how == How::Replace,
        };
        let (ino, opened) = match self.mount.lookup(name).await {
            Ok(entry) => (entry.ino, self.mount.fs.open(entry.ino, access, 7).await?),
            Err(Errno::ENOENT) if how == How::Replace => {
                let created = self.mount.fs.create(ROOT, OsStr::new(name), 7, PLAINLY);
                let (entry, opened) = created.await?;
                (entry.ino, opened)
            }
            Err(errno) => return Err(errno),
        };
        let fh = opened.fh;
        Ok(Open { fh, ino, how })
    }

    async fn replace(&self, name: &str, value: &[u8]) -> Result<(), Errno> {
        let fs = &self.mount.fs;
        let temporary = format!("{name}.tmp");
        let exclusively = Creation {
            flags: PLAINLY.flags | libc::O_EXCL,
            ..PLAINLY
        };
        let from = OsStr::new(&temporary);
        let created = fs.create(ROOT, from, 7, exclusively).await?;
        let fh = created.1.fh;
        self.mount.write(fh, value).await?;
        fs.release(fh).await;
        // The kernel looks the target up before it renames.
        let _ = self.mount.lookup(name).await;
        let renamed = fs.rename((ROOT, from), (ROOT, OsStr::new(name)), 7).await;
        if renamed.is_err() {
            fs.unlink(ROOT, from)?;
        }
        renamed
    }
}

async fn agree(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut subject = Subject {
        mount: mount(),
        open: Vec::new(),
    };
    let mut model = Model::default();
    for op in &ops {
        let Some(expected) = model.apply(op) else {
            continue;
        };
        let outcome = subject.apply(op).await;
        let outcome = outcome.unwrap_or_else(Outcome::Failed);
        // The size of a name that is being created is that of whichever handle is meant.
        if !(matches!(outcome, Outcome::Size(_)) && expected == Outcome::Done) {
            prop_assert_eq!(&outcome, &expected, "{:?}", op);
        }
        for (name, versions) in NAMES.iter().zip(&model.versions) {
            prop_assert_eq!(&subject.mount.vault.values(name), versions, "{:?}", op);
        }
        // A failed lookup is remembered for a moment.
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_operations_end_as_the_model_says(ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(agree(ops))?;
    }
}
