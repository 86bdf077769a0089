//! Workers killed and programs replaced while files are read and written, against the emulator:
//! what a reader reads is one version whole, and what a close said holds.

#![cfg(feature = "emulator")]

#[path = "mounted/harness/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "each test program uses its own part"
)]
mod harness;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Mount, Setup, processes_of, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const READERS: usize = 8;
const OPENS: usize = 20_000;
const BLOWS: usize = 40;

/// A mount by a background keeper from a copy of the program, which can be replaced.
struct Storm {
    mount: Mount,
    program: PathBuf,
}

impl Storm {
    fn new() -> Self {
        let mount = Setup::new().alone().prepare();
        let program = mount.scratch.join("keyvaultfs");
        let storm = Self { mount, program };
        storm.install();
        let mounted = Command::new(&storm.program)
            .args(storm.mount.mount_arguments())
            .output()
            .unwrap();
        assert!(mounted.status.success(), "{mounted:?}");
        storm
    }

    /// Puts the program in place anew, as a package manager does.
    fn install(&self) {
        let beside = self.program.with_extension("new");
        // By another process, or a child of this one might hold it open for writing.
        let built = env!("CARGO_BIN_EXE_keyvaultfs");
        let copied = Command::new("cp").arg(built).arg(&beside).status();
        assert!(copied.unwrap().success());
        fs::rename(beside, &self.program).unwrap();
    }

    fn processes(&self, role: &str) -> Vec<Pid> {
        let all = processes_of(&self.mount.mountpoint).into_iter();
        let is_it = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|&byte| byte == 0).nth(1) == Some(role.as_bytes())
        };
        all.filter(is_it).map(Pid::from_raw).collect()
    }

    fn kill_worker(&self) {
        for worker in self.processes("@worker") {
            // It may be ending already.
            let _ = kill(worker, Signal::SIGKILL);
        }
    }

    /// Hands over to the program put in place anew, and waits until keeper and worker are it.
    fn hand_over(&self) {
        self.install();
        let file = fs::metadata(&self.program).unwrap();
        // A process that executes a program has no arguments for a moment.
        wait_until("there is one keeper", || {
            self.processes("@keeper").len() == 1
        });
        let keeper = self.processes("@keeper")[0];
        kill(keeper, Signal::SIGHUP).unwrap();
        let is_new = |process: Pid| {
            let executes = fs::metadata(format!("/proc/{process}/exe"));
            executes.is_ok_and(|exe| (exe.dev(), exe.ino()) == (file.dev(), file.ino()))
        };
        wait_until("keeper and worker are the new program", || {
            is_new(keeper) && self.processes("@worker").into_iter().all(is_new)
        });
    }
}

/// A value from which a part, or a mixture of two, can be told.
fn value(number: usize) -> String {
    format!("<{number}>").repeat(400)
}

/// Reads a file in small pieces; the number of the value it holds, whole.
fn read_value(path: &Path) -> io::Result<usize> {
    let mut file = File::open(path)?;
    let mut content = Vec::new();
    let mut piece = [0; 700];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            length => content.extend_from_slice(&piece[..length]),
        }
    }
    let text = String::from_utf8(content).expect("text was set");
    let number = text[1..].split('>').next().expect("it is a value");
    let number = number.parse().expect("it is a number");
    assert_eq!(text, value(number), "one version, whole");
    Ok(number)
}

/// Writes a file and closes it; what close said.
fn write_value(path: &Path, number: usize) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    let written = file.write_all(value(number).as_bytes());
    // `File` would drop the error of close.
    let closed = nix::unistd::close(file.into_raw_fd());
    written?;
    Ok(closed?)
}

