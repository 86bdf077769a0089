//! What happened → errno: the one table, and the only place that knows both sides.

#![forbid(unsafe_code)]

use nix::errno::Errno;

use crate::secrets::Failure;

/// The errno a file operation fails with when the store failed so.
pub fn errno(failure: Failure) -> Errno {
    match failure {
        Failure::NotFound => Errno::ENOENT,
        Failure::Forbidden | Failure::Unauthorized | Failure::IdentityRefused => Errno::EACCES,
        // The caller has the right, the secret's state forbids it.
        Failure::Disabled | Failure::Managed | Failure::ScopeLocked => Errno::EPERM,
        // The name is taken, by a secret that `ls` of no tool would show.
        Failure::DeletedButRecoverable => Errno::EEXIST,
        Failure::Busy => Errno::EBUSY,
        Failure::Throttled | Failure::SigningKeyUnresolved => Errno::EAGAIN,
        Failure::ServerError | Failure::Malformed | Failure::Undecodable => Errno::EIO,
        Failure::TooLarge => Errno::EFBIG,
        // Nothing else gives it, so that it is understood without the log, too.
        Failure::TooManyTags => Errno::E2BIG,
        Failure::TimedOut => Errno::ETIMEDOUT,
        Failure::Unreachable => Errno::EHOSTUNREACH,
        // Something answered that must not be trusted with a token.
        Failure::Tls | Failure::Redirected | Failure::WrongChallenge => Errno::EPROTO,
    }
}
