//! Ten thousand reads and sets by sixteen threads through a mount while one request in ten fails: no
//! wrong value, no set reported as done that is not there, no version that nobody asked for, and
//! no memory that grows.

use std::fs::File;
use std::io::Write;
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyvaultfs::emulator::{Effect, Fault, RetryAfter};
use nix::errno::Errno;
use parking_lot::Mutex;

use crate::harness::{Mount, Setup, errno, processes_of};

const THREADS: usize = 16;
/// Secrets that a thread sets; it reads all threads'.
const OWN: usize = 2;
/// What each thread does before memory is measured for the first time: 2,000 in all.
const FIRST: usize = 125;
/// And after that: 8,000 in all.
const REST: usize = 500;
/// One in so many is a set.
const SETS: u64 = 5;
/// Requests that the faults are spread over, about as many as are made.
const REQUESTS: u64 = 11_000;
/// What a process of the mount may grow by while four fifths of it all are done, in KiB. A leak of
/// one value for each operation would be five times that.
const GROWTH: u64 = 4096;

/// A generator whose numbers follow from its seed.
struct Numbers(u64);

impl Numbers {
    /// The next number below `limit`. (Marsaglia's xorshift.)
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What is known of a secret. Its values are numbered from 1.
#[derive(Default)]
struct Secret {
    /// The last set that began.
    begun: AtomicUsize,
    /// The last set that was reported as done.
    done: AtomicUsize,
    /// All of those.
    all_done: Mutex<Vec<usize>>,
}

/// Everything that the threads share.
struct Soak<'a> {
    mount: &'a Mount,
    secrets: Vec<Secret>,
    failed_reads: AtomicUsize,
    failed_sets: AtomicUsize,
}

/// A value that cannot be cut or mixed up unnoticed, of up to 5 KB.
fn value(secret: usize, number: usize) -> String {
    let line = format!("value {number} of s{secret}\n");
    line.repeat(1 + (secret * 31 + number * 17) % 300)
}

