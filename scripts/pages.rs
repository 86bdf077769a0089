//! Writes the manual pages and the shells' completions of `keyvaultfs` into the directory it is
//! given: they are made from the very definition that parses the command line. `scripts/install`
//! runs it.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::{env, fs, io};

use clap_complete::{Shell, generate_to};

fn main() -> io::Result<()> {
    let Some(directory) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("name the directory to write to"));
    };
    fs::create_dir_all(&directory)?;
    let mut command = keyvaultfs::cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "keyvaultfs", &directory)?;
    }
    clap_mangen::generate_to(command, &directory)
}
