//! `--uid --gid --file-mode --dir-mode --allow-other --read-only`: what is shown, and that the
//! kernel holds everybody to it.

use keyvaultfs::emulator::Operation;

use crate::harness::{Mount, Setup};

/// Users and groups that exist nowhere, so that nothing else gives them rights.
const SERVICE: &str = "setpriv --reuid 41001 --regid 41001 --groups 41007";
const STRANGER: &str = "setpriv --reuid 41002 --regid 41002 --clear-groups";

/// A mount for the members of group 41007, who may read and not write.
fn readable_by_a_group() -> Mount {
    let setup = Setup::new().argument("--allow-other");
    let setup = setup.argument("--gid=41007").argument("--file-mode=0640");
    let mount = setup.mount();
    mount.emulator.set_secret("f", "1");
    mount
}

#[test]
fn modes_and_owners_are_shown_as_they_were_asked_for() {
    let mount = readable_by_a_group();
    let shown = mount.sh("stat -c '%A %u %g' $M/f $M").ok().to_owned();
    assert_eq!(shown, "-rw-r----- 0 41007\nd-wx--x--- 0 41007\n");
    let setup = Setup::new().argument("--uid=41001").argument("--gid=41007");
    let setup = setup.argument("--file-mode=0660");
    let mount = setup.argument("--dir-mode=0333").mount();
    mount.emulator.set_secret("f", "1");
    let shown = mount.sh("stat -c '%A %u %g' $M/f $M").ok().to_owned();
    assert_eq!(shown, "-rw-rw---- 41001 41007\nd-wx-wx-wx 41001 41007\n");
}

#[test]
fn a_service_user_in_the_group_reads_and_another_user_does_not() {
    let mount = readable_by_a_group();
    assert_eq!(mount.sh(&format!("{SERVICE} cat $M/f")).ok(), "1");
    let asked = mount.count(Operation::Get);
    mount
        .sh(&format!("{STRANGER} cat $M/f"))
        .fails_with("Permission denied");
    assert_eq!(mount.count(Operation::Get), asked, "it does not even ask");
    mount
        .sh(&format!("{SERVICE} sh -c 'echo x > $M/f'"))
        .fails_with("ermission denied");
    mount
        .sh(&format!("{SERVICE} sh -c 'echo x > $M/g'"))
        .fails_with("ermission denied");
    assert_eq!(mount.values("f"), ["1"]);
    assert!(mount.values("g").is_empty());
}

#[test]
fn a_group_that_may_write_sets() {
    let setup = Setup::new().argument("--allow-other");
    let setup = setup.argument("--gid=41007").argument("--file-mode=0660");
    let mount = setup.mount();
    mount.sh(&format!("echo 1 | {SERVICE} tee $M/f > out")).ok();
    mount.sh(&format!("{SERVICE} sed -i s/1/2/ $M/f")).ok();
    assert_eq!(mount.values("f"), ["1\n", "2\n"]);
    assert_eq!(mount.emulator.secret_names(), ["f"]);
    mount
        .sh(&format!("echo 3 | {STRANGER} tee $M/f > out"))
        .fails_with("Permission denied");
}

#[test]
fn without_allow_other_nobody_else_gets_in() {
    let mount = Setup::new().argument("--file-mode=0644").mount();
    mount.emulator.set_secret("f", "1");
    assert_eq!(mount.sh("cat $M/f").ok(), "1");
    for user in [SERVICE, STRANGER] {
        mount
            .sh(&format!("{user} cat $M/f"))
            .fails_with("Permission denied");
    }
}

#[test]
fn a_read_only_mount_takes_no_write_from_anybody() {
    let setup = Setup::new().argument("--read-only");
    let setup = setup.argument("--allow-other").argument("--uid=41001");
    let mount = setup.mount();
    mount.emulator.set_secret("f", "1");
    let shown = mount.sh("stat -c '%A' $M/f $M").ok().to_owned();
    assert_eq!(shown, "-r--------\nd--x------\n");
    for script in [
        "echo x > $M/f",
        "echo x > $M/g",
        "touch -c $M/f && sed -i s/1/2/ $M/f",
        "truncate -s 0 $M/f",
    ] {
        mount.sh(script).fails_with("Read-only file system");
        let as_owner = format!("setpriv --reuid 41001 --clear-groups sh -c '{script}'");
        mount.sh(&as_owner).fails_with("");
    }
    assert_eq!(mount.count(Operation::Set), 0);
    assert_eq!(mount.values("f"), ["1"]);
}

#[test]
fn root_is_not_special_for_listing() {
    let mount = Mount::new();
    mount.emulator.set_secret("f", "1");
    for script in [
        "ls $M",
        "find $M -mindepth 1",
        "grep -r 1 $M",
        "tar -cf out -C $M .",
        "cp -r $M copy",
        "rsync -r $M/ copy/",
        "python3 -c 'import os; os.listdir(os.environ[\"M\"])'",
    ] {
        mount.sh(script).fails_with("ermission denied");
    }
    assert_eq!(mount.vault_requests().len(), 0);
}

#[test]
fn ssh_takes_a_key_with_the_modes_that_a_service_user_needs() {
    let key = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256";
    // ssh asks who it is: a user that every system has.
    let user = "setpriv --reuid daemon --regid daemon --groups 41007";
    for (owner, mode) in [
        ("--uid=daemon", "--file-mode=0400"),
        ("--gid=41007", "--file-mode=0440"),
    ] {
        let setup = Setup::new().argument("--allow-other");
        let mount = setup.argument(owner).argument(mode).mount();
        let key = mount.sh(key).ok().to_owned();
        mount.emulator.set_secret("f", &key);
        let public = mount.sh(&format!("{user} ssh-keygen -y -f $M/f"));
        assert!(public.ok().starts_with("ecdsa-sha2-nistp256 "), "{mode}");
    }
}
