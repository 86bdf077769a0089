//! The requests that the kernel waits for.
//!
//! Each is kept whole, in memory that is wiped, from the moment it is read until the kernel has
//! its reply: that is what lets a worker die without a reader noticing. No descriptor and no
//! clock here; who sends what to whom is `relay`'s.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::protocol::{InHeader, Opcode};

/// How much a request counts that a worker died with by its own fault, and that it was killed
/// with; and from which count on the request is taken to be what they die of.
const OWN_FAULT: u8 = 8;
const KILLED: u8 = 1;
const POISONOUS: u8 = 32;

/// From when on a LOOKUP's time is counted to the request it was made for.
const SLOW: Duration = Duration::from_millis(500);
/// How long after its LOOKUP's reply that request comes at the latest: within microseconds, but
/// for the load of the machine.
const SEQUEL: Duration = Duration::from_secs(1);

/// A request on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) opcode: Opcode,
    pub(super) nodeid: u64,
    /// The waiting thread, or zero.
    pub(super) pid: u32,
    pub(super) message: Zeroizing<Vec<u8>>,
    /// When it came; or the slow LOOKUP of the same system call.
    pub(super) arrived: Instant,
    /// The generation of the worker that has it, if any has.
    pub(super) worker: Option<u32>,
    /// It was given to that worker some time after it came.
    pub(super) late: bool,
    order: u64,
    /// How much it is to be suspected of what its workers died of.
    suspicion: u8,
}

/// What a worker's reply is to.
#[derive(Debug)]
pub(super) enum Settled {
    /// To a request the kernel waits for.
    Awaited(Pending),
    /// To a request that the keeper has answered meanwhile.
    Abandoned { opcode: Opcode, nodeid: u64 },
    /// To none that this worker was given.
    Unknown,
}

/// The requests on their way, by `unique`.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    pending: HashMap<u64, Pending>,
    abandoned: HashMap<u64, Abandoned>,
    arrivals: u64,
    /// By thread, the system calls that have so far come to the end of a slow LOOKUP.
    begun: HashMap<u32, Begun>,
}

/// A system call that began with a slow LOOKUP.
#[derive(Debug)]
struct Begun {
    arrived: Instant,
    answered: Instant,
    /// What the LOOKUP found.
    nodeid: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Abandoned {
    opcode: Opcode,
    nodeid: u64,
    worker: u32,
}

/// The same, as one program leaves it to the next. No request in it carries what was written.
#[derive(Serialize, Deserialize)]
pub(super) struct InFlightState {
    pending: Vec<(u64, PendingState)>,
    abandoned: HashMap<u64, Abandoned>,
    arrivals: u64,
}

#[derive(Serialize, Deserialize)]
struct PendingState {
    opcode: Opcode,
    nodeid: u64,
    pid: u32,
    message: Vec<u8>,
    age: Duration,
    worker: Option<u32>,
    late: bool,
    order: u64,
    suspicion: u8,
}

impl Pending {
    /// Whether it is a LOOKUP whose time is to be counted to what it was made for.
    pub(super) fn is_slow_lookup(&self, now: Instant) -> bool {
        self.opcode == Opcode::LOOKUP && now.saturating_duration_since(self.arrived) >= SLOW
    }

    /// Whether a worker died with it by its own fault.
    pub(super) fn is_on_trial(&self) -> bool {
        self.suspicion >= OWN_FAULT
    }
}

impl InFlight {
    /// Takes up a request that `worker` is about to get, or that waits until there is one.
    pub(super) fn admit(
        &mut self,
        header: &InHeader,
        message: &[u8],
        arrived: Instant,
        worker: Option<u32>,
    ) {
        self.arrivals += 1;
        let arrived = self.began(header, arrived);
        let pending = Pending {
            opcode: header.opcode,
            nodeid: header.nodeid,
            pid: header.pid,
            message: Zeroizing::new(message.to_vec()),
            arrived,
            worker,
            late: false,
            order: self.arrivals,
            suspicion: 0,
        };
        self.pending.insert(header.unique, pending);
    }

