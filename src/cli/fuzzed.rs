//! The word that the parser of `-o` gives, for [`crate::fuzzed`].

#![forbid(unsafe_code)]

use std::sync::LazyLock;

use clap::{Command, CommandFactory, Parser};

use super::arguments::MountArguments;
use super::mount_options::{UnknownWords, unfold};

static COMMAND: LazyLock<Command> = LazyLock::new(MountArguments::command);

/// A list of `-o`: it comes to long options that exist, and these written as a list come to
/// themselves.
pub fn mount_options(list: &[u8]) {
    let Ok(list) = std::str::from_utf8(list) else {
        return;
    };
    let unfold = |list: &str, unknown| unfold(&[list.to_owned()], &COMMAND, unknown);
    let Ok(unfolded) = unfold(list, UnknownWords::Refuse) else {
        return;
    };
    assert_eq!(unfold(list, UnknownWords::PassOver).as_ref(), Ok(&unfolded));
    let mut words = Vec::new();
    for argument in &unfolded.arguments {
        let word = argument
            .strip_prefix("--")
            .expect("a long option begins with dashes");
        let name = word.split('=').next().unwrap_or_default();
        assert!(
            COMMAND
                .get_arguments()
                .any(|option| option.get_long() == Some(name))
        );
        words.push(
            word.replace('\\', "\\\\")
                .replace(',', "\\,")
                .replace('"', "\\\""),
        );
    }
    words.extend(
        unfolded
            .security_contexts
            .iter()
            .map(|word| word.replace('\\', "\\\\")),
    );
    assert_eq!(
        unfold(&words.join(","), UnknownWords::Refuse),
        Ok(unfolded.clone())
    );
    // Whether their values are good is clap's to say.
    let words = ["keyvaultfs"].into_iter();
    let arguments = unfolded.arguments.iter().map(String::as_str);
    let _ = MountArguments::try_parse_from(words.chain(arguments).chain(["v", "/m"]));
}
