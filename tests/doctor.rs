//! The doctor in broken worlds: each names its cause and the command that mends it. What it says
//! is pinned in `tests/doctor`; `OVERWRITE=1 cargo test --test doctor` writes it anew.
//!
//! Each world has its own emulator. The machine itself is broken in a mount namespace: as root, or
//! as root of a user namespace.
#![cfg(feature = "emulator")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use keyvaultfs::emulator::{
    Certificate, Effect, Emulator, Fault, Identity, Options, Permission, Service,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_keyvaultfs");

/// A machine, a vault, and the doctor between them.
struct World {
    emulator: Emulator,
    /// Shell commands that break the machine.
    breakage: String,
    /// Options for the doctor.
    options: Vec<String>,
    vault: String,
}

impl World {
    /// Where all is well.
    fn new() -> Self {
        let emulator = Emulator::start(Options::default()).unwrap();
        let endpoints = emulator.endpoints();
        let options = vec![
            format!("--identity-endpoint={}", endpoints.imds),
            format!("--ca-cert={}", endpoints.ca_cert.display()),
            format!("--resource={}", endpoints.resource),
            "--timeout=1s".to_owned(),
            "--user=nobody".to_owned(),
        ];
        let vault = endpoints.vault.clone();
        Self {
            emulator,
            breakage: "true".to_owned(),
            options,
            vault,
        }
    }

    /// The vault refuses everything with this.
    fn refusing(status: u16, code: &str, inner: Option<&str>) -> Self {
        let world = Self::new();
        world.emulator.add_fault(fault(Effect::Error {
            status,
            code: code.to_owned(),
            inner: inner.map(str::to_owned),
            message: String::new(),
        }));
        world
    }

