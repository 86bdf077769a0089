//! What only a machine of its own shows: `auto` where there is no metadata service, the keys of
//! Azure Arc's agent, and names that nobody resolves.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use keyvaultfs::emulator::{Operation, Service};
use nix::errno::Errno;

use crate::harness::{Mount, Setup, errno, on_a_machine_of_its_own, processes_of};

/// Listens where the VM extension does, and passes on what it hears.
fn stand_in_for_the_vm_extension(mount: &Mount) {
    let url = &mount.emulator.endpoints().vm_extension;
    let address = url.split('/').nth(2).expect("a URL has a host").to_owned();
    let listener = TcpListener::bind("127.0.0.1:50342").expect("the port is free here");
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("it can be accepted");
            let mut server = TcpStream::connect(&address).expect("the emulator listens");
            let (mut from, mut to) = (clone(&client), clone(&server));
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            // Either may hang up first.
            let _ = std::io::copy(&mut server, &mut client);
        }
    });
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a stream can be shared")
}

/// Puts a program `az` in front of the others that gives out the emulator's tokens as the real one
/// does.
fn stand_in_for_az(mount: &mut Mount) {
    let program = mount.scratch.join("az");
    let script = "#!/bin/sh\n\
        [ \"$1 $2 $3 $4 $5\" = 'account get-access-token --output json --resource' ] || exit 2\n\
        token=$(curl -sS -H Metadata:true \"TOKENS?api-version=2018-02-01&resource=$6\" |\n\
            sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')\n\
        printf '{\"accessToken\": \"%s\", \"expires_on\": %s}' \"$token\" $(($(date +%s) + 3600))\n";
    // In the script, since the mount keeps no such variable.
    let script = script.replace("TOKENS", &mount.emulator.endpoints().imds);
    std::fs::write(&program, script).expect("a file can be written");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, executable).expect("permissions can be changed");
    let path = std::env::var("PATH").unwrap_or_default();
    mount.set_environment("PATH", &format!("{}:{path}", mount.scratch.display()));
}

/// Who handed out tokens.
fn token_services(mount: &Mount) -> Vec<Service> {
    let log = mount.emulator.log().into_iter();
    let tokens = log.filter(|entry| entry.operation == Operation::Token);
    tokens.map(|entry| entry.service).collect()
}

#[test]
fn auto_takes_the_vm_extension_where_no_metadata_service_answers() {
    on_a_machine_of_its_own(
        "network::auto_takes_the_vm_extension_where_no_metadata_service_answers",
        || {
            let mut mount = Setup::new().identity([]).prepare();
            stand_in_for_the_vm_extension(&mount);
            // It would do too, and is not asked.
            stand_in_for_az(&mut mount);
            mount.emulator.set_secret("a", "1");
            mount.start();
            assert_eq!(mount.sh("cat $M/a").ok(), "1");
            assert_eq!(token_services(&mount), [Service::VmExtension]);
            let log = mount.log_text();
            assert!(log.contains("tokens come from vm-extension"), "{log}");
        },
    );
}

#[test]
fn auto_takes_az_where_no_identity_service_answers() {
    on_a_machine_of_its_own(
        "network::auto_takes_az_where_no_identity_service_answers",
        || {
            let mut mount = Setup::new().identity([]).prepare();
            stand_in_for_az(&mut mount);
            mount.emulator.set_secret("a", "1");
            mount.start();
            assert_eq!(mount.sh("cat $M/a").ok(), "1");
            // The program that stands in for az got it there.
            assert_eq!(token_services(&mount), [Service::Imds]);
            let log = mount.log_text();
            assert!(log.contains("tokens come from azure-cli"), "{log}");
        },
    );
}

#[test]
fn auto_says_what_is_missing_where_nothing_answers() {
    on_a_machine_of_its_own(
        "network::auto_says_what_is_missing_where_nothing_answers",
        || {
            let mut mount = Setup::new().identity([]).prepare();
            // A path with what the test needs and no az.
            let path = mount.scratch.clone();
            for program in ["setpriv", "timeout", "bash", "stat"] {
                let own = path.join(program);
                symlink(Path::new("/usr/bin").join(program), own).expect("it can be linked");
            }
            mount.set_environment("PATH", &path.display().to_string());
            mount.emulator.set_secret("a", "1");
            mount.start();
            assert_eq!(
                errno(std::fs::read(mount.path("a"))),
                Err(Errno::EHOSTUNREACH)
            );
            let log = mount.log_text();
            assert!(log.contains("is this an Azure VM"), "{log}");
        },
    );
}

