//! Random operations on a real mount, by system calls, against the model that the filesystem is
//! held to without a kernel.

use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use keyvaultfs::emulator::Fault;
use nix::errno::Errno;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};

use crate::harness::{Mount, Setup};
use crate::model::{How, Model, NAMES, Op, Outcome, ops};

/// A mount, names of a case's own on it, and the files that are open, as the model counts them.
struct Subject<'a> {
    mount: &'a Mount,
    case: usize,
    open: Vec<Option<File>>,
}

impl Subject<'_> {
    fn name(&self, name: usize) -> String {
        format!("case{}-{}", self.case, NAMES[name])
    }

    fn file(&self, handle: usize) -> &File {
        self.open[handle].as_ref().expect("the model knows it open")
    }

    fn apply(&mut self, op: &Op) -> Result<Outcome> {
        match op {
            Op::Open { name, how } => {
                let mut options = OpenOptions::new();
                match how {
                    How::Read => options.read(true),
                    How::Update => options.read(true).write(true),
                    How::Append => options.append(true),
                    How::Replace => options.write(true).create(true).truncate(true),
                };
                let file = options.open(self.mount.path(&self.name(*name)))?;
                self.open.push(Some(file));
            }
            Op::Read {
                handle,
                offset,
                length,
            } => {
                let mut bytes = vec![0; *length as usize];
                let count = self.file(*handle).read_at(&mut bytes, *offset)?;
                bytes.truncate(count);
                return Ok(Outcome::Bytes(bytes));
            }
            Op::Write {
                handle,
                offset,
                data,
            } => self.file(*handle).write_all_at(data, *offset)?,
            Op::Resize { handle, length } => self.file(*handle).set_len(*length)?,
            Op::Fsync { handle } => self.file(*handle).sync_all()?,
            Op::Close { handle } => {
                let file = self.open[*handle].take().expect("the model knows it open");
                nix::unistd::close(file.into_raw_fd())?;
            }
            Op::Stat { name } => {
                let shown = std::fs::metadata(self.mount.path(&self.name(*name)))?;
                return Ok(Outcome::Size(shown.len()));
            }
            Op::Replace { name, value } => self.replace(&self.name(*name), value)?,
            Op::SetElsewhere { name, value } => {
                // That a name is not there is remembered for a tenth of a second.
                std::thread::sleep(Duration::from_millis(110));
                let value = String::from_utf8_lossy(value);
                self.mount.emulator.set_secret(&self.name(*name), &value);
            }
            Op::Kill { name, value } => {
                let (name, value) = (self.name(*name), String::from_utf8_lossy(value));
                let script = format!("(printf {value}; kill -KILL $BASHPID) > $M/{name}");
                self.mount.sh(&script);
            }
            Op::FailNextSet => {
                self.mount.emulator.clear_faults();
                let fault = Fault::error(409, "ScopeLocked", None);
                self.mount.emulator.add_fault(fault.method("PUT").first(1));
            }
        }
        Ok(Outcome::Done)
    }

    fn replace(&self, name: &str, value: &[u8]) -> Result<()> {
        let temporary = self.mount.path(&format!("{name}.tmp"));
        let file = File::create_new(&temporary)?;
        file.write_all_at(value, 0)?;
        drop(file);
        let renamed = std::fs::rename(&temporary, self.mount.path(name));
        if renamed.is_err() {
            std::fs::remove_file(&temporary)?;
        }
        renamed
    }
}

fn agree(mount: &Mount, case: usize, ops: &[Op]) -> std::result::Result<(), TestCaseError> {
    mount.emulator.clear_faults();
    let mut model = Model::default();
    let mut subject = Subject {
        mount,
        case,
        open: Vec::new(),
    };
    for op in ops {
        let Some(expected) = model.apply(op) else {
            continue;
        };
        let outcome = subject.apply(op).unwrap_or_else(|error| {
            Outcome::Failed(Errno::from_raw(error.raw_os_error().unwrap_or_default()))
        });
        // The size of a name that is being created is that of whichever handle is meant.
        if !(matches!(outcome, Outcome::Size(_)) && expected == Outcome::Done) {
            prop_assert_eq!(&outcome, &expected, "{:?}", op);
        }
        for (name, versions) in model.versions.iter().enumerate() {
            let seen = mount.values(&subject.name(name));
            let seen: Vec<_> = seen.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(&seen, versions, "{:?}", op);
        }
    }
    Ok(())
}

#[test]
fn random_system_calls_end_as_the_model_says() {
    // The question whether a name may be set is a PUT, too, and would use up a scripted fault.
    let mount = Setup::new().argument("--no-set-check").mount();
    let cases = std::cell::Cell::new(0);
    let config = ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(&ops(), |ops| {
        cases.set(cases.get() + 1);
        agree(&mount, cases.get(), &ops)
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
