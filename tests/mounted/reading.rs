//! "Every open(2) pulls", exact bytes, true sizes, and what a name that is not there costs.

use std::fs::File;
use std::io::Read;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use keyvaultfs::emulator::{Operation, Settings};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use crate::harness::{Mount, errno, wait_until};

#[test]
fn cat_costs_exactly_one_vault_request_and_it_carries_the_token() {
    let mount = Mount::new();
    mount.emulator.set_secret("SQLPasswd", "s3cret");
    assert_eq!(mount.sh("cat $M/SQLPasswd").ok(), "s3cret");
    assert_eq!(mount.vault_requests(), ["GET /secrets/SQLPasswd 200"]);
    assert_eq!(mount.count(Operation::Token), 1);
    mount.emulator.clear_log();
    for _ in 0..3 {
        mount.sh("cat $M/SQLPasswd").ok();
    }
    assert_eq!(mount.vault_requests(), ["GET /secrets/SQLPasswd 200"; 3]);
    assert_eq!(mount.count(Operation::Token), 0, "the token is kept");
}

#[test]
fn a_stat_costs_one_request_and_tells_the_truth() {
    let mount = Mount::new();
    mount.emulator.set_clock_skew(-1_000_000);
    mount.emulator.set_secret("a", "12345");
    let version = mount.emulator.versions("a").remove(0);
    let shown = std::fs::metadata(mount.path("a")).expect("the secret is there");
    assert_eq!(mount.vault_requests(), ["GET /secrets/a 200"]);
    assert_eq!(
        (shown.len(), shown.mtime(), shown.ctime()),
        (5, version.updated, version.updated)
    );
    assert_eq!((shown.mode(), shown.uid(), shown.gid()), (0o100_600, 0, 0));
}

#[test]
fn bytes_are_exact() {
    let mount = Mount::new();
    let long = "x".repeat(25_600);
    let values = [
        "",
        "\n",
        "a",
        "a\n",
        "a\r\nb\r\n",
        "žluťoučký kůň \u{1F512}",
        "\0\u{1}",
        &long,
    ];
    for value in values {
        mount.emulator.set_secret("a", value);
        let read = std::fs::read(mount.path("a")).expect("it can be read");
        assert!(
            read == value.as_bytes(),
            "{:.40?} was read for {value:.40?}",
            read
        );
    }
}

#[test]
fn every_tool_that_takes_a_path_sees_the_value() {
    let mount = Mount::new();
    mount.emulator.set_secret("a", "X=1\n");
    let python =
        |code: &str| format!("python3 -c 'import os,mmap,sys; p=os.environ[\"M\"]+\"/a\"; {code}'");
    let scripts = [
        "cat $M/a".to_owned(),
        "cat $M/A".to_owned(),
        "head -c 100 $M/a".to_owned(),
        "tail -n 1 $M/a".to_owned(),
        "grep X $M/a".to_owned(),
        "echo \"$(<$M/a)\"".to_owned(),
        "read -r line <$M/a; echo $line".to_owned(),
        "source $M/a; echo X=$X".to_owned(),
        "cp $M/a out && cat out".to_owned(),
        "tar -cPf - $M/a | tar -xOPf -".to_owned(),
        "dd if=$M/a status=none".to_owned(),
        "dd if=$M/a bs=1 status=none".to_owned(),
        "perl -ne print $M/a".to_owned(),
        "[ -s $M/a ] && [ -f $M/a ] && [ -r $M/a ] && echo X=1".to_owned(),
        "[ $(wc -c <$M/a) = 4 ] && [ $(stat -c %s $M/a) = 4 ] && echo X=1".to_owned(),
        python("sys.stdout.write(open(p).read())"),
        python("f=open(p,\"rb\"); os.sendfile(1,f.fileno(),0,100)"),
        python(
            "f=open(p,\"rb\"); m=mmap.mmap(f.fileno(),0,access=mmap.ACCESS_COPY); os.write(1,m[:])",
        ),
    ];
    for script in scripts {
        assert_eq!(mount.sh(&script).ok(), "X=1\n", "{script}");
    }
}

#[test]
fn an_empty_secret_is_an_empty_file() {
    let mount = Mount::new();
    mount.emulator.set_secret("a", "");
    assert_eq!(
        mount.sh("test -f $M/a && ! test -s $M/a && cat $M/a").ok(),
        ""
    );
}