/// A machine with Azure Arc's agent, whose keys this group alone may read. Mounted by root.
fn machine_of_arc(group: &str) -> Mount {
    let mut mount = Setup::new().identity([]).prepare();
    let groups = std::fs::read_to_string("/etc/group").expect("it can be read");
    let groups: Vec<&str> = groups
        .lines()
        .filter(|line| !line.starts_with("himds:"))
        .collect();
    let groups = format!("{}\n{group}:x:{GROUP_ID}:\n", groups.join("\n"));
    replace_file(&mount.scratch, Path::new("/etc/group"), &groups);
    let keys = mount.sh(&format!(
        "mount -t tmpfs none /var/opt && mkdir -p /var/opt/azcmagent/tokens && \
         chgrp {GROUP_ID} /var/opt/azcmagent/tokens && chmod 2750 /var/opt/azcmagent/tokens"
    ));
    keys.ok();
    mount.emulator.set_arc_root(Path::new("/"));
    mount.emulator.set_secret("a", "1");
    let agent = mount.emulator.endpoints().azure_arc.clone();
    mount.set_environment("IDENTITY_ENDPOINT", &agent);
    mount.set_environment("IMDS_ENDPOINT", "http://localhost:40342");
    mount.start();
    mount
}

/// No group has it, on no machine that tests run on.
const GROUP_ID: u32 = 64_242;

/// The supplementary groups of a mount's processes.
fn groups(mount: &Mount) -> Vec<String> {
    let status =
        |process: i32| std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let processes = processes_of(&mount.mountpoint).into_iter();
    let of = |process: i32| {
        let status = status(process);
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
        line.expect("a process has groups").trim().to_owned()
    };
    processes.map(of).collect()
}

#[test]
fn roots_worker_is_in_the_group_that_may_read_the_keys_of_azure_arcs_agent() {
    on_a_machine_of_its_own(
        "network::roots_worker_is_in_the_group_that_may_read_the_keys_of_azure_arcs_agent",
        || {
            let mount = machine_of_arc("himds");
            assert_eq!(mount.sh("cat $M/a").ok(), "1");
            assert_eq!(token_services(&mount), [Service::AzureArc; 2]);
            let groups = groups(&mount);
            assert!(groups.contains(&GROUP_ID.to_string()), "{groups:?}");
        },
    );
}

#[test]
fn it_is_in_no_other_group_and_without_that_one_the_log_says_what_to_do() {
    on_a_machine_of_its_own(
        "network::it_is_in_no_other_group_and_without_that_one_the_log_says_what_to_do",
        || {
            let mount = machine_of_arc("another");
            assert_eq!(errno(std::fs::read(mount.path("a"))), Err(Errno::EACCES));
            let groups = groups(&mount);
            assert!(groups.contains(&String::new()), "{groups:?}");
            let log = mount.log_text();
            assert!(log.contains("usermod -aG himds"), "{log}");
        },
    );
}

#[test]
fn a_vault_whose_name_nobody_knows_is_unreachable_and_the_log_says_what_to_look_at() {
    on_a_machine_of_its_own(
        "network::a_vault_whose_name_nobody_knows_is_unreachable_and_the_log_says_what_to_look_at",
        || {
            let mut mount = Setup::new().prepare();
            mount.set_vault("https://myvault.vault.invalid");
            mount.start();
            let began = Instant::now();
            assert_eq!(
                errno(std::fs::read(mount.path("a"))),
                Err(Errno::EHOSTUNREACH)
            );
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "{:?}",
                began.elapsed()
            );
            let log = mount.log_text();
            for words in [
                "name cannot be resolved",
                "getent hosts myvault.vault.invalid",
            ] {
                assert!(log.contains(words), "{words}: {log}");
            }
        },
    );
}

#[test]
fn a_resolver_that_does_not_answer_delays_nobody_past_the_timeout() {
    on_a_machine_of_its_own(
        "network::a_resolver_that_does_not_answer_delays_nobody_past_the_timeout",
        || {
            let mut mount = Setup::new().argument("--timeout=2s").prepare();
            let _resolver = UdpSocket::bind("127.0.0.1:53").expect("the port is free here");
            for (path, text) in [
                (
                    "/etc/resolv.conf",
                    "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n",
                ),
                (
                    "/etc/nsswitch.conf",
                    "hosts: files dns\npasswd: files\ngroup: files\n",
                ),
            ] {
                replace_file(&mount.scratch, Path::new(path), text);
            }
            mount.set_vault("https://myvault.vault.invalid");
            mount.start();
            let began = Instant::now();
            assert_eq!(errno(std::fs::read(mount.path("a"))), Err(Errno::ETIMEDOUT));
            assert!(
                began.elapsed() < Duration::from_secs(4),
                "{:?}",
                began.elapsed()
            );
        },
    );
}

/// Mounts another file over one of the system's.
fn replace_file(scratch: &Path, path: &Path, text: &str) {
    let own = scratch.join(path.file_name().expect("it has a name"));
    std::fs::write(&own, text).expect("a file can be written");
    let mounted = Command::new("mount")
        .arg("--bind")
        .arg(own)
        .arg(path)
        .status();
    assert!(mounted.expect("mount can be run").success());
}