    /// Takes out the request that a worker's reply is to.
    pub(super) fn settle(&mut self, unique: u64, worker: u32) -> Settled {
        if let Some(pending) = self.pending.remove(&unique) {
            if pending.worker == Some(worker) {
                return Settled::Awaited(pending);
            }
            self.pending.insert(unique, pending);
            return Settled::Unknown;
        }
        match self.abandoned.remove(&unique) {
            Some(abandoned) => Settled::Abandoned {
                opcode: abandoned.opcode,
                nodeid: abandoned.nodeid,
            },
            None => Settled::Unknown,
        }
    }

    /// A slow LOOKUP is being answered with `nodeid`: what its thread sends next for that inode
    /// belongs to the same system call, and has the rest of its time.
    pub(super) fn looked_up(&mut self, lookup: &Pending, nodeid: u64, now: Instant) {
        self.begun.retain(|_, begun| now < begun.answered + SEQUEL);
        // Threads that cannot be seen cannot be told apart.
        if lookup.pid != 0 {
            let begun = Begun {
                arrived: lookup.arrived,
                answered: now,
                nodeid,
            };
            self.begun.insert(lookup.pid, begun);
        }
    }

    /// When the system call began that a request belongs to. Between a LOOKUP and what it was
    /// made for comes a GETATTR, with which the kernel checks permissions.
    fn began(&mut self, header: &InHeader, arrived: Instant) -> Instant {
        if self.begun.is_empty() {
            return arrived;
        }
        let Some(mut begun) = self.begun.remove(&header.pid) else {
            return arrived;
        };
        if begun.nodeid != header.nodeid || arrived >= begun.answered + SEQUEL {
            return arrived;
        }
        let began = begun.arrived;
        if header.opcode == Opcode::GETATTR {
            begun.answered = arrived;
            self.begun.insert(header.pid, begun);
        }
        began
    }

    /// Takes out a request that the keeper answers itself; what its worker says later is known
    /// to come too late. `None` if it has its reply already.
    pub(super) fn abandon(&mut self, unique: u64) -> Option<Pending> {
        let pending = self.pending.remove(&unique)?;
        if let Some(worker) = pending.worker {
            let abandoned = Abandoned {
                opcode: pending.opcode,
                nodeid: pending.nodeid,
                worker,
            };
            self.abandoned.insert(unique, abandoned);
        }
        Some(pending)
    }

    /// Takes `worker`, which is gone, by its own fault or not, from all it had. Returns what
    /// cannot be repeated and must fail; the rest waits for a worker.
    pub(super) fn orphan(&mut self, worker: u32, own_fault: bool) -> Vec<(u64, Pending)> {
        self.abandoned
            .retain(|_, abandoned| abandoned.worker != worker);
        let is_lost = |_: &u64, pending: &mut Pending| {
            if pending.worker != Some(worker) {
                return false;
            }
            pending.worker = None;
            pending.suspicion += if own_fault { OWN_FAULT } else { KILLED };
            !pending.opcode.is_repeatable() || pending.suspicion >= POISONOUS
        };
        self.pending.extract_if(is_lost).collect()
    }

    /// Gives `worker` what waits for one, and returns those requests in the order in which they
    /// came; but of those that a worker died with by its own fault only the first, last, and no
    /// other before that one is answered: the innocent among them must not fail for the guilty.
    pub(super) fn assign(&mut self, worker: u32) -> Vec<Zeroizing<Vec<u8>>> {
        let mut on_trial = (self.pending.values())
            .any(|pending| pending.worker == Some(worker) && pending.is_on_trial());
        let mut waiting: Vec<&mut Pending> = (self.pending.values_mut())
            .filter(|pending| pending.worker.is_none())
            .collect();
        waiting.sort_unstable_by_key(|pending| (pending.is_on_trial(), pending.order));
        waiting.retain(|pending| !pending.is_on_trial() || !std::mem::replace(&mut on_trial, true));
        waiting
            .into_iter()
            .map(|pending| {
                pending.worker = Some(worker);
                pending.late = true;
                pending.message.clone()
            })
            .collect()
    }

    /// The requests that wait for a worker.
    pub(super) fn unassigned(&self) -> Vec<u64> {
        let waiting = self.pending.iter().filter(|(_, p)| p.worker.is_none());
        waiting.map(|(&unique, _)| unique).collect()
    }

