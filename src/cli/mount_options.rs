//! `-o`: mount(8)'s way of writing options. [`unfold`] turns a list of words into the long
//! options they stand for, so that both ways mean the same because they are parsed by the same
//! code, and sets apart what only mount(2) understands.
//!
//! What libmount 2.38 passes to a helper, observed: quotes and backslashes untouched, empty words
//! (`rw,,user`) where it dropped one of its own, `remount` as a word, `user=NAME` cut to `user`.

#![forbid(unsafe_code)]

use clap::{Arg, Command};

/// Words of mount(8) and fstab(5) that ask for what the mount is anyway, speak to others (systemd,
/// `mount -a`), or are overruled by the fixed `nosuid,nodev,noexec,noatime` of every mount
/// (mount.fuse3 adds `dev,suid` of its own accord).
const ACCEPTED: [&str; 20] = [
    "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail",
    "dev", "nodev", "suid", "nosuid", "exec", "noexec", "atime", "noatime", "relatime", "async",
];

/// SELinux's words, for mount(2) alone.
const SECURITY_CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// Long options that make no sense in `-o`.
const NOT_IN_A_LIST: [&str; 4] = ["foreground", "help", "json", "version"];

/// What a list of words comes to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Unfolded {
    /// The long options, each one argument: `--read-only`, `--client-id=…`.
    pub arguments: Vec<String>,
    /// SELinux mount options with quoted values, as mount(2)'s data wants them.
    pub security_contexts: Vec<String>,
}

/// Why a list cannot be unfolded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidMountOption {
    /// No such option.
    #[error("-o {0}: there is no such option; `keyvaultfs --help` lists them")]
    Unknown(String),
    /// An option that needs a value has none.
    #[error("-o {0}: a value is missing; write {0}=VALUE")]
    ValueMissing(String),
    /// An option that takes no value has one.
    #[error("-o {0}: takes no value; write {0} alone")]
    ValueUnexpected(String),
    /// A quote is not closed.
    #[error("-o: a double quote is not closed")]
    QuoteOpen,
    /// `remount` was asked for.
    #[error(
        "-o remount: a mounted vault's options cannot be changed; unmount it and mount it again"
    )]
    Remount,
}

/// Whether words that nobody knows are refused, or passed over as by mount's `-s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownWords {
    /// They are errors.
    Refuse,
    /// They are passed over.
    PassOver,
}

/// Turns the words of `lists` into the long options of `command` that they stand for.
pub(super) fn unfold(
    lists: &[String],
    command: &Command,
    unknown: UnknownWords,
) -> Result<Unfolded, InvalidMountOption> {
    let mut unfolded = Unfolded::default();
    for list in lists {
        for word in split(list)? {
            match unfold_word(&word, command, &mut unfolded) {
                Err(InvalidMountOption::Unknown(_)) if unknown == UnknownWords::PassOver => {}
                result => result?,
            }
        }
    }
    Ok(unfolded)
}

fn unfold_word(
    word: &str,
    command: &Command,
    unfolded: &mut Unfolded,
) -> Result<(), InvalidMountOption> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    if name == "remount" {
        return Err(InvalidMountOption::Remount);
    }
    if SECURITY_CONTEXTS.contains(&name) {
        let value = value.ok_or_else(|| InvalidMountOption::ValueMissing(name.to_owned()))?;
        // The kernel takes quotes off and knows no way to write one.
        let value = value.replace('"', "");
        unfolded
            .security_contexts
            .push(format!("{name}=\"{value}\""));
        return Ok(());
    }
    let accepted = value.is_none() && ACCEPTED.contains(&name);
    if accepted || name.starts_with("x-") || name.starts_with("X-") {
        return Ok(());
    }
    match (name, value) {
        ("ro", None) => {
            unfolded.arguments.push("--read-only".to_owned());
            return Ok(());
        }
        // The later of the two counts, as with mount(8).
        ("rw", None) => {
            unfolded.arguments.retain(|option| option != "--read-only");
            return Ok(());
        }
        _ => {}
    }
    let option =
        long_option(command, name).ok_or_else(|| InvalidMountOption::Unknown(name.to_owned()))?;
    let long = option.get_long().unwrap_or_default();
    unfolded
        .arguments
        .push(match (option.get_action().takes_values(), value) {
            (true, Some(value)) => format!("--{long}={value}"),
            (false, None) => format!("--{long}"),
            (true, None) => return Err(InvalidMountOption::ValueMissing(name.to_owned())),
            (false, Some(_)) => return Err(InvalidMountOption::ValueUnexpected(name.to_owned())),
        });
    Ok(())
}

/// The long option that `name` stands for, with `_` as good as `-`.
fn long_option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let name = name.replace('_', "-");
    command.get_arguments().find(|option| {
        let long = option.get_long();
        let aliases = option.get_all_aliases().unwrap_or_default();
        let named = long == Some(name.as_str()) || aliases.contains(&name.as_str());
        named && !long.is_some_and(|long| NOT_IN_A_LIST.contains(&long))
    })
}

