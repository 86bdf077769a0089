//! Gives up capabilities that are not needed any more.

use std::io;

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;

/// What a keeper that runs as root needs after it has mounted: to unmount, to look at the
/// processes of others in /proc and at a program that only root may reach, to start workers as
/// another user and to kill them; and to keep its memory locked whatever the limit is.
const KEEPER: [Capability; 7] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_KILL,
    Capability::CAP_IPC_LOCK,
];

/// Keeps of this process's capabilities only those a keeper needs, for itself and for what it
/// starts. To be called before there are other threads, which would keep theirs.
pub fn keep_keepers() -> io::Result<()> {
    restrict(&KEEPER.into_iter().collect()).map_err(io::Error::other)?;
    prctl::set_no_new_privs()?;
    Ok(())
}

fn restrict(wanted: &CapsHashSet) -> Result<(), CapsError> {
    let ours = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = ours.intersection(wanted).copied().collect();
    // The bounding set too, or an exec by root would bring all of them back.
    if ours.contains(&Capability::CAP_SETPCAP) {
        for other in caps::read(None, CapSet::Bounding)?.difference(wanted) {
            caps::drop(None, CapSet::Bounding, *other)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}
