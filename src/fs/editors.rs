//! How a temporary file is told from a secret that is being made: by its name, or by the way it
//! is created.

#![forbid(unsafe_code)]

use super::inodes::NodeName;

/// Who made a file, and how.
#[derive(Debug, Clone, Copy)]
pub struct Creation {
    /// The creating process's user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The permission bits, the umask taken off.
    pub mode: u32,
    /// open(2)'s flags.
    pub flags: i32,
}

impl Creation {
    /// Whether mkstemp(3) would have opened it so.
    pub(super) fn is_mkstemp(&self) -> bool {
        let wanted = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
        let seen = self.flags & (libc::O_ACCMODE | libc::O_CREAT | libc::O_EXCL);
        seen == wanted && self.mode & 0o7777 == 0o600
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.flags & libc::O_EXCL != 0
    }
}

/// Whether an editor makes files of this name beside a secret's, or beside a form of it.
/// `exclusive`: the names that only an exclusive creation makes a temporary file count too.
pub(super) fn is_editors(text: &str, exclusive: bool) -> bool {
    let secret = |name: &str| NodeName::parse(name).is_some();
    // vim: .NAME.swp, .NAME.swo, .NAME.swpx; rsync: .NAME.XXXXXX
    if let Some((name, end)) = text
        .strip_prefix('.')
        .and_then(|rest| rest.rsplit_once('.'))
    {
        let swap = end.strip_suffix('x').unwrap_or(end);
        let swap = swap.len() == 3 && swap.starts_with("sw");
        let random = end.len() == 6 && end.bytes().all(|byte| byte.is_ascii_alphanumeric());
        return secret(name) && (swap || random);
    }
    let between = |start: &str, end: &str| {
        let name = text
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix(end));
        name.is_some_and(secret)
    };
    between("", "~")
        || between("#", "#")
        || between(".#", "")
        || (exclusive && is_patchs(text))
        || (exclusive && [".lock", ".tmp", ".new"].iter().any(|end| between("", end)))
}

/// Whether patch(1) makes such a file: `NAME.oXXXXXX`, `NAME.rXXXXXX`. One of small letters alone
/// could be somebody's word.
fn is_patchs(text: &str) -> bool {
    let Some((name, end)) = text.rsplit_once('.') else {
        return false;
    };
    let random = end.len() == 7
        && end.starts_with(['o', 'r'])
        && end.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && !end.bytes().all(|byte| byte.is_ascii_lowercase());
    random && NodeName::parse(name).is_some()
}

/// Whether this is a name vim tries whether a directory can be written: 4913, 5036, 5159, …
pub(super) fn is_vims_probe(text: &str) -> bool {
    text.len() <= 6
        && text
            .parse::<u32>()
            .is_ok_and(|number| number >= 4913 && (number - 4913) % 123 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MKSTEMP: Creation = Creation {
        uid: 0,
        gid: 0,
        mode: 0o100_600,
        flags: libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC,
    };

    #[test]
    fn editors_names_are_known_by_the_secret_they_stand_beside() {
        for name in [
            ".a.swp",
            ".a.swo",
            ".a.swpx",
            "a~",
            "#a#",
            ".#a",
            ".SQLPasswd.Xy12zQ",
        ] {
            assert!(is_editors(name, false), "{name}");
        }
        for name in ["a.lock", "a.tmp", "a.new", "a.oUiluOf", "a.r1b2c3d"] {
            assert!(is_editors(name, true) && !is_editors(name, false), "{name}");
        }
        for name in [
            "a",
            ".git",
            "~",
            "##",
            ".#",
            "..swp",
            ".a.b.swp",
            ".bashrc",
            "a.txt",
            ".a.swapfile",
            "a.restore",
            "a.xUiluOf",
        ] {
            assert!(!is_editors(name, true), "{name}");
        }
        assert!(is_vims_probe("4913") && is_vims_probe("5036"));
        assert!(!is_vims_probe("4914") && !is_vims_probe("1"));
    }

    #[test]
    fn mkstemp_is_known_by_its_flags_and_mode() {
        assert!(MKSTEMP.is_mkstemp());
        assert!(
            !Creation {
                mode: 0o644,
                ..MKSTEMP
            }
            .is_mkstemp()
        );
        assert!(
            !Creation {
                flags: MKSTEMP.flags & !libc::O_EXCL,
                ..MKSTEMP
            }
            .is_mkstemp()
        );
        let write_only = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
        assert!(
            !Creation {
                flags: write_only,
                ..MKSTEMP
            }
            .is_mkstemp()
        );
    }
}
