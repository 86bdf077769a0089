//! Can this user mount with FUSE on this machine, or in this container?

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::report::{Check, Finding};

const DEVICE: &str = "/dev/fuse";

/// The number of /dev/fuse; Linux `devices.txt`.
const DEVICE_NUMBER: (u64, u64) = (10, 229);

/// Where fusermount3 may stand if `PATH` does not name it; and the only places where it is setuid.
const SYSTEM_DIRECTORIES: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"];

const CONFIGURATION: &str = "/etc/fuse.conf";

/// CAP_SYS_ADMIN's bit; capabilities(7).
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Looks at all that a mount by this user needs.
pub(super) fn check(allow_other: bool) -> Finding {
    let root = geteuid().is_root();
    let result = device().and_then(|()| {
        if root {
            as_root()
        } else {
            as_user(allow_other)
        }
    });
    match result {
        Ok(seen) => Finding::passed(Check::Fuse, seen),
        Err((seen, remedy)) => Finding::failed(Check::Fuse, seen, Some(remedy)),
    }
}

/// What was seen that is wrong, and what mends it.
type Wrong = (String, &'static str);

fn device() -> Result<(), Wrong> {
    let wrong = |seen: String, remedy| Err((format!("{DEVICE} {seen}"), remedy));
    let metadata = match fs::metadata(DEVICE) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return wrong(
                "is not there".to_owned(),
                "modprobe fuse; in a container: --device /dev/fuse",
            );
        }
        Err(error) => return wrong(format!("cannot be looked at: {error}"), "ls -l /dev"),
    };
    let device = metadata.rdev();
    let number = (libc::major(device).into(), libc::minor(device).into());
    if !metadata.file_type().is_char_device() || number != DEVICE_NUMBER {
        return wrong(
            "is not the FUSE device".to_owned(),
            "rm /dev/fuse && mknod -m 0666 /dev/fuse c 10 229",
        );
    }
    match File::options().read(true).write(true).open(DEVICE) {
        Ok(_) => Ok(()),
        Err(error) => {
            let remedy = match error.raw_os_error() {
                Some(libc::ENODEV | libc::ENXIO) => "modprobe fuse",
                Some(libc::EPERM) => "in a container: --device /dev/fuse",
                _ => "chmod 0666 /dev/fuse",
            };
            wrong(format!("cannot be opened: {error}"), remedy)
        }
    }
}

fn as_root() -> Result<String, Wrong> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if effective_capabilities(&status).is_some_and(|held| held & CAP_SYS_ADMIN == 0) {
        return Err((
            "root here may not mount: there is no CAP_SYS_ADMIN".to_owned(),
            "in a container: --cap-add SYS_ADMIN --security-opt apparmor=unconfined",
        ));
    }
    Ok(format!("{DEVICE} opens, and root may mount"))
}

fn as_user(allow_other: bool) -> Result<String, Wrong> {
    let Some(helper) = find("fusermount3") else {
        return Err((
            "who is not root needs fusermount3, which is not there".to_owned(),
            "apt-get install fuse3 (or dnf install fuse3)",
        ));
    };
    let shown = helper.display();
    let metadata = fs::metadata(&helper);
    if !metadata.is_ok_and(|metadata| metadata.uid() == 0 && metadata.mode() & 0o4000 != 0) {
        return Err((
            format!("{shown} is not setuid root, so it cannot mount for you"),
            "chown root: \"$(command -v fusermount3)\" && chmod 4755 \"$(command -v fusermount3)\"",
        ));
    }
    let configuration = fs::read_to_string(CONFIGURATION).unwrap_or_default();
    if allow_other && !permits_allow_other(&configuration) {
        return Err((
            format!("{CONFIGURATION} does not permit --allow-other to who is not root"),
            "echo user_allow_other | sudo tee -a /etc/fuse.conf",
        ));
    }
    Ok(format!("{DEVICE} opens, and {shown} mounts for you"))
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn permits_allow_other(configuration: &str) -> bool {
    let mut lines = configuration.lines();
    lines.any(|line| line.trim() == "user_allow_other")
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = SYSTEM_DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).to_owned());
    let mut candidates = std::env::split_paths(&path).chain(system);
    candidates.find_map(|directory| {
        let candidate = directory.join(program);
        candidate.is_file().then_some(candidate)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_permits_allow_other_on_a_line_of_its_own() {
        assert!(permits_allow_other("# x\nuser_allow_other\n"));
        assert!(!permits_allow_other("#user_allow_other\n"));
        assert!(!permits_allow_other(""));
    }

    #[test]
    fn capabilities_are_read_as_the_kernel_writes_them() {
        let status = "Name:\tx\nCapEff:\t00000000a80425fb\nCapBnd:\t0\n";
        let held = effective_capabilities(status).unwrap();
        assert_eq!(held & CAP_SYS_ADMIN, 0);
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }
}
