//! Tokens: where they come from, whose they are, and how often they are asked for.

use keyvaultfs::emulator::{Fault, Identity, Operation, Options, Service};
use nix::errno::Errno;

use crate::harness::{Mount, Setup, errno, processes_of, wait_until};

fn token_services(mount: &Mount) -> Vec<(Service, String)> {
    let log = mount.emulator.log().into_iter();
    log.filter(|entry| entry.operation == Operation::Token)
        .map(|entry| (entry.service, entry.method))
        .collect()
}

#[test]
fn the_vm_extension_is_asked_with_a_form() {
    let setup = Setup::new();
    let mount = setup
        .identity([
            "--identity=vm-extension",
            "--identity-endpoint=VM_EXTENSION",
        ])
        .mount();
    mount.emulator.set_secret("a", "1");
    assert_eq!(mount.sh("cat $M/a").ok(), "1");
    assert_eq!(
        token_services(&mount),
        [(Service::VmExtension, "POST".to_owned())]
    );
}

#[test]
fn an_endpoint_without_a_path_gets_the_kinds_own() {
    let mut mount = Setup::new().prepare();
    let imds = mount.emulator.endpoints().imds.clone();
    let host = imds.split('/').take(3).collect::<Vec<_>>().join("/");
    mount.set_identity(&["--identity=imds", &format!("--identity-endpoint={host}")]);
    mount.start();
    mount.emulator.set_secret("a", "1");
    assert_eq!(mount.sh("cat $M/a").ok(), "1");
}

#[test]
fn the_environment_names_the_endpoint_as_for_microsofts_sdks() {
    let mut mount = Setup::new().identity(["--identity=imds"]).prepare();
    let imds = mount.emulator.endpoints().imds.clone();
    let host = imds.split('/').take(3).collect::<Vec<_>>().join("/");
    mount.set_environment("AZURE_POD_IDENTITY_AUTHORITY_HOST", &host);
    mount.start();
    mount.emulator.set_secret("a", "1");
    assert_eq!(mount.sh("cat $M/a").ok(), "1");
}

#[test]
fn each_selector_chooses_the_identity() {
    let (one, two) = (
        Identity::user_assigned("one"),
        Identity::user_assigned("two"),
    );
    let resource_id = two.resource_id.clone().expect("it has one");
    for selector in [
        format!("--client-id={}", two.client_id),
        format!("--object-id={}", two.object_id),
        format!("--identity-resource-id={resource_id}"),
    ] {
        let options = Options {
            identities: vec![one.clone(), two.clone()],
            ..Options::default()
        };
        let mount = Setup::new().options(options).argument(&selector).mount();
        mount.emulator.set_secret("a", "1");
        assert_eq!(mount.sh("cat $M/a").ok(), "1", "{selector}");
        let asked = mount.emulator.log().pop().expect("there were requests");
        assert_eq!(asked.identity.as_ref(), Some(&two.client_id), "{selector}");
    }
}

#[test]
fn a_machine_without_a_fitting_identity_is_refused() {
    let (one, two) = (
        Identity::user_assigned("one"),
        Identity::user_assigned("two"),
    );
    for identities in [vec![], vec![one, two]] {
        let options = Options {
            identities,
            ..Options::default()
        };
        let mount = Setup::new().options(options).mount();
        mount.emulator.set_secret("a", "1");
        mount.sh("cat $M/a").fails_with("Permission denied");
        assert!(
            mount.vault_requests().is_empty(),
            "nothing goes without a token"
        );
    }
}

#[test]
fn one_token_serves_many_readers() {
    let mount = Mount::new();
    for index in 0..20 {
        mount.emulator.set_secret(&format!("a{index}"), "1");
    }
    mount
        .sh("for i in {0..19}; do cat $M/a$i & done; wait")
        .ok();
    assert_eq!(mount.count(Operation::Get), 20);
    assert_eq!(mount.count(Operation::Token), 1);
}

#[test]
fn a_token_the_vault_no_longer_takes_is_replaced_once() {
    let mount = Mount::new();
    mount.emulator.set_secret("a", "1");
    mount.sh("cat $M/a").ok();
    mount.emulator.revoke_tokens();
    mount.emulator.clear_log();
    assert_eq!(mount.sh("cat $M/a").ok(), "1");
    assert_eq!(
        mount.vault_requests(),
        ["GET /secrets/a 401", "GET /secrets/a 200"]
    );
    assert_eq!(mount.count(Operation::Token), 1);
}

#[test]
fn an_identity_endpoint_that_stumbles_is_asked_again() {
    let mut mount = Setup::new().prepare();
    mount.emulator.set_secret("a", "1");
    let stumble = Fault::error(500, "unknown", None)
        .of(Service::Imds)
        .first(1);
    mount.emulator.add_fault(stumble);
    mount.start();
    assert_eq!(mount.sh("cat $M/a").ok(), "1");
}

#[test]
fn an_identity_endpoint_that_is_not_there_delays_no_mount() {
    let mut mount = Setup::new().argument("--timeout=2s").prepare();
    mount.emulator.set_secret("a", "1");
    mount
        .emulator
        .pause(Service::Imds)
        .expect("it can be paused");
    mount.start();
    let read = errno(std::fs::read(mount.path("a")));
    assert_eq!(read, Err(Errno::EHOSTUNREACH));
    mount
        .emulator
        .resume(Service::Imds)
        .expect("it can be resumed");
    // The failure is repeated to others for a second, lest they storm the endpoint.
    wait_until("there is a token", || mount.sh("cat $M/a").code == Some(0));
}

#[test]
fn in_the_background_nothing_is_kept_of_the_environment_but_what_tokens_need() {
    let mut mount = Setup::new().identity(["--identity=app-service"]).prepare();
    mount.emulator.set_secret("a", "1");
    let endpoints = mount.emulator.endpoints().clone();
    mount.set_environment("IDENTITY_ENDPOINT", &endpoints.app_service);
    mount.set_environment("IDENTITY_HEADER", &endpoints.credentials.header);
    // Another program's, another identity's, and the service manager's word for the keeper alone.
    mount.set_environment("DATABASE_PASSWORD", "canary");
    mount.set_environment("AZURE_CLIENT_SECRET", "canary");
    mount.set_environment("WATCHDOG_PID", "1");
    let arguments = mount.mount_arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    mount.program(&arguments).ok();
    assert_eq!(mount.sh("cat $M/a").ok(), "1");
    let environment = |process| {
        let environment = std::fs::read(format!("/proc/{process}/environ"));
        String::from_utf8_lossy(&environment.expect("it can be read")).into_owned()
    };
    let processes = processes_of(&mount.mountpoint);
    assert_eq!(processes.len(), 2, "a keeper and a worker");
    for process in processes {
        let environment = environment(process);
        assert!(environment.contains("IDENTITY_HEADER="), "{environment}");
        assert!(!environment.contains("canary"), "{environment}");
        let is_worker = process == mount.worker().as_raw();
        assert_ne!(environment.contains("WATCHDOG_PID="), is_worker);
    }
    mount.sh("umount $M").ok();
}