    /// The requests that came at least `age` before `now`.
    pub(super) fn older_than(&self, age: Duration, now: Instant) -> Vec<u64> {
        let old = |pending: &Pending| now.saturating_duration_since(pending.arrived) >= age;
        let overdue = self.pending.iter().filter(|(_, p)| old(p));
        overdue.map(|(&unique, _)| unique).collect()
    }

    /// When the request that has waited longest came.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.arrived).min()
    }

    /// Whether `worker` has anything left to answer.
    pub(super) fn is_busy(&self, worker: u32) -> bool {
        self.pending.values().any(|p| p.worker == Some(worker))
    }

    /// Whether `worker` is making a file.
    pub(super) fn is_creating(&self, worker: u32) -> bool {
        let mut pending = self.pending.values();
        pending.any(|p| p.worker == Some(worker) && p.opcode == Opcode::CREATE)
    }

    /// The request of this number.
    pub(super) fn get(&self, unique: u64) -> Option<&Pending> {
        self.pending.get(&unique)
    }

    /// Whether a request carries what a user wrote.
    pub(super) fn carries_payload(&self) -> bool {
        let mut pending = self.pending.values();
        pending.any(|pending| pending.opcode.carries_payload())
    }

    /// All of it.
    pub(super) fn state(&self) -> InFlightState {
        let pending = self.pending.iter().map(|(&unique, pending)| {
            let state = PendingState {
                opcode: pending.opcode,
                nodeid: pending.nodeid,
                pid: pending.pid,
                message: pending.message.to_vec(),
                age: pending.arrived.elapsed(),
                worker: pending.worker,
                late: pending.late,
                order: pending.order,
                suspicion: pending.suspicion,
            };
            (unique, state)
        });
        InFlightState {
            pending: pending.collect(),
            abandoned: self.abandoned.clone(),
            arrivals: self.arrivals,
        }
    }

