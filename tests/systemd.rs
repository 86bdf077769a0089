//! The units, as systemd itself judges them. Needs root, and the package systemd.

use std::process::{Command, Output};

/// Runs `script` where the program is installed and the units are in the working directory.
fn run(script: &str) -> Output {
    assert!(nix::unistd::geteuid().is_root(), "it takes root");
    let install = r#"
        mount -t tmpfs -o mode=755 local /usr/local
        mkdir -p /usr/local/bin /usr/local/units
        cp "$PROGRAM" /usr/local/bin/keyvaultfs
        cp scripts/secrets.mount scripts/secrets.automount /usr/local/units
        cp scripts/keyvaultfs@.service /usr/local/units
        cp scripts/keyvaultfs@.service /usr/local/units/keyvaultfs@myvault.service
        cd /usr/local/units
    "#;
    Command::new("unshare")
        .args(["-m", "sh", "-euc", &format!("{install}\n{script}")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PROGRAM", env!("CARGO_BIN_EXE_keyvaultfs"))
        .output()
        .unwrap()
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    let output = run(
        "systemd-analyze verify --man=no keyvaultfs@myvault.service \
                      ./secrets.mount ./secrets.automount 2>&1",
    );
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn systemd_finds_the_service_no_worse_than_medium() {
    let output = run("systemd-analyze security --offline=true --threshold=55 keyvaultfs@.service");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("exposure level for"), "{said}");
}

#[test]
fn a_dead_mount_is_freed_after_the_service_and_no_other() {
    let unit = include_str!("../scripts/keyvaultfs@.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStopPost=-sh -c '"))
        .unwrap();
    let command = line.strip_suffix('\'').unwrap().replace("%i", "myvault");
    let output = run(&format!(
        r#"
        mkdir m; export MOUNTPOINT=$PWD/m
        free() {{ {command}; }}
        mount -t tmpfs other m; free || echo "another file system stays"; umount m
        # A FUSE mount whose device is closed at once is as dead as can be.
        exec 3<> /dev/fuse
        mount -i -t fuse.keyvaultfs -o fd=3,rootmode=40000,user_id=0,group_id=0 myvault m
        exec 3>&-
        free && echo "a dead one goes"
        grep -c " $MOUNTPOINT " /proc/mounts || true
        "#
    ));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        said,
        "another file system stays\na dead one goes\n0\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
