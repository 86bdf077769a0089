//! "No stray secret": what an editor leaves behind does not become a secret later, either.

use std::time::Duration;

use crate::harness::Mount;
use crate::sandbox;
use crate::{editing, row::Kind};

/// Longer than a file made like a temporary one waits before it is set after all.
const LATER: Duration = Duration::from_secs(7);

#[test]
fn no_temporary_file_of_an_editor_becomes_a_secret_when_its_time_is_over() {
    let mount = Mount::new();
    let mut names = Vec::new();
    for (number, row) in editing::ROWS.iter().enumerate() {
        assert_eq!(row.kind, Kind::Edits);
        let name = format!("Row{number}");
        let before = row.before.expect("there is something to edit");
        mount.emulator.set_secret(&name, before);
        let (outcome, _) = sandbox::sh(&mount, &name, row);
        outcome.ok();
        names.push(name);
    }
    std::thread::sleep(LATER);
    let mut seen = mount.emulator.secret_names();
    seen.sort_unstable();
    names.sort_unstable();
    assert_eq!(seen, names);
    for name in names {
        assert_eq!(mount.values(&name).len(), 2, "{name}");
    }
}
