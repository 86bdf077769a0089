//! "The vault is never asked to list or delete": whatever tools do to the mount.

use keyvaultfs::emulator::{Operation, Permission};

use crate::harness::Mount;

#[test]
fn nothing_lists_and_nothing_deletes() {
    let mount = Mount::new();
    // Granted, so that only the mount stands between a tool and the list.
    mount
        .emulator
        .set_policy([Permission::Get, Permission::Set, Permission::List]);
    mount.emulator.set_secret("a", "1");
    for refused in [
        "ls $M",
        "ls -la $M",
        "find $M",
        "du $M",
        "tar -cf /dev/null $M",
        "cp -r $M copy",
        "grep -r x $M",
        "rm -rf $M",
        "rm -rf $M/a",
        "rm $M/a",
        "python3 -c 'import os; os.listdir(os.environ[\"M\"])'",
        "chmod -R go-rwx $M",
    ] {
        mount.sh(refused).fails_with("");
    }
    mount.sh("ls $M").fails_with("Permission denied");
    // A glob matches nothing, completion offers nothing, and neither is an error.
    assert_eq!(mount.sh("cd $M && echo *").ok(), "*\n");
    assert_eq!(mount.sh("compgen -f $M/ || true").ok(), "");
    mount.sh("mv $M/a $M/b").fails_with("");
    mount.sh("mv $M/a $D/moved").fails_with("");
    mount.sh("cd $M && pwd && stat . && df . && test -d .").ok();
    assert_eq!(mount.count(Operation::List), 0);
    assert_eq!(mount.count(Operation::Other), 0);
    assert_eq!(mount.values("a"), ["1"]);
    assert_eq!(mount.emulator.secret_names(), ["a"]);
    assert_eq!(mount.sh("cat $M/a").ok(), "1");
}
