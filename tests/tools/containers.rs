//! One secret bind-mounted into another mount namespace: it follows every version, survives
//! errors, and can be written; inode numbers are a name's own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use keyvaultfs::emulator::Fault;

use crate::harness::{Mount, Setup};

/// Answers each line `X` with what `cat` says of the file `/mnt/f`, and `>TEXT` by writing it.
const INSIDE: &str = r#"
while read -r line; do
    case $line in
        '>'*) printf %s "${line#>}" 2>&1 > /mnt/f && echo written ;;
        *) cat /mnt/f 2>&1 | tr '\n' ' '; echo ;;
    esac
done"#;

/// A shell in a namespace of its own, where `/mnt/f` is the secret `f` and nothing else is.
struct Inside {
    shell: Child,
}

impl Inside {
    fn start(mount: &Mount, mut command: Command) -> Self {
        let shell = command
            .env("F", mount.path("f"))
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be run");
        Self { shell }
    }

    fn ask(&mut self, line: &str) -> String {
        let stdin = self.shell.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{line}").expect("the shell listens");
        let mut answer = String::new();
        let stdout = self.shell.stdout.as_mut().expect("it is piped");
        // One byte at a time, since what is buffered here would be lost.
        let mut stdout = BufReader::with_capacity(1, stdout);
        stdout.read_line(&mut answer).expect("the shell answers");
        answer.trim_end().to_owned()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // Its namespace holds the mount.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn unshared(mount: &Mount) -> Inside {
    let bind = "mount -t tmpfs tmpfs /mnt && touch /mnt/f && mount --bind \"$F\" /mnt/f";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation=private", "--pid", "--fork"])
        .args(["--kill-child", "bash", "-c", &format!("{bind} && {INSIDE}")]);
    Inside::start(mount, command)
}

fn wrapped(mount: &Mount) -> Inside {
    let mut command = Command::new("bwrap");
    command
        .args(["--ro-bind", "/", "/", "--tmpfs", "/mnt", "--bind"])
        .arg(mount.path("f"))
        .args([
            "/mnt/f",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
            "--unshare-all",
        ])
        .args(["--die-with-parent", "bash", "-c", INSIDE]);
    Inside::start(mount, command)
}

fn follows_the_secret(start: impl Fn(&Mount) -> Inside) {
    let mount = Setup::new().argument("--timeout=3s").mount();
    mount.emulator.set_secret("f", "first");
    let mut inside = start(&mount);
    assert_eq!(inside.ask("read"), "first");
    mount.emulator.set_secret("f", "second, and longer");
    assert_eq!(inside.ask("read"), "second, and longer");

    let broken = Fault::error(404, "SecretNotFound", None).method("GET");
    let fault = mount.emulator.add_fault(broken);
    assert!(inside.ask("read").contains("No such file"));
    mount.emulator.remove_fault(fault);
    assert_eq!(inside.ask("read"), "second, and longer");
    let broken = Fault::error(409, "ScopeLocked", None).method("GET");
    let fault = mount.emulator.add_fault(broken);
    assert!(inside.ask("read").contains("not permitted"));
    mount.emulator.remove_fault(fault);
    assert_eq!(inside.ask("read"), "second, and longer");

    mount
        .sh("echo third | tee $M/f > out; sed -i s/third/fourth/ $M/f")
        .ok();
    assert_eq!(inside.ask("read"), "fourth");
    assert_eq!(inside.ask(">from inside"), "written");
    assert_eq!(
        mount.values("f").last().map(String::as_str),
        Some("from inside")
    );
    assert_eq!(mount.values("f").len(), 5);
}

#[test]
fn a_bind_mounted_secret_follows_every_version_and_survives_errors() {
    follows_the_secret(unshared);
}

#[test]
fn a_secret_in_a_bubblewrap_sandbox_does_too() {
    follows_the_secret(wrapped);
}

#[test]
fn inode_numbers_are_a_names_own() {
    let numbers = || {
        let mount = Mount::new();
        mount.emulator.set_secret("f", "1");
        mount.emulator.set_secret("g", "1");
        let number = |name: &str| {
            std::fs::metadata(mount.path(name))
                .expect("it is there")
                .ino()
        };
        let first = (number("f"), number("g"));
        assert_ne!(first.0, first.1);
        assert_eq!(number("F"), first.0, "another spelling");
        mount.emulator.set_secret("f", "2");
        mount
            .sh("echo 3 > $M/g; echo 2 > /proc/sys/vm/drop_caches")
            .ok();
        assert_eq!((number("f"), number("g")), first);
        first
    };
    assert_eq!(numbers(), numbers(), "in another mount too");
}
