//! What workers leave for their successors.
//!
//! Small records whose content only workers understand. While two workers live, one finishing
//! what it has and one serving the rest, the first one's notes go to the second as they come.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::questions::Messenger;
use crate::link::{News, NoteFrame, NoteKey};

/// How long a worker may take to take in what it is told: it comes another way than requests.
const SETTLING: Duration = Duration::from_millis(100);

/// The records, and who is to hear of changes.
#[derive(Default)]
pub(super) struct Notes {
    records: HashMap<NoteKey, Record>,
    heir: Option<Heir>,
    /// When the heir was told something last.
    told: Option<Instant>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    /// The worker that deposited it.
    worker: u32,
    content: Vec<u8>,
}

struct Heir {
    worker: u32,
    messenger: Messenger,
}

/// The records, as one program leaves them to the next.
#[derive(Serialize, Deserialize)]
pub(super) struct NotesState(Vec<(NoteKey, Record)>);

impl Notes {
    /// All records.
    pub(super) fn state(&self) -> NotesState {
        let records = self.records.iter();
        NotesState(
            records
                .map(|(&key, record)| (key, record.clone()))
                .collect(),
        )
    }

    /// As they were left.
    pub(super) fn restored(state: NotesState) -> Self {
        Self {
            records: state.0.into_iter().collect(),
            heir: None,
            told: None,
        }
    }

    /// Does what a worker's note says.
    pub(super) fn apply(&mut self, worker: u32, note: NoteFrame<'_>) {
        let news = match note {
            NoteFrame::Deposit(key, content) => {
                let content = content.to_vec();
                let record = Record {
                    worker,
                    content: content.clone(),
                };
                self.records.insert(key, record);
                News::Adopted(key, content)
            }
            NoteFrame::Withdraw(key) => {
                self.records.remove(&key);
                News::Withdrawn(key)
            }
        };
        self.tell_heir(Some(worker), news);
    }

    /// Forgets a handle whose RELEASE `worker` has, if any has.
    pub(super) fn release(&mut self, worker: Option<u32>, handle: u64) {
        for key in [NoteKey::Handle(handle), NoteKey::Staged(handle)] {
            if self.records.remove(&key).is_some() {
                self.tell_heir(worker, News::Withdrawn(key));
            }
        }
    }

    /// All records, for the worker of this generation, which hears of every later change that
    /// another makes by `messenger`.
    pub(super) fn bequeath(
        &mut self,
        worker: u32,
        messenger: Messenger,
    ) -> Vec<(NoteKey, Vec<u8>)> {
        self.heir = Some(Heir { worker, messenger });
        let records = self.records.iter();
        records
            .filter(|(key, _)| !is_temporary(key))
            .map(|(&key, record)| (key, record.content.clone()))
            .collect()
    }

    /// Whether bytes written through `worker` are staged with it alone, or its heir may not have
    /// taken in yet what it was told of it last.
    pub(super) fn bind(&self, worker: u32, now: Instant) -> bool {
        let fresh = |told| now.saturating_duration_since(told) < SETTLING;
        if !self.are_told() || self.told.is_some_and(fresh) {
            return true;
        }
        let staged = |key: &NoteKey| matches!(key, NoteKey::Staged(_));
        let mut records = self.records.iter();
        records.any(|(key, record)| staged(key) && record.worker == worker)
    }

    /// Whether there are temporary files that `worker` alone has.
    pub(super) fn has_temporary(&self, worker: u32) -> bool {
        let mut records = self.records.iter();
        records.any(|(key, record)| is_temporary(key) && record.worker == worker)
    }

    /// `worker` is gone, and with it what it alone had.
    pub(super) fn forget_temporary(&mut self, worker: u32) {
        self.records
            .retain(|key, record| !is_temporary(key) || record.worker != worker);
    }

    /// Whether all that is to be told is on its way.
    pub(super) fn are_told(&self) -> bool {
        self.heir
            .as_ref()
            .is_none_or(|heir| heir.messenger.is_idle())
    }

    fn tell_heir(&mut self, worker: Option<u32>, news: News) {
        if let News::Adopted(key, _) | News::Withdrawn(key) = &news
            && is_temporary(key)
        {
            return;
        }
        let heir = self.heir.as_ref();
        if let Some(heir) = heir.filter(|heir| Some(heir.worker) != worker) {
            heir.messenger.bring(news);
            self.told = Some(Instant::now());
        }
    }
}

/// Whether a note is none of a successor's business.
fn is_temporary(key: &NoteKey) -> bool {
    matches!(key, NoteKey::Temporary(_))
}
