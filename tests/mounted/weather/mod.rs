//! A vault, an identity service and a network that fail in every way they can: each row of the
//! table is a mount of its own, a scripted failure, one read or one set, and how it ends: its
//! errno, its time, its requests, and never a wrong value or a second version.
//!
//! The README's table of reliability is this one. `OVERWRITE=1` writes it anew.

mod identity;
mod reading;
mod row;
mod setting;

use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use self::row::Row;

/// Rows that are tried side by side.
const AT_ONCE: usize = 4;

/// What an operation may take; more than any retry needs.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_secs(2);

fn rows() -> Vec<Row> {
    let mut rows = reading::rows();
    rows.extend(setting::rows());
    rows.extend(identity::rows());
    rows
}

#[test]
fn every_failure_ends_as_the_table_says() {
    let rows = rows();
    assert!(rows.len() >= 50, "{} rows", rows.len());
    let waiting = Mutex::new(rows.iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no thread panics").next();
                    let Some(row) = next else { return };
                    if let Err(failure) = row.try_out() {
                        failures.lock().expect("no thread panics").push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_readme_has_the_table() {
    let mut table =
        String::from("| what happens | what a program sees | requests |\n|---|---|---|\n");
    for row in rows() {
        writeln!(table, "{row}").expect("a string takes everything");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).expect("there is a README");
    let (before, rest) = readme
        .split_once("| what happens | what a program sees | requests |")
        .expect("the README has a table of reliability");
    let after = rest.find("\n\n").map_or("", |end| &rest[end + 1..]);
    let expected = format!("{before}{table}{after}");
    if std::env::var_os("OVERWRITE").is_some() {
        std::fs::write(&path, &expected).expect("the README can be written");
    }
    let readme = std::fs::read_to_string(&path).expect("there is a README");
    assert!(readme == expected, "run it with OVERWRITE=1");
}
