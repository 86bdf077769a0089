//! Ten thousand reads and sets while one request in ten fails at random: no wrong value, no set
//! reported as done that is not there, no version that nobody asked for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyvaultfs::emulator::{Effect, Fault};
use keyvaultfs::secrets::Failure;
use tokio::task::JoinSet;

use super::bench::Bench;

/// Secrets, each with one writer.
const SECRETS: usize = 20;
/// Sets of each secret.
const SETS: usize = 100;
/// Reads for each set: 2,000 sets and 8,000 reads.
const READS: usize = 4;
/// Requests that the faults are spread over: more than are made.
const REQUESTS: u64 = 30_000;

/// A generator whose numbers follow from its seed, so that a failure can be had again.
struct Numbers(u64);

impl Numbers {
    /// The next number below `limit`. (Marsaglia's xorshift.)
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What may happen to a request. 429 is not among them: it slows everybody down on purpose.
fn faults() -> Vec<Fault> {
    let cut_body = || Fault::new(Effect::CutBody(25));
    let html = || Fault::new(Effect::Html { status: 200 });
    let error = |status| Fault::error(status, "Scripted", None);
    vec![
        Fault::cut(),
        Fault::cut().after(),
        cut_body().after(),
        html().after(),
        error(500),
        error(503).after(),
        error(503),
        error(408).after(),
        Fault::signing_key_unresolved(),
        Fault::delay(Duration::from_millis(50)),
    ]
}

fn value(secret: usize, number: usize) -> String {
    format!("value {number} of s{secret}")
}

/// Sets and reads one secret. Returns which sets were done and which failed.
async fn use_secret(bench: &Bench, secret: usize) -> (Vec<usize>, BTreeSet<usize>) {
    let name = format!("s{secret}");
    let (mut done, mut failed) = (Vec::new(), BTreeSet::new());
    // The current version, where it is known.
    let mut current: Option<String> = None;
    for number in 0..SETS {
        let bytes = value(secret, number);
        let set = bench.set_within(
            &name,
            bytes.as_bytes(),
            current.as_deref(),
            Duration::from_secs(30),
        );
        match set.await {
            Ok(properties) => {
                current = Some(properties.version.to_string());
                done.push(number);
            }
            Err(_) => {
                current = None;
                failed.insert(number);
            }
        }
        for _ in 0..READS {
            let least = done.last().copied();
            match bench.get(&name).await {
                Ok(read) => {
                    let text = String::from_utf8(read.value.expose().to_vec()).unwrap();
                    // The last set that is done, or one that failed since and was carried out.
                    let possible = failed.iter().copied().filter(|set| Some(*set) > least);
                    let mut possible = possible.chain(least);
                    assert!(
                        possible.any(|number| text == value(secret, number)),
                        "{text:?} after {done:?} and {failed:?}"
                    );
                }
                Err(error) => {
                    let missing = error.failure == Failure::NotFound;
                    assert!(!missing || done.is_empty(), "{error}");
                }
            }
        }
    }
    (done, failed)
}

#[tokio::test]
async fn whatever_fails_no_value_is_wrong_and_no_version_is_lost_or_made_twice() {
    let bench = Arc::new(Bench::new());
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let faults = faults();
    // A request is met by the first fault that is due, so that each gets its share of a tenth.
    for fault in &faults {
        let calls: BTreeSet<u64> = (0..REQUESTS / 100)
            .map(|_| numbers.below(REQUESTS))
            .collect();
        bench.add_fault(fault.clone().only(calls.into_iter().collect::<Vec<_>>()));
    }
    let failures = Arc::new(AtomicUsize::new(0));
    let mut users = JoinSet::new();
    for secret in 0..SECRETS {
        let (bench, failures) = (bench.clone(), failures.clone());
        users.spawn(async move {
            let (done, failed) = use_secret(&bench, secret).await;
            failures.fetch_add(failed.len(), Ordering::Relaxed);
            let made = bench.values(&format!("s{secret}"));
            // Each version was asked for, in this order, and none twice.
            let asked = (0..SETS).map(|number| value(secret, number));
            let order: Vec<usize> = made
                .iter()
                .map(|text| asked.clone().position(|value| value == *text).unwrap())
                .collect();
            assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
            // What was reported as done is there.
            for number in done {
                assert!(order.contains(&number), "{number} of {secret} is lost");
            }
        });
    }
    users.join_all().await;
    let faulty = bench
        .log()
        .iter()
        .filter(|entry| entry.status != Some(200))
        .count();
    assert!(faulty > 500, "only {faulty} requests failed");
    // Most failures are mended without anybody noticing.
    let failures = failures.load(Ordering::Relaxed);
    assert!(failures < SECRETS * SETS / 50, "{failures} sets failed");
}
