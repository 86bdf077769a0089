//! What the keeper's relay costs: open-read-close of a secret, through keeper and worker as users
//! mount it, against the same worker on /dev/fuse itself. Both in one run, in turns, against one
//! emulator: only the ratios mean anything on a shared machine.
//!
//! `cargo bench --features emulator --bench open_read_close [-- ROUNDS]`; needs root.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyvaultfs::cli;
use keyvaultfs::link::{Handover, Link};
use keyvaultfs::sys::fuse_mount::FuseMount;
use keyvaultfs::worker;
use nix::mount::{MntFlags, umount2};
use serde_json::Value;
use tempfile::TempDir;

/// Makes this program serve a mount itself; the program's own arguments follow.
const SERVE: &str = "--serve-without-keeper";
const PROGRAM: &str = env!("CARGO_BIN_EXE_keyvaultfs");
const VALUE: &str = "sixty-four bytes, the length of many a password in a vault, or so.";
const BATCH: usize = 200;

fn main() {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == SERVE) {
        return serve_without_keeper(&words);
    }
    // cargo adds arguments of its own.
    let rounds = words.iter().find_map(|word| word.to_str()?.parse().ok());
    compare(rounds.unwrap_or(15));
}

/// The worker on /dev/fuse.
fn serve_without_keeper(words: &[OsString]) {
    let config = cli::config(words).expect("the arguments of a mount");
    let source = config.source.clone();
    let mountpoint = config.mountpoint.clone();
    let mount = FuseMount {
        source: &source,
        mountpoint: &mountpoint,
        allow_other: false,
        read_only: false,
        security_contexts: &[],
    };
    let device = mount.mount().expect("a FUSE mount, as root");
    let handover = Handover {
        config,
        generation: 1,
        notes: Vec::new(),
        foreground: true,
    };
    worker::serve(handover, device, Link::detached()).expect("a session");
}

/// Does something [`BATCH`] times, and says how long each took.
type Operation = fn(&Path, &mut Vec<Duration>);

fn compare(rounds: usize) {
    let emulator = Emulator::start();
    let relayed = Mounted::with_keeper(&emulator);
    let direct = Mounted::without_keeper(&emulator);
    let mounts = [&relayed, &direct];

    println!("{rounds} rounds of {BATCH}, in turns; microseconds");
    println!(
        "{:<34}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "", "p50", "p99", "p50", "p99", "ratio"
    );
    println!(
        "{:<34}{:>18}{:>18}{:>9}",
        "", "keeper", "/dev/fuse", "of p50s"
    );
    let operations: [(&str, Operation); 2] = [
        ("open, read, close (one pull each)", open_read_close),
        ("pread of an open file (no pull)", read_open_file),
    ];
    for (name, operation) in operations {
        let mut times = [Vec::new(), Vec::new()];
        let mut ratios = Vec::new();
        for round in 0..=rounds {
            let mut batch = [Vec::new(), Vec::new()];
            for (mount, times) in mounts.iter().zip(&mut batch) {
                operation(&mount.secret(), times);
                times.sort_unstable();
            }
            // The first round warms up connections and caches.
            if round > 0 {
                let middle = |times: &[Duration]| times[times.len() / 2].as_secs_f64();
                ratios.push(middle(&batch[0]) / middle(&batch[1]));
                times[0].append(&mut batch[0]);
                times[1].append(&mut batch[1]);
            }
        }
        let mut line = format!("{name:<34}");
        for times in &mut times {
            times.sort_unstable();
            for part in [50, 99] {
                let time = times[times.len() * part / 100].as_secs_f64() * 1e6;
                line.push_str(&format!("{time:>9.1}"));
            }
        }
        ratios.sort_by(f64::total_cmp);
        println!("{line}{:>9.2}", ratios[ratios.len() / 2]);
    }
}

fn open_read_close(path: &Path, times: &mut Vec<Duration>) {
    for _ in 0..BATCH {
        let began = Instant::now();
        let mut value = String::new();
        let mut file = File::open(path).expect("the secret opens");
        file.read_to_string(&mut value).expect("the secret is read");
        drop(file);
        times.push(began.elapsed());
        assert_eq!(value, VALUE);
    }
}

fn read_open_file(path: &Path, times: &mut Vec<Duration>) {
    let mut file = File::open(path).expect("the secret opens");
    file.rewind().expect("a file can be rewound");
    let mut value = [0; VALUE.len()];
    for _ in 0..BATCH {
        let began = Instant::now();
        file.read_exact_at(&mut value, 0)
            .expect("the secret is read");
        times.push(began.elapsed());
    }
    assert_eq!(value, VALUE.as_bytes());
}

/// The emulator as a process of its own, so that it burdens both sides alike.
struct Emulator {
    process: Child,
    endpoints: Value,
}

impl Emulator {
    fn start() -> Self {
        let mut process = Command::new(PROGRAM)
            .args(["emulator", "--secret", &format!("Secret={VALUE}")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the emulator starts");
        let mut line = String::new();
        let output = process.stdout.as_mut().expect("standard output is piped");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it says where it listens");
        let endpoints = serde_json::from_str(&line).expect("a line of JSON");
        Self { process, endpoints }
    }

    /// The arguments of a mount of its vault, but for the mountpoint.
    fn arguments(&self) -> [&str; 9] {
        let endpoint = |name: &str| self.endpoints[name].as_str().expect("a known endpoint");
        [
            "--identity",
            "imds",
            "--identity-endpoint",
            endpoint("imds"),
            "--resource",
            endpoint("resource"),
            "--ca-cert",
            endpoint("ca_cert"),
            endpoint("vault"),
        ]
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A mount that is gone when this is dropped.
struct Mounted {
    directory: TempDir,
    server: Option<Child>,
}

impl Mounted {
    fn with_keeper(emulator: &Emulator) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let status = Command::new(PROGRAM)
            .args(emulator.arguments())
            .arg(directory.path())
            .status();
        assert!(status.expect("the program starts").success());
        Self {
            directory,
            server: None,
        }
    }

    fn without_keeper(emulator: &Emulator) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let server = Command::new(std::env::current_exe().expect("this program's path"))
            .arg(SERVE)
            .args(emulator.arguments())
            .arg(directory.path())
            .spawn()
            .expect("this program starts again");
        let mounted = Self {
            directory,
            server: Some(server),
        };
        let limit = Instant::now() + Duration::from_secs(10);
        while !mounted.secret().exists() {
            assert!(Instant::now() < limit, "no mount without a keeper");
            std::thread::sleep(Duration::from_millis(20));
        }
        mounted
    }

    fn secret(&self) -> PathBuf {
        self.directory.path().join("Secret")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(self.directory.path(), MntFlags::MNT_DETACH);
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