impl Soak<'_> {
    /// One thread's part: so many operations.
    fn run(&self, thread: usize, seed: u64, operations: usize) {
        let mut numbers = Numbers(seed + thread as u64);
        for _ in 0..operations {
            if numbers.below(SETS) == 0 {
                self.set(thread * OWN + numbers.below(OWN as u64) as usize);
            } else {
                self.read(numbers.below(self.secrets.len() as u64) as usize);
            }
        }
    }

    fn set(&self, index: usize) {
        let secret = &self.secrets[index];
        let number = secret.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let set = || {
            let mut file = errno(File::create(self.mount.path(&format!("s{index}"))))?;
            errno(file.write_all(value(index, number).as_bytes()))?;
            // Dropping a file hides what close(2) says.
            nix::unistd::close(file.into_raw_fd())
        };
        match set() {
            Ok(()) => {
                secret.done.store(number, Ordering::SeqCst);
                secret.all_done.lock().push(number);
            }
            Err(error) => {
                assert_transient(error);
                self.failed_sets.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn read(&self, index: usize) {
        let secret = &self.secrets[index];
        let least = secret.done.load(Ordering::SeqCst);
        let read = errno(std::fs::read(self.mount.path(&format!("s{index}"))));
        let most = secret.begun.load(Ordering::SeqCst);
        match read {
            // A file that is being created is there, and empty, before its first set.
            Ok(bytes) if bytes.is_empty() => assert_eq!((least, most > 0), (0, true), "s{index}"),
            // The last that was done before, or any that was tried since.
            Ok(bytes) => {
                let number = number_of(&bytes);
                assert!(
                    (least.max(1)..=most).contains(&number),
                    "{number} of {least}..={most}"
                );
                assert!(
                    bytes == value(index, number).as_bytes(),
                    "{number} of s{index} is torn"
                );
            }
            Err(Errno::ENOENT) => assert_eq!(least, 0, "s{index} has vanished"),
            Err(error) => {
                assert_transient(error);
                self.failed_reads.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// What the vault holds at the end is what was asked for, each once, in order; and all that
    /// was reported as done.
    fn check_versions(&self) {
        for (index, secret) in self.secrets.iter().enumerate() {
            let versions = self.mount.values(&format!("s{index}"));
            let numbers: Vec<usize> = versions
                .iter()
                .map(|text| number_of(text.as_bytes()))
                .collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "s{index}: {numbers:?}");
            for (number, text) in numbers.iter().zip(&versions) {
                assert!((1..=secret.begun.load(Ordering::SeqCst)).contains(number));
                assert!(
                    *text == value(index, *number),
                    "{number} of s{index} is torn"
                );
            }
            for number in secret.all_done.lock().iter() {
                assert!(
                    numbers.contains(number),
                    "{number} of s{index} is lost: {numbers:?}"
                );
            }
        }
    }
}

fn number_of(bytes: &[u8]) -> usize {
    let text = String::from_utf8_lossy(bytes);
    let word = text.split(' ').nth(1).unwrap_or_default();
    word.parse()
        .unwrap_or_else(|_| panic!("{text:.40?} is nobody's value"))
}

/// What the weather may end in, and nothing else: never "no such file", never "not permitted".
fn assert_transient(error: Errno) {
    let transient = [
        Errno::EIO,
        Errno::EAGAIN,
        Errno::EHOSTUNREACH,
        Errno::ETIMEDOUT,
    ];
    assert!(transient.contains(&error), "{error}");
}

/// One request in ten: connections and bodies cut before and after the request was carried out,
/// errors, pages of HTML, slow answers. 429 comes in two squalls, for it slows all down on purpose.
fn add_faults(mount: &Mount) {
    let error = |status| Fault::error(status, "Scripted", None);
    let squall = |start: u64| (start..start + 16).collect::<Vec<u64>>();
    let soon = RetryAfter::Milliseconds(100);
    mount
        .emulator
        .add_fault(Fault::throttled().only(squall(2000)));
    mount
        .emulator
        .add_fault(Fault::throttled().retry_after(soon).only(squall(9000)));
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for (fault, thousandths) in [
        (Fault::cut(), 15),
        (Fault::cut().after(), 15),
        (Fault::new(Effect::CutBody(25)).after(), 15),
        (Fault::new(Effect::Html { status: 200 }).after(), 10),
        (error(500), 10),
        (error(503).retry_after(RetryAfter::Milliseconds(20)), 10),
        (error(503).after(), 10),
        (Fault::delay(Duration::from_millis(50)), 14),
        // Longer than a lookup waits.
        (Fault::delay(Duration::from_millis(1200)), 1),
    ] {
        let calls = (0..REQUESTS * thousandths / 1000).map(|_| 1 + numbers.below(REQUESTS));
        mount
            .emulator
            .add_fault(fault.only(calls.collect::<Vec<_>>()));
    }
}

/// The memory of a process that is in use, in KiB.
fn resident(process: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number
        .and_then(|text| text.parse().ok())
        .expect("a process has memory")
}

#[test]
fn ten_thousand_operations_in_bad_weather_lose_nothing_and_leave_nothing_behind() {
    let mount = Setup::new().alone().mount();
    add_faults(&mount);
    let soak = Soak {
        mount: &mount,
        secrets: (0..THREADS * OWN).map(|_| Secret::default()).collect(),
        failed_reads: AtomicUsize::new(0),
        failed_sets: AtomicUsize::new(0),
    };
    let run = |seed: u64, operations: usize| {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let soak = &soak;
                scope.spawn(move || soak.run(thread, seed, operations));
            }
        });
    };
    let processes = processes_of(&mount.mountpoint);
    assert!(processes.len() >= 2, "a keeper and a worker: {processes:?}");
    run(0x2545_f491_4f6c_dd1d, FIRST);
    let before: Vec<u64> = processes.iter().map(|process| resident(*process)).collect();
    run(0x5851_f42d_4c95_7f2d, REST);
    let after: Vec<u64> = processes.iter().map(|process| resident(*process)).collect();
    soak.check_versions();

    assert_eq!(
        processes_of(&mount.mountpoint),
        processes,
        "none was replaced"
    );
    for (before, after) in before.iter().zip(&after) {
        assert!(*after <= before + GROWTH, "from {before} to {after} KiB");
    }
    let log = mount.emulator.log();
    let faulty = log.iter().filter(|entry| entry.status != Some(200)).count();
    assert!(
        faulty > 700,
        "only {faulty} of {} requests failed",
        log.len()
    );
    // Most are mended without anybody noticing.
    let reads = soak.failed_reads.load(Ordering::SeqCst);
    let sets = soak.failed_sets.load(Ordering::SeqCst);
    assert!(
        reads < 100 && sets < 50,
        "{reads} reads and {sets} sets failed"
    );
}