/// Sets a flag when it goes, also by panic: what waits for the flag must not wait for ever.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// 20,000 opens by 8 readers while the secret is rotated and `blow` comes 40 times.
fn readers_notice_nothing(blow: impl Fn(&Storm)) {
    let storm = Storm::new();
    let path = storm.mount.path("rotated");
    storm.mount.emulator.set_secret("rotated", &value(0));
    let (opened, blows) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ends = SetOnDrop(&over);
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = 0;
                    // As many as are asked for, and on until the storm is over.
                    while opened.fetch_add(1, Ordering::SeqCst) < OPENS
                        || blows.load(Ordering::SeqCst) < BLOWS
                    {
                        let number = read_value(&path).expect("it can always be read");
                        assert!(number >= last, "{number} after {last}");
                        last = number;
                        if over.load(Ordering::SeqCst) {
                            return;
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            for number in 1.. {
                storm.mount.emulator.set_secret("rotated", &value(number));
                thread::sleep(Duration::from_millis(7));
                if over.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        for blow_number in 0..BLOWS {
            // Moments that have nothing to do with what the readers do.
            thread::sleep(Duration::from_millis(40 + (blow_number as u64 * 37) % 90));
            blow(&storm);
            blows.fetch_add(1, Ordering::SeqCst);
        }
        for reader in readers {
            reader.join().unwrap();
        }
    });
    assert!(opened.load(Ordering::SeqCst) >= OPENS);
}

/// Writers write one value after another while `blow` comes 40 times.
fn what_a_close_said_holds(blow: impl Fn(&Storm)) {
    const WRITERS: usize = 4;
    let storm = Storm::new();
    let over = AtomicBool::new(false);
    let name = |writer: usize| format!("written-{writer}");
    let acknowledged: Vec<Vec<usize>> = thread::scope(|scope| {
        let _ends = SetOnDrop(&over);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (path, over) = (storm.mount.path(&name(writer)), &over);
                scope.spawn(move || {
                    let mut acknowledged = Vec::new();
                    for number in 1.. {
                        if write_value(&path, number).is_ok() {
                            acknowledged.push(number);
                        }
                        if over.load(Ordering::SeqCst) {
                            return acknowledged;
                        }
                    }
                    unreachable!("numbers do not end");
                })
            })
            .collect();
        for blow_number in 0..BLOWS {
            thread::sleep(Duration::from_millis(40 + (blow_number as u64 * 37) % 90));
            blow(&storm);
        }
        over.store(true, Ordering::SeqCst);
        writers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    for (writer, acknowledged) in acknowledged.into_iter().enumerate() {
        let stored = storm.mount.values(&name(writer));
        let numbers: Vec<usize> = stored
            .iter()
            .map(|text| {
                let number = text[1..].split('>').next().unwrap().parse().unwrap();
                assert_eq!(*text, value(number), "never in part");
                number
            })
            .collect();
        assert!(
            numbers.is_sorted_by(|one, next| one < next),
            "in order, none twice: {numbers:?}"
        );
        assert!(acknowledged.len() > BLOWS / 2, "{}", acknowledged.len());
        let missing: Vec<_> = acknowledged
            .iter()
            .filter(|n| !numbers.contains(n))
            .collect();
        assert!(
            missing.is_empty(),
            "closed without an error and not set: {missing:?}"
        );
    }
}

#[test]
fn no_reader_notices_forty_killed_workers() {
    readers_notice_nothing(Storm::kill_worker);
}

#[test]
fn no_reader_notices_forty_new_programs() {
    readers_notice_nothing(Storm::hand_over);
}

#[test]
fn what_a_close_said_holds_though_workers_are_killed() {
    what_a_close_said_holds(Storm::kill_worker);
}

#[test]
fn what_a_close_said_holds_though_programs_are_replaced() {
    what_a_close_said_holds(Storm::hand_over);
}

#[test]
fn readers_hung_on_one_name_slow_no_other_down() {
    let storm = Storm::new();
    for name in ["hung", "other"] {
        storm.mount.emulator.set_secret(name, &value(1));
    }
    let other = storm.mount.path("other");
    let median = || {
        let mut times: Vec<Duration> = (0..400)
            .map(|_| {
                let begin = Instant::now();
                read_value(&other).unwrap();
                begin.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    median();
    let hang = keyvaultfs::emulator::Fault::hang().secret("hung");
    // The machine may be busy with something else once; not three times.
    let ratios = (0..3).map(|_| {
        let before = median();
        let fault = storm.mount.emulator.add_fault(hang.clone());
        let hung: Vec<_> = (0..200)
            .map(|_| {
                let mut cat = Command::new("cat");
                cat.arg(storm.mount.path("hung"))
                    .stderr(std::process::Stdio::null());
                cat.spawn().unwrap()
            })
            .collect();
        thread::sleep(Duration::from_millis(1500));
        let during = median();
        for mut cat in hung {
            cat.kill().unwrap();
            cat.wait().unwrap();
        }
        storm.mount.emulator.remove_fault(fault);
        during.as_secs_f64() / before.as_secs_f64()
    });
    let ratio = ratios.fold(f64::MAX, f64::min);
    assert!(ratio < 1.2, "{ratio}");
}

#[test]
fn who_waits_for_a_hung_vault_can_be_interrupted() {
    let storm = Storm::new();
    let hang = keyvaultfs::emulator::Fault::hang();
    storm.mount.emulator.add_fault(hang);
    for tool in [
        "cat \"$M/read\"",
        "stat \"$M/seen\"",
        "cp \"$M/copied\" \"$D/copy\"",
        "echo x | tee \"$M/written\"",
    ] {
        let outcome = storm.mount.sh(&format!("timeout -s INT 1 sh -c '{tool}'"));
        assert_eq!(outcome.code, Some(124), "{outcome:?}");
        assert!(outcome.took < Duration::from_millis(1100), "{outcome:?}");
    }
    // The kernel lets a second one look up a cold name only after the first.
    let both = "cat \"$M/cold\" & timeout -s INT 0.3 cat \"$M/cold\"; kill $!; wait";
    let outcome = storm.mount.sh(both);
    assert!(outcome.took < Duration::from_millis(1400), "{outcome:?}");
}
