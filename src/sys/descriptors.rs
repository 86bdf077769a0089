//! Descriptors that came with the process, and memory files that travel with one.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use parking_lot::Mutex;

/// The descriptors that were taken over already.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes over a descriptor that was open when this program was started, and keeps it from the
/// programs this one starts. Each can be taken once.
///
/// To be called before anything else opens descriptors, or the number may mean another file.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    let mut taken = TAKEN.lock();
    if number < 0 || taken.contains(&number) {
        return Err(io::Error::other(format!("descriptor {number} is taken")));
    }
    // SAFETY: whether the number is open is exactly what the call below finds out; the borrow
    // ends with it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|error| {
        io::Error::new(
            io::Error::from(error).kind(),
            format!("descriptor {number} was not handed over: {error}"),
        )
    })?;
    taken.push(number);
    // SAFETY: the number is open, and `TAKEN` lets it out once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A file in memory that holds `content`, to be read from its start. Closed on exec.
pub fn memory_file(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

/// The same file on a descriptor above `last`, also closed on exec.
pub fn moved_above(last: RawFd, descriptor: OwnedFd) -> io::Result<OwnedFd> {
    let moved = fcntl(&descriptor, FcntlArg::F_DUPFD_CLOEXEC(last + 1))?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

/// Holds the descriptors up to `last` that are free, so that nothing else gets those numbers,
/// which programs started later will find their own descriptors on.
pub fn reserve_up_to(last: RawFd) -> io::Result<Vec<OwnedFd>> {
    let mut held = Vec::new();
    loop {
        let plug = OwnedFd::from(File::open("/dev/null")?);
        if plug.as_raw_fd() > last {
            return Ok(held);
        }
        held.push(plug);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn a_descriptor_is_taken_over_once_and_only_if_it_is_open() {
        let number = File::open("/dev/null").unwrap().into_raw_fd();
        assert_eq!(inherited(number).unwrap().as_raw_fd(), number);
        assert!(inherited(number).is_err());
        assert!(inherited(999).is_err());
        assert!(inherited(-1).is_err());
    }

    #[test]
    fn a_moved_descriptor_is_out_of_the_way() {
        let file = OwnedFd::from(File::open("/dev/null").unwrap());
        assert!(moved_above(99, file).unwrap().as_raw_fd() > 99);
    }

    #[test]
    fn a_memory_file_is_read_from_its_start() {
        let mut text = String::new();
        File::from(memory_file("test", b"content").unwrap())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "content");
    }
}
