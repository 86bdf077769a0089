//! Whose the files are, what they permit, and as whom the worker runs: names looked up, modes
//! filled in.

#![forbid(unsafe_code)]

use nix::unistd::{Group, User};

use super::arguments::FileArguments;
use super::error::Error;
use crate::config::Ownership;

/// Owner and permissions of the files that are mounted by `uid` and `gid`.
pub(super) fn ownership(files: &FileArguments, uid: u32, gid: u32) -> Result<Ownership, Error> {
    let writable = if files.read_only { 0o555 } else { 0o777 };
    let file_mode = files.file_mode.unwrap_or(0o600) & writable;
    Ok(Ownership {
        uid: match &files.uid {
            Some(name) => user_id("--uid", name)?,
            None => uid,
        },
        gid: match &files.gid {
            Some(name) => group_id("--gid", name)?,
            None => gid,
        },
        file_mode,
        dir_mode: files.dir_mode.unwrap_or_else(|| directory_mode(file_mode)) & writable,
    })
}

/// Whom the worker is to run as, if someone is named; the keeper knows whom else.
pub(super) fn worker_user(option: Option<&str>, mounter: u32) -> Result<Option<String>, Error> {
    const OPTION: &str = "--user";
    let Some(name) = option else {
        return Ok(None);
    };
    if mounter != 0 {
        return Err(Error::Value {
            option: OPTION,
            problem: "is for root; your worker runs as you, leave the option out",
        });
    }
    match User::from_name(name) {
        Ok(Some(_)) => Ok(Some(name.to_owned())),
        _ => Err(Error::NoSuchUser {
            option: OPTION,
            name: name.to_owned(),
        }),
    }
}

/// `x` for whoever may read or write files, `w` for whoever may write them, never `r`.
fn directory_mode(file_mode: u16) -> u16 {
    let write = file_mode & 0o222;
    let read = file_mode & 0o444;
    write | write >> 1 | read >> 2
}

fn user_id(option: &'static str, name: &str) -> Result<u32, Error> {
    if let Some(id) = number(name) {
        return Ok(id);
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => Err(Error::NoSuchUser {
            option,
            name: name.to_owned(),
        }),
    }
}

fn group_id(option: &'static str, name: &str) -> Result<u32, Error> {
    if let Some(id) = number(name) {
        return Ok(id);
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(Error::NoSuchGroup {
            option,
            name: name.to_owned(),
        }),
    }
}

/// A user or group id; the highest number means "none" to the kernel.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::arguments::MountArguments;

    fn owned(line: &str) -> Result<Ownership, Error> {
        let words = ["keyvaultfs", "myvault", "/"];
        let words = words.into_iter().chain(line.split_whitespace());
        let arguments = MountArguments::try_parse_from(words).unwrap();
        ownership(&arguments.settings.files, 1000, 1001)
    }

    fn modes(line: &str) -> (u16, u16) {
        let ownership = owned(line).unwrap();
        (ownership.file_mode, ownership.dir_mode)
    }

    #[test]
    fn the_directory_is_passable_for_readers_and_writable_for_writers() {
        assert_eq!(modes(""), (0o600, 0o300));
        assert_eq!(modes("--file-mode 0440"), (0o440, 0o110));
        assert_eq!(modes("--file-mode 0664"), (0o664, 0o331));
        assert_eq!(modes("--file-mode 0620"), (0o620, 0o330));
        assert_eq!(modes("--file-mode 0000"), (0, 0));
        assert_eq!(modes("--file-mode 0644 --dir-mode 0311"), (0o644, 0o311));
    }

    #[test]
    fn a_read_only_mount_shows_no_write_permission() {
        assert_eq!(modes("--read-only"), (0o400, 0o100));
        assert_eq!(modes("--read-only --file-mode 0660"), (0o440, 0o110));
        assert_eq!(modes("--read-only --dir-mode 0333"), (0o400, 0o111));
    }

    #[test]
    fn files_belong_to_the_mounter_unless_said_otherwise() {
        let owner = |line| {
            let ownership = owned(line).unwrap();
            (ownership.uid, ownership.gid)
        };
        let refused = |line| owned(line).unwrap_err().to_string();
        assert_eq!(owner(""), (1000, 1001));
        assert_eq!(owner("--uid root --gid 7"), (0, 7));
        assert!(refused("--uid no-such-user").contains("no-such-user"));
        assert!(refused("--gid no-such-group").contains("no-such-group"));
        assert!(refused("--uid 4294967295").contains("there is no user"));
    }

    #[test]
    fn only_root_chooses_whom_the_worker_runs_as() {
        assert_eq!(worker_user(None, 1000).unwrap(), None);
        assert_eq!(
            worker_user(Some("root"), 0).unwrap().as_deref(),
            Some("root")
        );
        assert!(matches!(
            worker_user(Some("root"), 1000),
            Err(Error::Value { .. })
        ));
        assert!(matches!(
            worker_user(Some("no-such-user"), 0),
            Err(Error::NoSuchUser { .. })
        ));
    }
}
