//! The program as a mount helper: installed as `/sbin/mount.keyvaultfs`, it is run by mount(8),
//! systemd and autofs as `mount.keyvaultfs SRC DIR [-sfnv] [-N ns] [-o options] [-t type]`, in any
//! order. Only the name it is called by decides: `-f` means *fake* here and *foreground* elsewhere.
//!
//! It becomes an ordinary command line; what that means is the business of the parser it goes to.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use nix::sched::{CloneFlags, setns};

use super::error::Error;
use super::mount_options::UnknownWords;

/// The types under which fstab may name the file system.
const TYPES: [&str; 2] = ["keyvaultfs", "fuse.keyvaultfs"];

/// What mount(8) says to a helper; see its section "EXTERNAL HELPERS".
#[derive(Debug, Parser)]
#[command(
    name = "mount.keyvaultfs",
    version,
    about = "Mounts an Azure Key Vault for mount(8); see keyvaultfs --help for the options",
    max_term_width = 100,
    args_override_self = true
)]
pub(super) struct HelperArguments {
    /// The vault: its name, its host or its https:// URL
    pub source: String,

    /// The directory to mount it on
    pub mountpoint: PathBuf,

    /// The options of `keyvaultfs` and of mount(8)
    #[arg(short, value_name = "OPT[,OPT…]")]
    pub options: Vec<String>,

    /// Check everything but mount nothing
    #[arg(short)]
    pub fake: bool,

    /// Pass over unknown options
    #[arg(short)]
    pub sloppy: bool,

    /// Say what was mounted
    #[arg(short)]
    pub verbose: bool,

    /// Accepted: no mtab is written anyway
    #[arg(short)]
    no_mtab: bool,

    /// Mount in this mount namespace: a process id, or the path of a namespace
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<PathBuf>,

    /// The type in fstab
    #[arg(short = 't', value_name = "TYPE", value_parser = TYPES)]
    file_system_type: Option<String>,
}

impl HelperArguments {
    /// What to do with options that nobody knows.
    pub(super) fn unknown_words(&self) -> UnknownWords {
        if self.sloppy {
            UnknownWords::PassOver
        } else {
            UnknownWords::Refuse
        }
    }

    /// Enters the mount namespace of `-N`, so that the mountpoint is found and mounted there.
    pub(super) fn enter_namespace(&self) -> Result<(), Error> {
        let Some(namespace) = &self.namespace else {
            return Ok(());
        };
        let path = if is_process_id(namespace) {
            Path::new("/proc").join(namespace).join("ns/mnt")
        } else {
            namespace.clone()
        };
        let enter = || setns(File::open(&path)?, CloneFlags::CLONE_NEWNS).map_err(Into::into);
        enter().map_err(|source| Error::Namespace {
            path: path.clone(),
            source,
        })
    }
}

/// Whether a program called `program` is to act as a mount helper.
pub(super) fn is_name_of_helper(program: &OsStr) -> bool {
    Path::new(program)
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"mount."))
}

/// Whether `mounts`, the text of /proc/self/mounts, has this vault on this mountpoint.
pub(super) fn is_mounted(mounts: &[u8], source: &str, mountpoint: &Path) -> bool {
    let mut place = Vec::new();
    for &byte in mountpoint.as_os_str().as_bytes() {
        match byte {
            // As the kernel writes them.
            b' ' | b'\t' | b'\n' | b'\\' => place.extend(format!("\\{byte:03o}").bytes()),
            _ => place.push(byte),
        }
    }
    let wanted = [source.as_bytes(), &place, b"fuse.keyvaultfs"];
    mounts
        .split(|&byte| byte == b'\n')
        .any(|line| line.split(|&byte| byte == b' ').take(3).eq(wanted))
}

fn is_process_id(namespace: &Path) -> bool {
    let text = namespace.as_os_str().as_encoded_bytes();
    text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_it_is_called_by_decides() {
        for name in [
            "/sbin/mount.keyvaultfs",
            "mount.keyvaultfs",
            "mount.fuse.keyvaultfs",
        ] {
            assert!(is_name_of_helper(name.as_ref()), "{name}");
        }
        for name in ["keyvaultfs", "/mount.d/keyvaultfs", ""] {
            assert!(!is_name_of_helper(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn arguments_come_in_every_order_that_libmount_systemd_and_autofs_use() {
        for line in [
            "src /dir -o ro,_netdev -sfnv -t fuse.keyvaultfs",
            "src /dir -s -f -n -v -o ro,_netdev",
            "-n -o ro,_netdev -sfv src /dir",
            "-o ro,_netdev src -sv /dir -nf",
            "src -oro,_netdev /dir -n -f -s -v -N 1",
        ] {
            let words = std::iter::once("mount.keyvaultfs").chain(line.split(' '));
            let arguments = HelperArguments::try_parse_from(words).unwrap();
            assert_eq!(arguments.source, "src", "{line}");
            assert_eq!(arguments.mountpoint, Path::new("/dir"), "{line}");
            assert_eq!(arguments.options, ["ro,_netdev"], "{line}");
            assert!(
                arguments.fake && arguments.sloppy && arguments.verbose,
                "{line}"
            );
        }
    }

    #[test]
    fn a_vault_is_found_among_the_mounts() {
        let mounts = b"proc /proc proc rw 0 0\nmyvault /my\\040place fuse.keyvaultfs rw 0 0\n";
        assert!(is_mounted(mounts, "myvault", Path::new("/my place")));
        for (source, place) in [
            ("proc", "/proc"),
            ("other", "/my place"),
            ("myvault", "/my"),
        ] {
            assert!(!is_mounted(mounts, source, Path::new(place)), "{source}");
        }
    }

    #[test]
    fn another_type_is_refused() {
        let words = ["mount.keyvaultfs", "src", "/dir", "-t", "ext4"];
        assert!(HelperArguments::try_parse_from(words).is_err());
    }
}
