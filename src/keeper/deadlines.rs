//! When waiting ends: for a request whose waiter got a signal or that overran, and for a worker
//! that lets requests overrun.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::interrupts;
use super::protocol;
use super::supervise::Supervisor;
use super::worker_process::{Stage, Worker};

/// What a request may take beyond the configured limit, at which the worker itself gives up, and
/// how long a worker has to answer a probe.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// How long a worker may take to answer INIT. The launcher waits 25 seconds.
pub(super) const START_LIMIT: Duration = Duration::from_secs(20);

/// How many requests in a row a worker may let overrun, alive as it may be.
const MAX_STRIKES: u8 = 3;

impl Supervisor<'_> {
    /// When the first request or worker is due that is here now. A request that comes meanwhile
    /// is not due before them.
    pub(super) fn next_deadline(&self, now: Instant) -> Instant {
        let limit = self.config.timeout;
        let oldest = self.relay.traffic.lock().in_flight.oldest();
        let request = match oldest {
            Some(arrived) if arrived + limit > now => arrived + limit,
            // Probed, and waiting for the end of the grace.
            Some(arrived) => (arrived + limit + GRACE).max(now + Duration::from_millis(10)),
            None => now + limit,
        };
        let watch = (!self.watched.is_empty()).then(|| now + interrupts::PERIOD);
        let workers = self.workers.iter().filter_map(Worker::deadline);
        workers.chain(watch).fold(request, Instant::min)
    }

    /// Ends the requests whose waiters have a signal pending that is meant to end them.
    pub(super) fn look_at_signals(&mut self) {
        let relay = &self.relay;
        self.watched.retain(|&unique| {
            let Some((pid, opcode)) = relay
                .traffic
                .lock()
                .in_flight
                .get(unique)
                .map(|pending| (pending.pid, pending.opcode))
            else {
                return false;
            };
            let ends = interrupts::ends(pid, opcode);
            if ends {
                relay.fail(unique, Errno::EINTR);
            }
            !ends
        });
    }

    /// Ends the requests that overran, and the workers that let them.
    pub(super) fn enforce_deadlines(&mut self) {
        let now = Instant::now();
        let limit = self.config.timeout;
        let (due, guilty, overrun) = {
            let traffic = self.relay.traffic.lock();
            let in_flight = &traffic.in_flight;
            let worker_of = |unique: &u64| in_flight.get(*unique).and_then(|p| p.worker);
            let due = in_flight.older_than(limit, now);
            let due: Vec<u32> = due.iter().filter_map(worker_of).collect();
            let overrun = in_flight.older_than(limit + GRACE, now);
            // Not of what another worker had before: its time does not begin anew.
            let had_it_in_time = |unique: &&u64| in_flight.get(**unique).is_some_and(|p| !p.late);
            let guilty = overrun.iter().filter(had_it_in_time);
            let guilty: Vec<u32> = guilty.filter_map(worker_of).collect();
            (due, guilty, overrun)
        };
        for worker in &mut self.workers {
            if due.contains(&worker.generation) && worker.probed.is_none() {
                worker.probed = Some(now);
                let probe = protocol::probe(self.relay.sequence());
                self.relay.send(&worker.line, &probe);
            }
            if guilty.contains(&worker.generation) {
                worker.count_strike();
            }
            if let Some(reason) = worker.has_failed(now) {
                tracing::error!(generation = worker.generation, reason, "killing the worker");
                worker.failure.get_or_insert(reason.into());
                worker.kill();
            }
        }
        for unique in overrun {
            self.relay.fail(unique, Errno::ETIMEDOUT);
        }
    }
}

impl Worker {
    /// When it is to be killed if nothing is heard of it.
    fn deadline(&self) -> Option<Instant> {
        match (self.stage, self.probed) {
            (Stage::Starting, _) => Some(self.started + START_LIMIT),
            (Stage::Ending(until), _) => Some(until),
            (_, probed) => probed.map(|since| since + GRACE),
        }
    }

    /// Why it is to be killed now.
    fn has_failed(&self, now: Instant) -> Option<&'static str> {
        if self.failure.is_some() {
            // Killed already.
            return None;
        }
        let late = self.deadline().is_some_and(|deadline| now >= deadline);
        match self.stage {
            Stage::Starting if late => Some("it was not ready in time"),
            Stage::Ending(_) if late => Some("it did not end in time"),
            _ if late => Some("it does not answer"),
            _ if self.strikes >= MAX_STRIKES => Some("it lets all requests overrun"),
            _ => None,
        }
    }

    /// It let a request overrun: that is forgiven if it answered another since the last one.
    fn count_strike(&mut self) {
        let answered = self.line.answered();
        let idle = self.answered == answered;
        self.answered = answered;
        self.strikes = if idle { self.strikes + 1 } else { 1 };
    }
}
