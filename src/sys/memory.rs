//! Keeps the process's memory out of swap.

use caps::{CapSet, Capability};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Whether the process's memory can reach a swap device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// It cannot: every page is locked once it is touched.
    All,
    /// It can: the limit on locked memory is finite and this user may not raise it. With a lock
    /// on everything, later allocations and threads would fail at that limit, so there is none.
    LimitTooLow,
    /// It can: the kernel refused.
    Refused,
}

/// Lifts the limit on locked memory where this user may. The programs started later inherit it:
/// it is for the keeper, which has the right, to call, so that the worker can lock.
pub fn lift_limit() {
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}

/// Locks all pages, those to come included, each when it is first touched. Not inherited over
/// fork or exec.
pub fn lock() -> Locked {
    lift_limit();
    let unlimited =
        getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    let exempt = caps::has_cap(None, CapSet::Effective, Capability::CAP_IPC_LOCK);
    if !unlimited && !exempt.unwrap_or(false) {
        return Locked::LimitTooLow;
    }
    let flags = MlockAllFlags::MCL_CURRENT
        | MlockAllFlags::MCL_FUTURE
        | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    match mlockall(flags) {
        Ok(()) => Locked::All,
        Err(_) => Locked::Refused,
    }
}
