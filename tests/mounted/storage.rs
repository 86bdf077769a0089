//! `.storage/<account>/`: a storage account's keys, by Resource Manager's `listKeys`.

use keyvaultfs::emulator::{Emulator, Fault, KeyAccess, Operation, Service};

use crate::harness::{Mount, Setup};

const ACCOUNT: &str = "/subscriptions/0f8fad5b-d9cb-469f-a165-70867728950e/resourceGroups/mygroup/\
                       providers/Microsoft.Storage/storageAccounts/acct01";

fn mount_with_account() -> (Mount, [String; 2]) {
    let mount = Setup::new()
        .argument(&format!("--storage-account={ACCOUNT}"))
        .argument("--arm-endpoint=RESOURCE_MANAGER")
        .mount();
    let keys = grant(&mount.emulator, KeyAccess::Granted);
    (mount, keys)
}

fn grant(emulator: &Emulator, access: KeyAccess) -> [String; 2] {
    emulator.set_storage_account(ACCOUNT, access)
}

#[test]
fn keys_and_connection_string_are_files_in_directories_that_can_be_listed() {
    let (mount, [key1, key2]) = mount_with_account();
    let listed = mount.sh("cd $M/.storage && find . | sort; stat -c %A . acct01 acct01/key1");
    assert_eq!(
        listed.ok(),
        ".\n./acct01\n./acct01/connection-string\n./acct01/key1\n./acct01/key2\n\
         dr-x------\ndr-x------\n-r--------\n"
    );
    assert_eq!(mount.sh("cat $M/.storage/acct01/key1").ok(), key1);
    assert_eq!(mount.sh("cat $M/.storage/acct01/key2").ok(), key2);
    let expected = format!(
        "DefaultEndpointsProtocol=https;EndpointSuffix=core.windows.net;AccountName=acct01;\
         AccountKey={key1}"
    );
    let string = mount.sh("cat $M/.storage/acct01/connection-string");
    assert_eq!(string.ok(), expected);
    for script in [
        "echo x > $M/.storage/acct01/key1",
        "rm -f $M/.storage/acct01/key1",
    ] {
        assert_ne!(mount.sh(script).code, Some(0), "{script}");
    }
    assert_eq!(mount.count(Operation::Get), 0);
}

#[test]
fn the_three_files_together_cost_one_request() {
    let (mount, _) = mount_with_account();
    mount.sh("cat $M/.storage/acct01/* | wc -c").ok();
    // Listing keys counts against limits of writes; a slow machine may take more than a moment.
    let requests = mount.count(Operation::ListKeys);
    assert!((1..=3).contains(&requests), "{requests}");
    let log = mount.emulator.log();
    let list = log
        .iter()
        .find(|entry| entry.service == Service::ResourceManager);
    let list = list.expect("it was asked");
    assert_eq!((list.method.as_str(), list.status), ("POST", Some(200)));
    assert_eq!(list.path, format!("{ACCOUNT}/listKeys"));
}

#[test]
fn each_refusal_has_its_errno_and_a_hint_that_mends_it() {
    for (access, message, hint) in [
        (
            KeyAccess::Denied,
            "Permission denied",
            "Storage Account Key Operator",
        ),
        (KeyAccess::Locked, "Operation not permitted", "az lock list"),
    ] {
        let (mount, _) = mount_with_account();
        grant(&mount.emulator, access);
        mount.sh("cat $M/.storage/acct01/key1").fails_with(message);
        assert!(mount.log_text().contains(hint), "{}", mount.log_text());
    }
    let missing = ACCOUNT.replace("acct01", "acct02");
    let mount = Setup::new()
        .argument(&format!("--storage-account={missing}"))
        .argument("--arm-endpoint=RESOURCE_MANAGER")
        .mount();
    mount
        .sh("cat $M/.storage/acct02/key1")
        .fails_with("No such file or directory");
}

#[test]
fn a_fault_of_resource_manager_is_tried_again_and_concerns_no_secret() {
    let (mount, [key1, _]) = mount_with_account();
    mount.emulator.set_secret("db", "1");
    let fault = Fault::error(503, "ServerBusy", None).of(Service::ResourceManager);
    mount.emulator.add_fault(fault.first(1));
    assert_eq!(mount.sh("cat $M/.storage/acct01/key1").ok(), key1);
    let fault = Fault::hang().of(Service::ResourceManager);
    mount.emulator.add_fault(fault);
    assert_eq!(mount.sh("cat $M/db").ok(), "1");
}
