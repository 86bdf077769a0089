//! What there is: each kind of path with its permissions, names without case, versions, and what
//! no tool can do to any of them.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use keyvaultfs::emulator::{CertificateFormat, KeyAccess, Operation};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknod};

use crate::harness::{Mount, Setup, errno};

const ACCOUNT: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acct";

#[test]
fn each_kind_of_path_has_its_permissions() {
    let mount = Setup::new()
        .argument(&format!("--storage-account={ACCOUNT}"))
        .argument("--arm-endpoint=RESOURCE_MANAGER")
        .mount();
    let granted = KeyAccess::Granted;
    mount.emulator.set_storage_account(ACCOUNT, granted);
    let version = mount.emulator.set_secret("db", "1");
    let kept = mount
        .emulator
        .keep_certificate("web", "localhost", CertificateFormat::Pem);
    kept.expect("a certificate can be made");
    for (name, expected) in [
        ("", 0o040_300),
        ("db", 0o100_600),
        (&format!("db@{version}"), 0o100_400),
        ("web.pem", 0o100_400),
        ("web.pfx", 0o100_400),
        (".storage", 0o040_500),
        (".storage/acct", 0o040_500),
        (".storage/acct/key1", 0o100_400),
        (".storage/acct/key2", 0o100_400),
        (".storage/acct/connection-string", 0o100_400),
        (".keyvaultfs", 0o040_555),
        (".keyvaultfs/status", 0o100_444),
        (".keyvaultfs/metrics", 0o100_444),
    ] {
        let shown = fs::metadata(mount.path(name)).map(|shown| shown.permissions().mode());
        assert_eq!(errno(shown), Ok(expected), "{name}");
    }
}

#[test]
fn names_are_compared_without_case() {
    let mount = Mount::new();
    mount.emulator.set_secret("SQLPasswd", "1");
    for name in ["SQLPasswd", "sqlpasswd", "SQLPASSWD"] {
        assert_eq!(fs::read(mount.path(name)).expect("it is there"), b"1");
    }
    fs::write(mount.path("sqlPASSWD"), "2").expect("it can be written");
    assert_eq!(mount.values("SQLPasswd"), ["1", "2"]);
    assert_eq!(mount.emulator.secret_names(), ["SQLPasswd"]);
}

#[test]
fn a_version_is_read_under_its_own_name_and_written_by_nobody() {
    let mount = Mount::new();
    let first = mount.emulator.set_secret("db", "first");
    let second = mount.emulator.set_secret("db", "second, and current");
    let path = |version: &str| mount.path(&format!("db@{version}"));
    assert_eq!(fs::read(path(&first)).expect("it is there"), b"first");
    let last = fs::read(path(&second)).expect("it is there");
    assert_eq!(last, b"second, and current");
    for (truncate, append) in [(true, false), (false, true), (false, false)] {
        let mut options = OpenOptions::new();
        let options = options.write(true).truncate(truncate).append(append);
        assert_eq!(
            errno(options.open(path(&first)).map(drop)),
            Err(Errno::EROFS)
        );
    }
    let none = path(&"0".repeat(32));
    assert_eq!(errno(fs::read(&none)), Err(Errno::ENOENT));
    assert_eq!(errno(fs::write(&none, "x")), Err(Errno::EROFS));
    assert_eq!(errno(fs::remove_file(path(&first))), Err(Errno::EPERM));
    assert_eq!(mount.count(Operation::Set), 0);
}

#[test]
fn what_no_secret_can_do_has_its_errno_and_costs_no_request_but_lookups() {
    let mount = Mount::new();
    mount.emulator.set_secret("db", "1");
    let (db, other) = (mount.path("db"), mount.path("other"));
    let fifo = |path: &Path| {
        let mode = Mode::from_bits_truncate(0o600);
        mknod(path, SFlag::S_IFIFO, mode, 0).map_err(std::io::Error::from)
    };
    for (what, outcome) in [
        ("unlink", fs::remove_file(&db)),
        ("rename", fs::rename(&db, &other)),
        ("link", fs::hard_link(&db, &other)),
        ("symlink", symlink("db", &other)),
        ("mkdir", fs::create_dir(&other)),
        ("mknod", fifo(&other)),
        (
            "chmod",
            fs::set_permissions(&db, PermissionsExt::from_mode(0o644)),
        ),
        ("chown", chown(&db, Some(65534), None)),
        (
            "truncate",
            nix::unistd::truncate(&db, 0).map_err(Into::into),
        ),
    ] {
        assert_eq!(errno(outcome), Err(Errno::EPERM), "{what}");
    }
    // To where the kernel sees another file system, which is why `mv` goes on to copy.
    let moved = fs::rename(&db, mount.scratch.join("moved"));
    assert_eq!(errno(moved), Err(Errno::EXDEV));
    let listed = fs::read_dir(&mount.mountpoint).and_then(|mut entries| entries.next().transpose());
    assert_eq!(errno(listed.map(drop)), Err(Errno::EACCES));
    let script = "import os\nfor set in os.setxattr, lambda p, n, _: os.removexattr(p, n):\n  \
                  try: set(os.environ['M'] + '/db', 'user.x', b'1')\n  \
                  except OSError as e: print(e.errno)\n";
    fs::write(mount.scratch.join("set.py"), script).expect("it can be written");
    assert_eq!(mount.sh("python3 $D/set.py").ok(), "1\n1\n", "EPERM");
    for request in mount.vault_requests() {
        let lookups = ["GET /secrets/db 200", "GET /secrets/other 404"];
        assert!(lookups.contains(&&*request), "{request}");
    }
    assert_eq!(mount.values("db"), ["1"]);
}