/// Splits a list at its commas. A comma in double quotes, or behind a backslash, belongs to its
/// word, as with mount(8) and libfuse; quotes are taken off, and so is a backslash before a comma,
/// a quote or another backslash.
fn split(list: &str) -> Result<Vec<String>, InvalidMountOption> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut rest = list.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => word.push(
                rest.next_if(|next| matches!(next, ',' | '"' | '\\'))
                    .unwrap_or(c),
            ),
            '"' => quoted = !quoted,
            ',' if !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    if quoted {
        return Err(InvalidMountOption::QuoteOpen);
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    Ok(words)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use proptest::prelude::*;

    use super::*;
    use crate::cli::arguments::MountArguments;

    fn unfold_one(list: &str) -> Result<Unfolded, InvalidMountOption> {
        unfold(
            &[list.to_owned()],
            &MountArguments::command(),
            UnknownWords::Refuse,
        )
    }

    fn arguments(list: &str) -> Vec<String> {
        unfold_one(list).unwrap().arguments
    }

    #[test]
    fn every_long_option_may_be_written_in_a_list_with_dashes_or_underscores() {
        let command = MountArguments::command();
        let mut seen = 0;
        for option in command.get_arguments() {
            let Some(long) = option.get_long() else {
                continue;
            };
            if NOT_IN_A_LIST.contains(&long) {
                continue;
            }
            let value = if option.get_action().takes_values() {
                "=v"
            } else {
                ""
            };
            let expected = vec![format!("--{long}{value}")];
            assert_eq!(arguments(&format!("{long}{value}")), expected);
            let underscored = long.replace('-', "_");
            assert_eq!(arguments(&format!("{underscored}{value}")), expected);
            seen += 1;
        }
        assert!(seen > 20, "{seen}");
    }

    #[test]
    fn words_of_mount_are_accepted_and_ro_means_read_only() {
        assert_eq!(
            arguments(
                "rw,noexec,nosuid,nodev,,user,nofail,_netdev,dev,suid,x-systemd.automount,\
                 x-systemd.idle-timeout=5,X-mount.mkdir,defaults"
            ),
            Vec::<String>::new()
        );
        assert_eq!(arguments("rw,ro,noatime"), ["--read-only"]);
        assert_eq!(arguments("ro,rw"), Vec::<String>::new());
    }

    #[test]
    fn a_user_without_a_name_is_mounts_and_with_a_name_is_ours() {
        assert_eq!(arguments("user"), Vec::<String>::new());
        assert_eq!(arguments("user=vault"), ["--user=vault"]);
        assert_eq!(arguments("worker_user=vault"), ["--user=vault"]);
    }

    #[test]
    fn commas_may_be_quoted_or_escaped() {
        assert_eq!(
            arguments(r#"ca-cert="/a,b",ro"#),
            ["--ca-cert=/a,b", "--read-only"]
        );
        assert_eq!(arguments(r"ca-cert=/a\,b"), ["--ca-cert=/a,b"]);
        assert_eq!(
            arguments(r#"ca-cert=/a\"b\\c\d"#),
            [r#"--ca-cert=/a"b\c\d"#]
        );
        assert_eq!(arguments("resource=a=b"), ["--resource=a=b"]);
        assert_eq!(
            unfold_one(r#"ca-cert="/a"#),
            Err(InvalidMountOption::QuoteOpen)
        );
    }

    #[test]
    fn security_contexts_are_kept_for_the_kernel_in_quotes() {
        let unfolded = unfold_one(r#"context="u:r:t:s0:c1,c2",rootcontext=u:r:t"#).unwrap();
        assert_eq!(
            unfolded.security_contexts,
            [r#"context="u:r:t:s0:c1,c2""#, r#"rootcontext="u:r:t""#]
        );
        assert!(unfolded.arguments.is_empty());
    }

    #[test]
    fn what_cannot_be_done_names_the_option() {
        for (list, text) in [
            (
                "ro,frobnicate=1",
                "-o frobnicate: there is no such option; `keyvaultfs --help` lists them",
            ),
            (
                "foreground",
                "-o foreground: there is no such option; `keyvaultfs --help` lists them",
            ),
            (
                "client-id",
                "-o client-id: a value is missing; write client-id=VALUE",
            ),
            (
                "allow_other=1",
                "-o allow_other: takes no value; write allow_other alone",
            ),
        ] {
            assert_eq!(unfold_one(list).unwrap_err().to_string(), text);
        }
        assert_eq!(unfold_one("rw,remount"), Err(InvalidMountOption::Remount));
    }

    #[test]
    fn a_sloppy_mount_passes_over_what_nobody_knows_and_nothing_else() {
        let sloppy = |list: &str| {
            unfold(
                &[list.to_owned()],
                &MountArguments::command(),
                UnknownWords::PassOver,
            )
        };
        assert_eq!(sloppy("frobnicate,ro").unwrap().arguments, ["--read-only"]);
        assert_eq!(sloppy("remount"), Err(InvalidMountOption::Remount));
        assert!(sloppy("client-id").is_err());
    }

    proptest! {
        #[test]
        fn no_list_makes_it_panic(list in ".*", separators in "[,\"\\\\=a-]*") {
            let _ = unfold_one(&list);
            let _ = unfold_one(&separators);
        }

        #[test]
        fn escaped_words_come_back_as_they_were(words in prop::collection::vec(".+", 1..5)) {
            let list: Vec<_> = words
                .iter()
                .map(|word| word.replace('\\', "\\\\").replace(',', "\\,").replace('"', "\\\""))
                .collect();
            prop_assert_eq!(split(&list.join(",")).unwrap(), words);
        }
    }
}