    /// Runs the doctor and compares all that it says with the text of that name.
    fn says(&self, name: &str) {
        let root = nix::unistd::geteuid().is_root();
        let namespace: &[&str] = if root { &["-m"] } else { &["-Urm"] };
        let output = Command::new("unshare")
            .args(namespace)
            .args([
                "sh",
                "-ec",
                &format!("{} && exec \"$@\"", self.breakage),
                "sh",
            ])
            .args([PROGRAM, "doctor"])
            .args(&self.options)
            .arg(&self.vault)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
        let mut text = redacted(&String::from_utf8(output.stdout).unwrap(), root);
        writeln!(text, "exit code {}", output.status.code().unwrap()).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/doctor/{name}.txt"));
        if std::env::var_os("OVERWRITE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, expected, "{}", path.display());
    }
}

/// A fault that all of the vault's requests meet.
fn fault(effect: Effect) -> Fault {
    Fault {
        service: Service::KeyVault,
        method: None,
        secret: None,
        calls: Default::default(),
        after: false,
        delay_ms: 0,
        effect,
        retry_after: None,
        headers: Default::default(),
    }
}

/// `text` without what differs from run to run: ports, random names, request ids. Whoever is not
/// really root cannot act as another user: what is said of that goes as well.
fn redacted(text: &str, root: bool) -> String {
    let mut lines = Vec::new();
    let mut dropped = false;
    for line in text.lines() {
        let begins = !line.starts_with(' ');
        dropped = if begins {
            !root && line.contains(" exposure ")
        } else {
            dropped
        };
        if !dropped {
            lines.push(redacted_line(line));
        }
    }
    lines.join("\n") + "\n"
}

fn redacted_line(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((at, mark, what)) = next_mark(rest) {
        let (before, behind) = rest.split_at(at + mark.len());
        let kept = behind.trim_start_matches(|c: char| c.is_ascii_hexdigit() || c == '-');
        out.push_str(before);
        out.push_str(if kept.len() < behind.len() { what } else { "" });
        rest = kept;
    }
    out.push_str(rest);
    out
}

/// The next text behind which something random comes, and what to write in its place.
fn next_mark(text: &str) -> Option<(usize, &'static str, &'static str)> {
    [
        ("127.0.0.1:", "PORT"),
        ("--dport ", "PORT"),
        ("keyvaultfs-doctor-", "RANDOM"),
        (", request ", "ID"),
        ("good for ", "HOURS"),
        (" h ", "MINUTES"),
        ("verification time ", "NOW"),
        ("1609459200 (", "AGE"),
    ]
    .into_iter()
    .filter_map(|(mark, what)| Some((text.find(mark)?, mark, what)))
    .min_by_key(|(at, ..)| *at)
}

#[test]
fn all_is_well() {
    World::new().says("well");
}

#[test]
fn there_is_no_fuse() {
    let mut world = World::new();
    world.breakage = "mount --bind /dev/null /dev/fuse".to_owned();
    world.says("no-fuse");
}

#[test]
fn the_machine_has_no_identity() {
    let world = World::new();
    world.emulator.set_identities([]);
    world.says("no-identity");
}

#[test]
fn the_machine_has_two_identities_and_none_is_named() {
    let world = World::new();
    let two = ["one", "two"].map(Identity::user_assigned);
    world.emulator.set_identities(two);
    world.says("two-identities");
}

#[test]
fn the_client_id_is_wrong() {
    let mut world = World::new();
    let id = "99999999-9999-4999-8999-999999999999";
    world.options.push(format!("--client-id={id}"));
    world.says("wrong-client-id");
}

#[test]
fn get_is_not_granted() {
    let world = World::new();
    world.emulator.set_policy([Permission::Set]);
    world.says("no-get");
}

#[test]
fn set_is_not_granted() {
    let world = World::new();
    world.emulator.set_policy([Permission::Get]);
    world.says("no-set");
}

#[test]
fn set_is_not_granted_nor_wanted() {
    let mut world = World::new();
    world.emulator.set_policy([Permission::Get]);
    world.options.push("-oro".to_owned());
    world.says("read-only");
}

#[test]
fn a_role_is_missing() {
    World::refusing(403, "Forbidden", Some("ForbiddenByRbac")).says("no-role");
}

#[test]
fn the_firewall_refuses() {
    World::refusing(403, "Forbidden", Some("ForbiddenByFirewall")).says("firewall");
}

#[test]
fn the_public_network_is_disabled() {
    World::refusing(403, "Forbidden", Some("ForbiddenByConnection")).says("network-disabled");
}

#[test]
fn the_ca_is_wrong() {
    let mut world = World::new();
    world.options[1] = concat!(
        "--ca-cert=",
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/ca.pem"
    )
    .to_owned();
    world.says("wrong-ca");
}

#[test]
fn the_certificate_is_too_old() {
    let world = World::new();
    world
        .emulator
        .set_certificate(Certificate::Expired)
        .unwrap();
    world.says("expired-certificate");
}

#[test]
fn the_clock_is_off() {
    let world = World::new();
    let theirs = SystemTime::now() + Duration::from_secs(90 * 60 + 30);
    let date = ("date".to_owned(), httpdate::fmt_http_date(theirs));
    world.emulator.add_fault(Fault {
        headers: [date].into(),
        ..fault(Effect::None)
    });
    world.says("clock");
}

#[test]
fn there_is_no_such_vault() {
    let mut world = World::new();
    let directory = tempfile::tempdir().unwrap();
    // Names are looked up in files alone, so that no name server is asked.
    let hosts = directory.path().join("nsswitch.conf");
    fs::write(&hosts, "hosts: files\n").unwrap();
    world.breakage = format!("mount --bind {} /etc/nsswitch.conf", hosts.display());
    world.vault = "https://myvault.vault.azure.net".to_owned();
    world.says("no-vault");
}

#[test]
fn nobody_listens_at_the_vaults_address() {
    let mut world = World::new();
    world.vault = "https://localhost:1".to_owned();
    world.says("unreachable");
}

#[test]
fn the_identity_service_does_not_answer() {
    let mut world = World::new();
    world.options[0] = "--identity-endpoint=http://127.0.0.1:1".to_owned();
    world.says("no-imds");
}

#[test]
fn the_vault_is_throttled() {
    World::refusing(429, "Throttled", None).says("throttled");
}

#[test]
fn the_vault_refuses_the_token() {
    let world = World::refusing(401, "Unauthorized", None);
    world.says("unauthorized");
}
