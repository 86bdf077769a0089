//! A user who is not root mounts by way of fusermount3, for himself alone.

use crate::harness::{Setup, is_mounted, processes_of, wait_until};

#[test]
fn a_user_mounts_reads_writes_and_unmounts() {
    let mut mount = Setup::new().user("nobody").mount();
    mount.emulator.set_secret("a", "1");
    assert_eq!(mount.sh("cat $M/a").ok(), "1");
    mount.sh("printf 2 > $M/b").ok();
    assert_eq!(mount.values("b"), ["2"]);
    assert_eq!(mount.sh("stat -c '%U %a' $M/a").ok(), "nobody 600\n");
    mount.sh("ls $M").fails_with("Permission denied");
    let root = std::fs::read(mount.path("a"));
    assert!(
        root.is_err(),
        "even root is not let in without --allow-other"
    );
    mount.sh("fusermount3 -u $M").ok();
    assert!(mount.wait().success());
    assert!(!is_mounted(&mount.mountpoint));
    wait_until("no process is left", || {
        processes_of(&mount.mountpoint).is_empty()
    });
}

#[test]
fn sigterm_unmounts_for_a_user_too() {
    let mut mount = Setup::new().user("nobody").mount();
    mount.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(mount.wait().success());
    assert!(!is_mounted(&mount.mountpoint));
}

#[test]
fn others_are_let_in_on_request_as_far_as_the_mode_lets_them() {
    let mount = Setup::new()
        .argument("--allow-other")
        .argument("--file-mode=0640")
        .argument("--gid=65534")
        .mount();
    mount.emulator.set_secret("a", "1");
    let nobody = "setpriv --reuid nobody --regid nogroup --clear-groups";
    let stranger = "setpriv --reuid daemon --regid daemon --clear-groups";
    assert_eq!(mount.sh(&format!("{nobody} cat $M/a")).ok(), "1");
    let write = mount.sh(&format!("{nobody} bash -c 'echo x > $M/a'"));
    write.fails_with("Permission denied");
    mount
        .sh(&format!("{stranger} cat $M/a"))
        .fails_with("Permission denied");
    assert_eq!(mount.values("a"), ["1"]);
}
