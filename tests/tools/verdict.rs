//! What is asserted of every row, under each policy.
//!
//! All rows of a table are run before any failure is reported, so that one run shows them all.

use crate::row::{Cost, Kind, Policy, Row};
use crate::sandbox::{self, Ran};

/// Requests that no tool may need, whatever it is refused.
const REQUESTS_MAX: usize = 60;

/// Runs the rows under a policy. Panics with all that was wrong.
#[track_caller]
pub(crate) fn judge(rows: &[Row], policy: Policy) {
    let mut wrong = Vec::new();
    for row in rows.iter().filter(|row| is_wanted(row)) {
        let row = &row.with_key();
        let ran = sandbox::run(row, policy);
        println!("{:>7.2?} {}, {}", ran.outcome.took, row.tool, row.mode);
        let found = match policy {
            Policy::Both => allowed(row, &ran),
            Policy::GetOnly | Policy::SetOnly | Policy::FailingAtClose => {
                refused(row, &ran, policy)
            }
        };
        if !found.is_empty() {
            wrong.push(format!(
                "{}, {} ({policy:?}):\n  {}\n  {ran:?}",
                row.tool,
                row.mode,
                found.join("\n  ")
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} rows:\n\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n\n")
    );
}

/// `ROW='sed -i' cargo test …` runs the rows of that tool or mode alone.
fn is_wanted(row: &Row) -> bool {
    let wanted = std::env::var("ROW").unwrap_or_default();
    format!("{} {}", row.tool, row.mode).contains(&wanted)
}

/// What is wrong with a row where the vault grants everything.
fn allowed(row: &Row, ran: &Ran) -> Vec<String> {
    let mut wrong = always(ran);
    if (ran.outcome.code == Some(0)) != (row.kind != Kind::IsRefused) {
        wrong.push(format!("it ended with {:?}", ran.outcome.code));
    }
    if ran.outcome.stdout != row.prints {
        wrong.push(format!("it printed {:?}", ran.outcome.stdout));
    }
    let versions: Vec<_> = row.before.into_iter().chain(row.after).collect();
    if ran.versions != versions {
        wrong.push(format!("the vault has {:?}", ran.versions));
    }
    let requests = ran.requests.join(" ");
    let sets = ran.requests.iter().filter(|one| **one == "set").count();
    let as_said = match row.cost {
        Cost::Exactly(cost) => requests == cost,
        Cost::AtMost(most) => {
            ran.requests.len() <= most && sets == usize::from(row.after.is_some())
        }
    };
    if !as_said {
        wrong.push(format!("it cost {requests:?}"));
    }
    wrong
}

/// What is wrong with a row where the vault refuses something.
fn refused(row: &Row, ran: &Ran, policy: Policy) -> Vec<String> {
    let mut wrong = always(ran);
    let before: Vec<_> = row.before.into_iter().collect();
    let done: Vec<_> = before.iter().copied().chain(row.after).collect();
    let needs_set = !matches!(row.kind, Kind::Reads | Kind::Idles);
    let needs_get = matches!(row.kind, Kind::Reads | Kind::Edits);
    let is_done = ran.versions == done && (row.after.is_some() || !needs_set);
    let possible = match policy {
        Policy::Both => true,
        Policy::GetOnly | Policy::FailingAtClose => !needs_set,
        Policy::SetOnly => !needs_get,
    } && row.kind != Kind::IsRefused;
    if ran.versions != before && ran.versions != done {
        wrong.push(format!("the vault has {:?}", ran.versions));
    }
    let told = ran.outcome.code != Some(0);
    if possible {
        if told || !is_done {
            wrong.push("it failed, though it was granted what it needs".to_owned());
        }
        return wrong;
    }
    if policy != Policy::SetOnly && ran.versions != before {
        wrong.push("something was set".to_owned());
    }
    // An editor that puts the whole new value in place of one it could not see has succeeded.
    let succeeded = needs_set && is_done;
    let silent = row.silent.contains(&policy);
    if !told && !silent && !succeeded {
        wrong.push("it did not say that it was refused".to_owned());
    }
    if told && silent {
        wrong.push("it says that it was refused: it is not silent".to_owned());
    }
    wrong
}

/// What must never be, whatever is granted.
fn always(ran: &Ran) -> Vec<String> {
    let mut wrong = Vec::new();
    if !ran.strays.is_empty() {
        wrong.push(format!("other secrets were set: {:?}", ran.strays));
    }
    if !ran.leaks.is_empty() {
        wrong.push(format!("a value was left in {:?}", ran.leaks));
    }
    if ran.outcome.code == Some(124) || ran.outcome.code == Some(137) {
        wrong.push("it did not end".to_owned());
    }
    if ran.requests.len() > REQUESTS_MAX {
        wrong.push(format!("it cost {} requests", ran.requests.len()));
    }
    if ran.requests.contains(&"forbidden") {
        wrong.push("the vault was asked to list or delete".to_owned());
    }
    wrong
}
