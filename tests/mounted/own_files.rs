//! `.keyvaultfs/`: "what the mount is doing (JSON; Prometheus text), never a value".

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use keyvaultfs::emulator::{CertificateFormat, Fault, KeyAccess, Operation};
use nix::sys::signal::{Signal, kill};

use crate::harness::{Mount, Outcome, Setup};

#[test]
fn the_directory_is_listed_and_its_files_are_read_with_no_request() {
    let mount = Mount::new();
    assert_eq!(mount.sh("ls -A $M/.keyvaultfs").ok(), "metrics\nstatus\n");
    let script = "stat -c '%A' $M/.keyvaultfs $M/.keyvaultfs/status $M/.keyvaultfs/metrics";
    assert_eq!(
        mount.sh(script).ok(),
        "dr-xr-xr-x\n-r--r--r--\n-r--r--r--\n"
    );
    // The size is true, or tar and rsync would cut it.
    let script = "tar -C $M -cf $D/a.tar .keyvaultfs && tar -C $D -xf $D/a.tar && \
                  grep -c start_time $D/.keyvaultfs/metrics";
    assert_eq!(mount.sh(script).ok(), "3\n");
    for script in ["echo x > $M/.keyvaultfs/status", "touch $M/.keyvaultfs/new"] {
        assert_ne!(mount.sh(script).code, Some(0), "{script}");
    }
    assert_eq!(
        mount.count(Operation::Get) + mount.count(Operation::List),
        0
    );
}

#[test]
fn the_status_says_who_reads_and_what_failed_and_never_a_value() {
    let mount = Mount::new();
    mount.emulator.set_secret("db", "s3cret-value");
    mount.sh("cat $M/db").ok();
    mount
        .emulator
        .add_fault(Fault::error(403, "Forbidden", Some("AccessDenied")));
    mount.sh("cat $M/db").fails_with("Permission denied");
    let script = r#"python3 -c '
import json, sys
status = json.load(open(sys.argv[1]))
print(status["identity"]["kind"], status["errors"]["Forbidden"]["errno"],
      status["worker_restarts"], status["uptime_seconds"] < 60,
      status["identity"]["token"]["expires"] > 1600000000)
' $M/.keyvaultfs/status"#;
    assert_eq!(mount.sh(script).ok(), "imds EACCES 0 True True\n");
    let text = mount.sh("cat $M/.keyvaultfs/status $M/.keyvaultfs/metrics");
    let text = text.ok();
    assert!(!text.contains("s3cret") && !text.contains("db"), "{text}");
    for line in [
        "keyvaultfs_requests_total{service=\"vault\",method=\"GET\",status=\"200\"} 1",
        "keyvaultfs_requests_total{service=\"identity\",method=\"GET\",status=\"200\"} 1",
        "keyvaultfs_operations_total{operation=\"open\",outcome=\"EACCES\"} 1",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
    }
}

#[test]
fn all_kinds_of_files_outlive_the_worker_and_the_status_counts_it() {
    let account =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acct";
    let mount = Setup::new()
        .argument(&format!("--storage-account={account}"))
        .argument("--arm-endpoint=RESOURCE_MANAGER")
        .mount();
    mount
        .emulator
        .set_storage_account(account, KeyAccess::Granted);
    for (name, format) in [
        ("p12", CertificateFormat::Pkcs12),
        ("pem", CertificateFormat::Pem),
    ] {
        let kept = mount.emulator.keep_certificate(name, "localhost", format);
        kept.expect("a certificate can be made");
    }
    let names = ["p12.pem", "p12.pfx", "pem.pem", ".storage/acct/key1"];
    let whole = names.map(|name| std::fs::read(mount.path(name)).unwrap());
    let mut open = names.map(|name| File::open(mount.path(name)).unwrap());
    kill_worker(&mount);
    for (index, name) in names.iter().enumerate() {
        let mut content = Vec::new();
        let read = open[index].read_to_end(&mut content);
        assert!(read.is_ok() && content == whole[index], "{name}: {read:?}");
    }
    let status = mount.sh("cat $M/.keyvaultfs/status");
    assert!(status.ok().contains("\"worker_restarts\": 1"), "{status:?}");
}

#[test]
fn a_reader_never_gets_two_pfx_spliced_that_were_made_of_one_pem() {
    let mount = Mount::new();
    let kept = mount
        .emulator
        .keep_certificate("web", "localhost", CertificateFormat::Pem);
    kept.expect("a certificate can be made");
    let mut open = File::open(mount.path("web.pfx")).unwrap();
    let mut start = [0; 100];
    open.read_exact(&mut start).unwrap();
    kill_worker(&mount);
    let read = open.read(&mut start);
    let errno = read.expect_err("it is another file by now").raw_os_error();
    assert_eq!(errno, Some(nix::errno::Errno::EIO as i32));
}

fn kill_worker(mount: &Mount) {
    kill(mount.worker(), Signal::SIGKILL).expect("it can be killed");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let Some(promtool) = promtool() else {
        eprintln!("SKIPPED: there is no promtool; scripts/test unpacks one where apt has it");
        return;
    };
    let mount = Mount::new();
    mount.emulator.set_secret("db", "1");
    mount
        .sh("cat $M/db; cat $M/missing")
        .fails_with("No such file");
    let script = format!("{promtool} check metrics < $M/.keyvaultfs/metrics 2>&1");
    assert_eq!(mount.sh(&script).ok(), "");
}

/// Prometheus's own checker: installed, or unpacked by `scripts/test`.
fn promtool() -> Option<String> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/prometheus/usr/bin/promtool");
    let candidates = ["promtool".to_owned(), unpacked.display().to_string()];
    candidates.into_iter().find(|candidate| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("command -v {candidate}")]);
        Outcome::of(&mut command, candidate).code == Some(0)
    })
}