#[test]
fn every_open_sees_the_newest_version_and_keeps_it() {
    let mount = Mount::new();
    mount.emulator.set_secret("a", "first");
    let open = File::open(mount.path("a")).expect("it opens");
    let mut start = [0; 2];
    open.read_exact_at(&mut start, 0).expect("it can be read");
    mount.emulator.set_secret("a", "second, and longer");
    assert_eq!(
        std::fs::read(mount.path("a")).expect("it opens"),
        b"second, and longer"
    );
    let mut rest = [0; 100];
    let count = open.read_at(&mut rest, 2).expect("it can be read");
    assert_eq!((&start, &rest[..count]), (b"fi", b"rst".as_slice()));
}

#[test]
fn attributes_change_with_the_version_and_only_then() {
    let mount = Mount::new();
    mount.emulator.set_clock_skew(-500);
    mount.emulator.set_secret("a", "1");
    let seen = || {
        let shown = std::fs::metadata(mount.path("a")).expect("it is there");
        (shown.ino(), shown.len(), shown.mtime())
    };
    let first = seen();
    assert_eq!(first, seen());
    mount.emulator.set_clock_skew(500);
    mount.emulator.set_secret("a", "22");
    let second = seen();
    assert_eq!(
        (second.0, second.1),
        (first.0, 2),
        "the same file, another size"
    );
    assert!(second.2 >= first.2 + 1000);
}

#[test]
fn a_missing_secret_costs_one_request_and_says_so() {
    let mount = Mount::new();
    mount
        .sh("cat $M/missing")
        .fails_with("No such file or directory");
    assert_eq!(mount.vault_requests(), ["GET /secrets/missing 404"]);
    assert!(!mount.path("missing").exists());
}

#[test]
fn a_name_that_no_secret_can_have_costs_no_request() {
    let mount = Mount::new();
    for name in ["under_score", "a.b", "a b", ".git", "*", "ü", "a@b"] {
        let read = errno(std::fs::read(mount.path(name)));
        assert_eq!(read, Err(Errno::ENOENT), "{name}");
        let made = errno(File::create(mount.path(name)).map(drop));
        assert_eq!(made, Err(Errno::EINVAL), "{name}");
    }
    let long = mount.path(&"a".repeat(128));
    assert_eq!(errno(std::fs::read(&long)), Err(Errno::ENOENT));
    let made = errno(File::create(&long).map(drop));
    assert_eq!(made, Err(Errno::ENAMETOOLONG));
    let longest = mount.path(&"a".repeat(127));
    assert_eq!(errno(std::fs::read(longest)), Err(Errno::ENOENT));
    assert_eq!(mount.vault_requests().len(), 1, "that of the longest name");
}

#[test]
fn a_disabled_or_undecodable_secret_is_there_cannot_be_read_and_can_be_overwritten() {
    let mount = Mount::new();
    mount.emulator.set_secret("off", "1");
    mount.emulator.set_enabled("off", false);
    mount
        .emulator
        .set_secret_with("odd", "no base64!", tagged("file-encoding", "base64"));
    for (name, said) in [
        ("off", "Operation not permitted"),
        ("odd", "Input/output error"),
    ] {
        assert!(mount.path(name).exists());
        mount.sh(&format!("cat $M/{name}")).fails_with(said);
        mount.sh(&format!("printf 2 > $M/{name}")).ok();
        assert_eq!(mount.sh(&format!("cat $M/{name}")).ok(), "2");
    }
}

#[test]
fn sizes_are_exact_for_what_trusts_them() {
    let mount = Mount::new();
    let value = format!("X={}\n", "0123456789".repeat(1_000));
    mount.emulator.set_secret("a", &value);
    std::fs::write(mount.scratch.join("a"), &value).expect("it can be written");
    let python = |code: &str| {
        format!("python3 -c 'import os; f = os.open(os.environ[\"M\"] + \"/a\", 0); {code}'")
    };
    let send = "s = os.fstat(f).st_size; os.sendfile(1, f, 0, s)";
    let splice =
        "r, w = os.pipe(); s = os.splice(f, w, os.fstat(f).st_size); os.write(1, os.read(r, s))";
    for script in [
        "tar -C $M -cf - a | tar -xOf -",
        "source $M/a; echo X=$X",
        &python(send),
        &python(splice),
        "dd if=$M/a bs=$(stat -c %s $M/a) count=1 status=none",
        "tail -c +1 $M/a",
    ] {
        let compared = format!("{{ {script}; }} | cmp - $D/a && [ -s $M/a ]");
        mount.sh(&compared).ok();
    }
}

