//! Where a row runs: a mount of its own, seen at `/mnt/secrets` from a mount namespace in which
//! every place for temporary files is an empty tmpfs.
//!
//! vim does not back up what lies under `/tmp`; a namespace of its own also lets the search for
//! copies of a value look at everything the tool can have written. It has a network of its own,
//! too, and whatever it leaves running ends with its process namespace.

use std::process::{Command, Stdio};

use keyvaultfs::emulator::{Fault, Operation, Permission};

use crate::harness::{Mount, Outcome, Setup};
use crate::row::{NEW, Policy, Row};

/// The secret's name.
pub(crate) const NAME: &str = "Db";
/// Seconds that a tool may take on a machine that is busy.
const PATIENCE: &str = "30";

/// Lays out the namespace, runs `$SCRIPT`, lists what holds the canary, exits as the script did.
const SANDBOX: &str = r#"
set -e
busybox ip link set lo up
exec 9>"$D/leaks"
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/secrets /mnt/home /mnt/work
cp "$D/old" "$D/new" /mnt/work
mount --bind "$M" /mnt/secrets
for place in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs $place; done
cd /mnt/work
set +e
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt/home USER=root LC_ALL=C.UTF-8 TERM=xterm \
    M=/mnt/secrets S="/mnt/secrets/$NAME" timeout --kill-after=5 "$PATIENCE" bash -c "$PRELUDE$SCRIPT"
status=$?
grep -rlaF -e "$CANARY" /tmp /var/tmp /dev/shm /mnt/home >&9
exit $status
"#;

/// A pipeline fails if any part does; `up PORT` waits until somebody listens there.
const PRELUDE: &str = "set -o pipefail; up() { for i in {1..250}; do (: < /dev/tcp/127.0.0.1/$1) 2>/dev/null && return; sleep 0.02; done; }\n";

/// What came of a row.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    /// All versions of the secret, oldest first.
    pub(crate) versions: Vec<String>,
    /// Secrets in the vault besides it.
    pub(crate) strays: Vec<String>,
    /// Files outside of the vault that hold a value.
    pub(crate) leaks: String,
    /// The vault's requests, in order.
    pub(crate) requests: Vec<&'static str>,
}

/// Runs a row on a mount of its own.
pub(crate) fn run(row: &Row, policy: Policy) -> Ran {
    let mount = Setup::new().mount();
    if let Some(before) = row.before {
        mount.emulator.set_secret(NAME, before);
    }
    match policy {
        Policy::Both => {}
        Policy::GetOnly => mount.emulator.set_policy([Permission::Get]),
        Policy::SetOnly => mount.emulator.set_policy([Permission::Set]),
        Policy::FailingAtClose => {
            // Not retried, and not what a refusal looks like: the question whether the name may
            // be set is answered with yes.
            let locked = Fault::error(409, "ScopeLocked", None).method("PUT");
            mount.emulator.add_fault(locked);
        }
    }
    let (outcome, leaks) = sh(&mount, NAME, row);
    let names = mount.emulator.secret_names().into_iter();
    Ran {
        outcome,
        versions: mount.values(NAME),
        strays: names.filter(|name| name != NAME).collect(),
        leaks,
        requests: requests(&mount),
    }
}

/// Runs a row's script on the secret `name`; the text lists the files that hold a value.
pub(crate) fn sh(mount: &Mount, name: &str, row: &Row) -> (Outcome, String) {
    for (file, value) in [("old", row.before), ("new", row.after.or(Some(NEW)))] {
        std::fs::write(mount.scratch.join(file), value.unwrap_or_default())
            .expect("the scratch directory can be written");
    }
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation=private",
            "--net",
            "--pid",
            "--fork",
        ])
        .args(["--kill-child", "--mount-proc", "bash", "-c", SANDBOX])
        .env("M", &mount.mountpoint)
        .env("D", &mount.scratch)
        .env("NAME", name)
        .env("PRELUDE", PRELUDE)
        .env("SCRIPT", row.script)
        .env("CANARY", row.canary())
        .env("PATIENCE", PATIENCE)
        .stdin(Stdio::null());
    let outcome = Outcome::of(&mut command, row.script);
    let leaks = std::fs::read_to_string(mount.scratch.join("leaks"));
    (outcome, leaks.expect("the sandbox wrote what it found"))
}

/// What each request asked for: `check` is the question whether a name may be set.
fn requests(mount: &Mount) -> Vec<&'static str> {
    let log = mount.emulator.log().into_iter();
    log.filter_map(|entry| match entry.operation {
        Operation::Token => None,
        Operation::Get => Some("get"),
        Operation::Set if entry.status == Some(400) => Some("check"),
        Operation::Set => Some("set"),
        Operation::List | Operation::ListKeys | Operation::Other => Some("forbidden"),
    })
    .collect()
}
