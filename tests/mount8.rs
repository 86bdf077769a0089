//! The program as mount(8)'s helper, called by the real mount(8): as root, from an fstab, and by
//! a user whom fstab lets mount. Needs root.
//!
//! Each test runs a shell script in a mount namespace of its own, in which the program is
//! installed; what it mounts is unmounted when the script ends, however it ends.
#![cfg(feature = "emulator")]

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use keyvaultfs::emulator::{Calls, Effect, Emulator, Fault, Options, Service};

/// Installs the program over a copy of the system's directories, and lets every user at FUSE.
const INSTALL: &str = r#"
    mkdir "$T/m"
    mount -t tmpfs -o mode=755 system "$T/s"
    mkdir "$T/s/upper" "$T/s/work"
    mount -t overlay -o "lowerdir=/usr/sbin,upperdir=$T/s/upper,workdir=$T/s/work" over /usr/sbin
    cp "$PROGRAM" /usr/sbin/keyvaultfs
    ln -s keyvaultfs /usr/sbin/mount.keyvaultfs
    mknod -m 0666 "$T/s/fuse" c 10 229
    mount --bind "$T/s/fuse" /dev/fuse
    printf '%s\n' "$VAULT $T/m keyvaultfs $OPTIONS,user,nofail,_netdev 0 0" > "$T/fstab"
    mount --bind "$T/fstab" /etc/fstab
    cd "$T"
    trap 'umount -l "$T/m" 2>/dev/null || true' EXIT
"#;

/// A vault with the secret `db`.
struct Vault(Emulator);

impl Vault {
    fn new() -> Self {
        let emulator = Emulator::start(Options::default()).unwrap();
        emulator.set_secret("db", "s3cret");
        Self(emulator)
    }

    /// Runs `script` with the program installed; `$VAULT`, `$OPTIONS` and `$T`, an empty
    /// directory with the mountpoint `m` in it, are set.
    fn run(&self, script: &str) -> Output {
        assert!(
            nix::unistd::geteuid().is_root(),
            "mount(8) is tested as root"
        );
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("s")).unwrap();
        let public = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), public).unwrap();
        let endpoints = self.0.endpoints();
        let options = format!(
            "identity_endpoint={},ca_cert={},resource={}",
            endpoints.imds,
            endpoints.ca_cert.display(),
            endpoints.resource
        );
        Command::new("unshare")
            .args(["-m", "sh", "-euc", &format!("{INSTALL}\n{script}")])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("PROGRAM", env!("CARGO_BIN_EXE_keyvaultfs"))
            .env("T", directory.path())
            .env("VAULT", &endpoints.vault)
            .env("OPTIONS", options)
            .output()
            .unwrap()
    }

    /// The same, where all is to go well; returns what was printed.
    fn prints(&self, script: &str) -> String {
        let output = self.run(script);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn a_vault_is_mounted_with_options_before_and_after() {
    let vault = Vault::new();
    for line in [
        "mount -t keyvaultfs -o $OPTIONS,ro $VAULT m",
        "mount -n -s -v -t keyvaultfs $VAULT m -o $OPTIONS,ro,nosuch",
        "mount $VAULT m -o $OPTIONS -o ro -t keyvaultfs -n",
        "mount -t fuse.keyvaultfs -o $OPTIONS,ro $VAULT m",
        "mount.keyvaultfs $VAULT m -n -v -o $OPTIONS,ro -s",
        "mount.keyvaultfs -sn -o $OPTIONS,ro -v $VAULT m",
    ] {
        let shown = "fuse.keyvaultfs ro,nosuid,nodev,noexec,noatime";
        let printed = vault.prints(&format!(
            "{line} > said; cat m/db; grep -c \" $T/m {shown}\" /proc/mounts; umount m"
        ));
        assert_eq!(printed, "s3cret1\n", "{line}");
    }
}

#[test]
fn verbose_says_what_was_mounted() {
    let vault = Vault::new();
    let printed = vault.prints("mount -v -t keyvaultfs -o $OPTIONS $VAULT m; umount m");
    let source = &vault.0.endpoints().vault;
    assert!(
        printed.starts_with(&format!("keyvaultfs: {source} mounted on ")),
        "{printed}"
    );
}

#[test]
fn fake_checks_and_mounts_nothing() {
    let vault = Vault::new();
    let printed = vault.prints(
        "mount -f -t keyvaultfs -o $OPTIONS $VAULT m; grep -c \" $T/m \" /proc/mounts || true
         mount -f -t keyvaultfs -o $OPTIONS,nosuch $VAULT m || echo $?",
    );
    assert_eq!(printed, "0\n1\n");
}

#[test]
fn all_of_fstab_mounted_twice_is_mounted_once() {
    let vault = Vault::new();
    let printed = vault.prints(
        "mount -a; mount -a; mount m 2>/dev/null || echo $?
         grep -c \" $T/m fuse.keyvaultfs \" /proc/mounts; cat m/db; umount m",
    );
    assert_eq!(printed, "32\n1\ns3cret");
}

#[test]
fn a_vault_whose_name_is_a_files_is_mounted_by_its_name_and_once() {
    let vault = Vault::new();
    let printed = vault.prints(
        "mkdir myvault; echo \"myvault $T/m keyvaultfs $OPTIONS\" > fstab
         mount -a; mount -a; cd /; mount -a; grep \" $T/m \" /proc/mounts | cut -d ' ' -f 1; umount $T/m",
    );
    assert_eq!(printed, "myvault\n");
}

#[test]
fn a_mounted_vaults_options_cannot_be_changed() {
    let vault = Vault::new();
    let output = vault
        .run("mount -a; mount -o remount,ro m && exit 1; mount -t keyvaultfs -o remount $VAULT m");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("-o remount: a mounted vault's options cannot be changed"),
        "{said}"
    );
}