#[test]
fn attributes_of_a_file_say_what_the_vault_says_of_its_version() {
    let mount = Mount::new();
    let settings = Settings {
        content_type: Some("text/plain".to_owned()),
        not_before: Some(0),
        expires: Some(2_000_000_000),
        ..tagged("team", "db")
    };
    let version = mount.emulator.set_secret_with("a", "1", settings);
    let script = r#"
import os, re
path = os.environ["M"] + "/a"
for name in os.listxattr(path):
    value = os.getxattr(path, name).decode()
    print(name, re.sub(r"^20[23]\d-.*Z$", "now" if "pires" not in name else value, value))
for missing in "security.selinux", "security.capability", "user.other":
    try: os.getxattr(path, missing)
    except OSError as e: print(e.errno)
"#;
    std::fs::write(mount.scratch.join("list.py"), script).expect("it can be written");
    let expected = format!(
        "user.keyvault.version {version}\nuser.keyvault.content-type text/plain\n\
         user.keyvault.enabled true\nuser.keyvault.not-before 1970-01-01T00:00:00Z\n\
         user.keyvault.expires 2033-05-18T03:33:20Z\nuser.keyvault.created now\n\
         user.keyvault.updated now\nuser.keyvault.managed false\nuser.keyvault.tags.team db\n\
         61\n61\n61\n"
    );
    assert_eq!(
        mount.sh("python3 $D/list.py").ok(),
        expected,
        "61 is ENODATA"
    );
}

#[test]
fn attributes_that_only_the_kernel_wants_cost_no_request() {
    let mount = Mount::new();
    mount.emulator.set_secret("a", "1");
    let script = "import os; f = os.open(os.environ['M'] + '/a', 0)\nfor i in range(9):\n  \
                  try: os.getxattr(f, 'security.capability')\n  \
                  except OSError as e: assert e.errno == 61\n";
    std::fs::write(mount.scratch.join("get.py"), script).expect("it can be written");
    mount.sh("python3 $D/get.py").ok();
    assert_eq!(mount.vault_requests(), ["GET /secrets/a 200"], "the open's");
}

/// With the worker stopped only the kernel itself can answer.
#[test]
fn the_kernel_remembers_the_directory_and_closes_a_reader_alone() {
    let mount = Mount::new();
    mount.emulator.set_secret("a", "1");
    let open = File::open(mount.path("a")).expect("it opens");
    std::fs::metadata(&mount.mountpoint).expect("it is there");
    let worker = mount.worker();
    let is_stopped = || {
        let status = std::fs::read_to_string(format!("/proc/{worker}/status"));
        status.is_ok_and(|status| status.contains("State:\tT"))
    };
    kill(worker, Signal::SIGSTOP).expect("it is there");
    wait_until("the worker stops", is_stopped);
    // Whoever waits for the worker goes on before the assertions can fail.
    let closed = nix::unistd::close(open.into_raw_fd());
    let shown = std::fs::metadata(&mount.mountpoint).map(|shown| shown.mode());
    let is_stopped = is_stopped();
    // Another may have taken its place, had it been waited for.
    let _ = kill(worker, Signal::SIGCONT);
    assert_eq!((closed, errno(shown)), (Ok(()), Ok(0o040_300)));
    assert!(is_stopped, "neither waited for it");
    // Of a file nothing is remembered.
    mount.emulator.clear_log();
    for _ in 0..2 {
        std::fs::metadata(mount.path("a")).expect("it is there");
    }
    assert_eq!(mount.vault_requests(), ["GET /secrets/a 200"; 2]);
}

fn tagged(tag: &str, text: &str) -> Settings {
    Settings {
        tags: [(tag.to_owned(), text.to_owned())].into(),
        ..Settings::default()
    }
}

#[test]
fn an_expired_secret_can_be_read() {
    let mount = Mount::new();
    let expired = Settings {
        expires: Some(1),
        ..Settings::default()
    };
    mount.emulator.set_secret_with("a", "1", expired);
    assert_eq!(mount.sh("cat $M/a").ok(), "1");
}

#[test]
fn a_large_file_of_many_reads_is_one_request() {
    let mount = Mount::new();
    mount.emulator.set_secret("a", &"0123456789".repeat(2_560));
    let mut file = File::open(mount.path("a")).expect("it opens");
    let mut read = Vec::new();
    let mut buffer = [0; 7];
    loop {
        match file.read(&mut buffer).expect("it can be read") {
            0 => break,
            count => read.extend_from_slice(&buffer[..count]),
        }
    }
    assert!(read == "0123456789".repeat(2_560).as_bytes());
    assert_eq!(mount.vault_requests().len(), 1);
}
