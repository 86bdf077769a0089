//! "10 s after the last close no copy of a value is to be found in any process of the mount."

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyvaultfs::emulator::{CertificateFormat, KeyAccess};

use crate::harness::{Mount, Setup, processes_of};

const READ: &str = "canary-that-was-read-0b9e6c1d";
const WRITTEN: &str = "canary-that-was-written-77f2a4c8";

/// How often some bytes occur in the memory of the mount's processes.
fn copies(mount: &Mount, text: impl AsRef<[u8]>) -> usize {
    let processes = processes_of(&mount.mountpoint);
    assert!(processes.len() >= 2, "a keeper and a worker: {processes:?}");
    let found = processes
        .iter()
        .map(|process| copies_in(*process, text.as_ref()));
    found.sum()
}

fn copies_in(process: i32, text: &[u8]) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let mut found = 0;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with('r') || rest.contains("[v") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // A mapping that has gone since, or guards a stack, cannot be read.
        if memory.read_exact_at(&mut bytes, start).is_err() {
            continue;
        }
        found += bytes
            .windows(text.len())
            .filter(|window| *window == text)
            .count();
    }
    found
}

#[test]
fn ten_seconds_after_the_last_close_no_process_has_a_copy_of_a_value() {
    let mount = Mount::new();
    mount.emulator.set_secret("a", READ);
    let open = File::open(mount.path("a")).unwrap();
    std::fs::write(mount.path("b"), WRITTEN).unwrap();
    assert_eq!(mount.values("b"), [WRITTEN]);
    assert!(copies(&mount, READ) > 0, "the scan finds what is there");
    drop(open);
    thread::sleep(Duration::from_secs(10));
    assert_eq!([READ, WRITTEN].map(|text| copies(&mount, text)), [0, 0]);
}

#[test]
fn nor_has_any_a_copy_of_a_certificates_key_or_a_storage_accounts() {
    let account =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acct";
    let mount = Setup::new()
        .argument(&format!("--storage-account={account}"))
        .argument("--arm-endpoint=RESOURCE_MANAGER")
        .mount();
    let [storage_key, _] = mount
        .emulator
        .set_storage_account(account, KeyAccess::Granted);
    let kept = mount
        .emulator
        .keep_certificate("web", "localhost", CertificateFormat::Pkcs12);
    kept.expect("a certificate can be made");

    let open = File::open(mount.path("web.pem")).unwrap();
    let pem = std::fs::read_to_string(mount.path("web.pem")).unwrap();
    let connection = std::fs::read_to_string(mount.path(".storage/acct/connection-string"));
    assert!(connection.unwrap().contains(&storage_key));
    let line = pem.lines().nth(1).unwrap().to_owned();
    let key: String = pem
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('-'))
        .collect();
    let key = STANDARD.decode(key).unwrap();
    // The number itself, in a P-256 key as PKCS #8 has it.
    let number = key[36..68].to_vec();
    let stored = mount.values("web").remove(0).into_bytes()[1000..1032].to_vec();
    let canaries = [line.into_bytes(), number, stored, storage_key.into_bytes()];
    assert!(
        copies(&mount, &canaries[0]) > 0,
        "the scan finds what is there"
    );
    drop(open);
    thread::sleep(Duration::from_secs(10));
    let left: Vec<usize> = canaries
        .iter()
        .map(|canary| copies(&mount, canary))
        .collect();
    assert_eq!(left, [0, 0, 0, 0], "PEM, number, stored PFX, storage key");
}