#[test]
fn a_user_mounts_and_unmounts_what_fstab_permits() {
    let vault = Vault::new();
    let printed = vault.prints(
        "chown nobody m; chmod 0700 m
         as() { setpriv --reuid nobody --regid nogroup --clear-groups sh -euc \"$1\"; }
         as 'mount m'; as 'cat m/db'; stat -c %U m/db 2>&1 | grep -o 'Permission denied'
         as 'stat -c %U m/db'; as 'fusermount3 -u m'; grep -c \" $T/m \" /proc/mounts || true",
    );
    assert_eq!(printed, "s3cretPermission denied\nnobody\n0\n");
}

#[test]
fn a_boot_without_a_network_does_not_wait_and_the_mount_works_once_there_is_one() {
    let vault = Vault::new();
    // The worst of networks: nothing is refused, nothing answers.
    for service in [Service::KeyVault, Service::Imds] {
        vault.0.add_fault(Fault {
            service,
            method: None,
            secret: None,
            calls: Calls::All,
            after: false,
            delay_ms: 0,
            effect: Effect::Hang,
            retry_after: None,
            headers: Default::default(),
        });
    }
    let directory = tempfile::tempdir().unwrap();
    let [mounted, network] = ["mounted", "network"].map(|name| {
        let path = directory.path().join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path
    });
    let script = format!(
        "mount -a; echo > {}; cat {} > /dev/null; cat m/db; umount m",
        mounted.display(),
        network.display()
    );
    std::thread::scope(|scope| {
        let began = Instant::now();
        let printed = scope.spawn(|| vault.prints(&script));
        std::fs::read(&mounted).unwrap();
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        vault.0.clear_faults();
        let mut network = OpenOptions::new().write(true).open(&network).unwrap();
        network.write_all(b"up\n").unwrap();
        drop(network);
        assert_eq!(printed.join().unwrap(), "s3cret");
    });
}

#[test]
fn another_namespace_is_mounted_in() {
    let vault = Vault::new();
    let printed = vault.prints(
        "mkfifo ready; unshare -m sh -c 'echo > ready; exec sleep 60' & other=$!
         read x < ready
         mount -N $other -t keyvaultfs -o $OPTIONS $VAULT $T/m
         grep -c \" $T/m \" /proc/mounts || true
         grep -c \" $T/m \" /proc/$other/mounts
         nsenter -t $other -m umount $T/m; kill $other",
    );
    assert_eq!(printed, "0\n1\n");
}
