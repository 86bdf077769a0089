//! "No stray secret": what an editor leaves behind does not become a secret later, either, nor
//! does it write a copy of one anywhere else.

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

#[test]
fn vim_keeps_its_swap_file_beside_the_secret_and_off_every_disk() {
    let mount = Mount::new();
    mount.emulator.set_secret("db", "password=hunter2-old\n");
    let vim = "script -qec \"vim -u DEFAULTS -N -c 'redir! > $D/swap' -c 'silent swapname' \
               -c 'redir END' -c 'silent! %s/-old/-new/' -c 'silent! wq' -c cq $M/db\" /dev/null";
    mount.sh(&format!("{vim} > $D/log")).ok();
    assert_eq!(mount.values("db").len(), 2);
    let swap = std::fs::read_to_string(mount.scratch.join("swap")).expect("vim wrote it");
    let beside = mount.path(".db.swp");
    assert_eq!(swap.trim(), beside.to_str().expect("the path is text"));
}