    /// As it was left.
    pub(super) fn restored(state: InFlightState) -> Self {
        let now = Instant::now();
        let pending = state.pending.into_iter().map(|(unique, pending)| {
            let pending = Pending {
                opcode: pending.opcode,
                nodeid: pending.nodeid,
                pid: pending.pid,
                message: Zeroizing::new(pending.message),
                // The clock began when the machine did, longer ago than any request.
                arrived: now.checked_sub(pending.age).unwrap_or(now),
                worker: pending.worker,
                late: pending.late,
                order: pending.order,
                suspicion: pending.suspicion,
            };
            (unique, pending)
        });
        Self {
            pending: pending.collect(),
            abandoned: state.abandoned,
            arrivals: state.arrivals,
            begun: HashMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(opcode: Opcode, unique: u64) -> InHeader {
        InHeader {
            opcode,
            unique,
            nodeid: 1,
            pid: 0,
        }
    }

    fn admit(table: &mut InFlight, opcode: Opcode, unique: u64, worker: Option<u32>) {
        let message = unique.to_ne_bytes();
        table.admit(&header(opcode, unique), &message, Instant::now(), worker);
    }

    fn lost(table: &mut InFlight, worker: u32, own_fault: bool) -> Vec<u64> {
        let lost = table.orphan(worker, own_fault);
        lost.into_iter().map(|(unique, _)| unique).collect()
    }

    #[test]
    fn a_dead_workers_requests_go_to_the_next_in_the_order_they_came() {
        let mut table = InFlight::default();
        for unique in [8, 2, 6, 4] {
            admit(&mut table, Opcode::READ, unique, Some(1));
        }
        assert!(matches!(table.settle(6, 1), Settled::Awaited(_)));
        assert!(table.orphan(1, false).is_empty());
        let order: Vec<_> = table.assign(2).iter().map(|m| m.to_vec()).collect();
        assert_eq!(
            order,
            [8u64, 2, 4].map(|unique| unique.to_ne_bytes().to_vec())
        );
        assert!(matches!(table.settle(2, 1), Settled::Unknown));
        assert!(matches!(table.settle(2, 2), Settled::Awaited(_)));
    }

    #[test]
    fn what_cannot_be_repeated_fails_with_its_worker() {
        let mut table = InFlight::default();
        admit(&mut table, Opcode::RENAME2, 2, Some(1));
        admit(&mut table, Opcode::RENAME2, 4, None);
        admit(&mut table, Opcode::READ, 6, Some(1));
        assert_eq!(lost(&mut table, 1, false), [2]);
        assert_eq!(table.assign(2).len(), 2);
    }

    #[test]
    fn what_workers_die_of_fails_and_what_was_there_by_chance_does_not() {
        let mut table = InFlight::default();
        for unique in [2, 4, 6] {
            admit(&mut table, Opcode::READ, unique, Some(0));
        }
        // Request 4 is the guilty one: a worker dies with it before it answers it.
        let mut answered = Vec::new();
        for worker in 1.. {
            let failed = lost(&mut table, worker - 1, true);
            loop {
                let given = table.assign(worker);
                if given.is_empty() {
                    break;
                }
                for message in given {
                    let unique = u64::from_ne_bytes(message[..].try_into().unwrap());
                    if unique != 4 {
                        assert!(matches!(table.settle(unique, worker), Settled::Awaited(_)));
                        answered.push(unique);
                    }
                }
            }
            if !failed.is_empty() {
                assert_eq!(failed, [4]);
                break;
            }
        }
        assert_eq!(answered, [2, 6]);
    }

    #[test]
    fn being_killed_many_times_is_no_guilt() {
        let mut table = InFlight::default();
        admit(&mut table, Opcode::READ, 2, Some(0));
        for worker in 0..20 {
            assert!(table.orphan(worker, false).is_empty());
            assert_eq!(table.assign(worker + 1).len(), 1);
        }
    }

    #[test]
    fn a_reply_to_what_the_keeper_answered_is_known_once() {
        let mut table = InFlight::default();
        admit(&mut table, Opcode::OPEN, 2, Some(1));
        assert!(table.abandon(2).is_some());
        assert!(table.abandon(2).is_none());
        assert!(matches!(
            table.settle(2, 1),
            Settled::Abandoned {
                opcode: Opcode::OPEN,
                nodeid: 1
            }
        ));
        assert!(matches!(table.settle(2, 1), Settled::Unknown));
    }

    #[test]
    fn an_open_has_what_its_slow_lookup_left_of_its_time() {
        let begin = Instant::now();
        let after = |milliseconds| begin + Duration::from_millis(milliseconds);
        let by = |pid, opcode, unique, nodeid| InHeader {
            pid,
            nodeid,
            ..header(opcode, unique)
        };
        let mut table = InFlight::default();
        for (unique, pid) in [(2, 70), (4, 71), (6, 0), (8, 73), (10, 74)] {
            let arrived = if pid == 74 { after(600) } else { begin };
            table.admit(&by(pid, Opcode::LOOKUP, unique, 1), b"", arrived, Some(1));
            let Settled::Awaited(lookup) = table.settle(unique, 1) else {
                panic!("it is awaited");
            };
            if lookup.is_slow_lookup(after(1000)) {
                table.looked_up(&lookup, 42, after(1000));
            }
        }
        for (unique, opcode, pid, nodeid, came, counts) in [
            (20, Opcode::GETATTR, 70, 42, 1001, 0),
            (22, Opcode::OPEN, 70, 42, 1002, 0),
            // The next system call of the same thread.
            (24, Opcode::READ, 70, 42, 1003, 1003),
            (26, Opcode::OPEN, 71, 43, 1001, 1001),
            (28, Opcode::OPEN, 0, 42, 1001, 1001),
            (30, Opcode::OPEN, 73, 42, 2001, 2001),
            // Its LOOKUP was quick.
            (32, Opcode::OPEN, 74, 42, 1001, 1001),
        ] {
            let next = by(pid, opcode, unique, nodeid);
            table.admit(&next, b"", after(came), Some(1));
            assert_eq!(
                table.get(unique).unwrap().arrived,
                after(counts),
                "{unique}"
            );
        }
    }

    #[test]
    fn nothing_is_awaited_of_a_dead_worker() {
        let mut table = InFlight::default();
        admit(&mut table, Opcode::OPEN, 2, Some(1));
        table.abandon(2);
        table.orphan(1, true);
        assert!(matches!(table.settle(2, 1), Settled::Unknown));
    }
}
