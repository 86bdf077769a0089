//! The README's table of tools is this test's table: `UPDATE_README=1` writes it anew.

use crate::row::{Cost, Kind, Policy, Row};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const BEGIN: &str = "<!-- made by tests/tools: -->\n";
const END: &str = "<!-- end -->\n";

/// Asserts that the README has the table of these rows, or writes it.
pub(crate) fn agrees(rows: &[Row]) {
    let readme = std::fs::read_to_string(PATH).expect("there is a README");
    let (before, rest) = readme.split_once(BEGIN).expect("it says where it begins");
    let (shown, after) = rest.split_once(END).expect("it says where it ends");
    let table = table(rows);
    if std::env::var_os("UPDATE_README").is_some() {
        let updated = format!("{before}{BEGIN}{table}{END}{after}");
        return std::fs::write(PATH, updated).expect("the README can be written");
    }
    assert!(
        shown == table,
        "it does not; UPDATE_README=1 writes it:\n{table}"
    );
}

fn table(rows: &[Row]) -> String {
    let mut table = "| tool | use | the vault is asked | says that a set failed |\n".to_owned();
    table += "|---|---|---|---|\n";
    for row in rows {
        let cells = [row.tool, row.mode].map(|text| text.replace('|', "\\|"));
        let [tool, mode] = cells.map(|text| text.replace('<', "\\<"));
        table += &format!("| {tool} | {mode} | {} | {} |\n", asked(row), says(row));
    }
    table
}

fn asked(row: &Row) -> String {
    let requests = match row.cost {
        Cost::Exactly(requests) => requests,
        Cost::AtMost(most) => return format!("{most} times at most"),
    };
    let kinds = ["get", "check", "set"].map(|kind| {
        let count = requests.split(' ').filter(|one| *one == kind).count();
        (count > 0).then(|| format!("{count} {kind}"))
    });
    let asked: Vec<_> = kinds.into_iter().flatten().collect();
    match asked.is_empty() {
        true => "nothing".to_owned(),
        false => asked.join(", "),
    }
}

fn says(row: &Row) -> &'static str {
    match row.kind {
        Kind::Reads | Kind::Idles => "",
        Kind::IsRefused => "is always refused",
        Kind::Writes | Kind::Edits if row.silent.contains(&Policy::FailingAtClose) => "**no**",
        Kind::Writes | Kind::Edits => "yes",
    }
}
