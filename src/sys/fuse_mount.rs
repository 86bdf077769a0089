//! The FUSE mount: made with mount(2) where that is allowed, else by `fusermount3`, and undone.
//!
//! Own code because fuser's own unmounts a path twice when somebody else unmounted it first, and
//! because the descriptor of /dev/fuse must belong to a process that never dies.

use std::fs::OpenOptions;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{getegid, geteuid};

/// The type that /proc/mounts shows.
pub const FILESYSTEM_TYPE: &str = "fuse.keyvaultfs";
const SUBTYPE: &str = "keyvaultfs";
const DEVICE: &str = "/dev/fuse";

/// What to mount, and where.
#[derive(Debug, Clone, Copy)]
pub struct FuseMount<'a> {
    /// What /proc/mounts shows as the source.
    pub source: &'a str,
    /// An absolute path of a directory.
    pub mountpoint: &'a Path,
    /// Whether users other than the mounter are let in.
    pub allow_other: bool,
    /// Whether the kernel refuses writes.
    pub read_only: bool,
    /// Mount options for the kernel's security modules, such as `context="…"`.
    pub security_contexts: &'a [String],
}

/// Why there is no mount.
#[derive(Debug)]
pub enum Refusal {
    /// /dev/fuse cannot be opened, or `fusermount3` is not there; the text says which.
    Unavailable(String),
    /// The kernel or `fusermount3` refused; the text says what they said.
    Refused(String),
}

impl FuseMount<'_> {
    /// Mounts, and returns the descriptor of /dev/fuse that serves the mount.
    pub fn mount(&self) -> Result<OwnedFd, Refusal> {
        if !geteuid().is_root() {
            return self.mount_by_helper();
        }
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(DEVICE)
            .map_err(|error| Refusal::Unavailable(format!("{DEVICE}: {error}")))?;
        let mut flags =
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        flags.set(MsFlags::MS_RDONLY, self.read_only);
        let mut data = format!(
            "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
            device.as_raw_fd(),
            geteuid(),
            getegid()
        );
        if self.allow_other {
            data.push_str(",allow_other");
        }
        for context in self.security_contexts {
            data.push(',');
            data.push_str(context);
        }
        nix::mount::mount(
            Some(self.source),
            self.mountpoint,
            Some(FILESYSTEM_TYPE),
            flags,
            Some(data.as_str()),
        )
        .map_err(|error| match error {
            Errno::ENODEV => Refusal::Unavailable("the kernel has no FUSE".into()),
            _ => Refusal::Refused(format!("mount: {}", error.desc())),
        })?;
        Ok(device.into())
    }

    /// The setuid `fusermount3` mounts and sends the descriptor over a socket, which it is given
    /// as its standard input: a descriptor it inherits without further ado.
    fn mount_by_helper(&self) -> Result<OwnedFd, Refusal> {
        let unavailable = |error: io::Error| Refusal::Unavailable(format!("fusermount3: {error}"));
        let mut options = format!(
            "fsname={},subtype={SUBTYPE},nosuid,nodev,noexec,noatime,default_permissions",
            // fusermount3 splits at commas that no backslash precedes.
            self.source.replace('\\', "\\\\").replace(',', "\\,")
        );
        if self.allow_other {
            options.push_str(",allow_other");
        }
        if self.read_only {
            options.push_str(",ro");
        }
        for context in self.security_contexts {
            options.push(',');
            options.push_str(&context.replace(',', "\\,"));
        }
        let (ours, theirs) = UnixStream::pair().map_err(unavailable)?;
        let helper = Command::new("fusermount3")
            .args(["-o", &options, "--"])
            .arg(self.mountpoint)
            .env("_FUSE_COMMFD", "0")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(unavailable)?;
        let device = receive_descriptor(&ours);
        let output = helper.wait_with_output().map_err(unavailable)?;
        device.map_err(|error| {
            let said = String::from_utf8_lossy(&output.stderr);
            match said.trim() {
                "" => Refusal::Refused(format!("fusermount3: {error}")),
                said => Refusal::Refused(said.replace('\n', "; ")),
            }
        })
    }
}

/// Takes the mount off its path at once; open files keep it alive unseen. For who may not
/// umount2, `fusermount3` does.
pub fn unmount(mountpoint: &Path) -> io::Result<()> {
    match umount2(mountpoint, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) => {
            let output = Command::new("fusermount3")
                .args(["-u", "-z", "--"])
                .arg(mountpoint)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?
                .wait_with_output()?;
            if output.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&output.stderr);
            Err(io::Error::other(said.trim().replace('\n', "; ")))
        }
        Err(error) => Err(error.into()),
    }
}

fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut slices = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let Some(&descriptor) = descriptors.first()
        {
            // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
            return Ok(unsafe { OwnedFd::from_raw_fd(descriptor) });
        }
    }
    Err(io::Error::other("it sent no descriptor"))
}
