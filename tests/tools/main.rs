//! Every tool works on a path: ordinary programs on a real mount, one row of a table each, with
//! the bytes they saw and left, what they were told, and what it cost the vault.
//!
//! Needs root, mount namespaces, and the tools that `scripts/test` installs: a row whose tool is
//! missing fails.

#![cfg(feature = "emulator")]

mod against_model;
mod containers;
mod editing;
#[allow(
    dead_code,
    unused_imports,
    reason = "the tests of the mount itself use the rest"
)]
#[path = "../mounted/harness/mod.rs"]
mod harness;
mod killed;
#[path = "../../src/fs/tests/model.rs"]
mod model;
mod page_cache;
mod permissions;
mod reading;
mod readme;
mod redirections;
mod row;
mod sandbox;
mod serving;
mod stragglers;
mod verdict;
mod writing;

use row::{Policy, Row};
use verdict::judge;

/// The whole table.
fn all() -> Vec<Row> {
    [reading::ROWS, serving::ROWS, writing::ROWS, editing::ROWS].concat()
}

#[test]
fn the_readme_has_this_table() {
    readme::agrees(&all());
}

#[test]
fn tools_that_read_see_the_value() {
    judge(reading::ROWS, Policy::Both);
}

#[test]
fn tools_that_serve_a_secret_or_log_in_with_one_see_it() {
    judge(serving::ROWS, Policy::Both);
}

#[test]
fn tools_that_write_make_one_version() {
    judge(writing::ROWS, Policy::Both);
}

#[test]
fn tools_that_edit_make_one_version() {
    judge(editing::ROWS, Policy::Both);
}

#[test]
fn without_set_every_tool_that_writes_says_so_and_nothing_is_set() {
    judge(&all(), Policy::GetOnly);
}

#[test]
fn without_get_what_reads_fails_and_what_writes_works() {
    judge(&all(), Policy::SetOnly);
}

#[test]
fn where_the_set_fails_at_close_every_tool_that_looks_says_so_and_nothing_is_set() {
    judge(&all(), Policy::FailingAtClose);
}
