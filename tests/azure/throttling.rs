//! A vault that throttles is not stormed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyvaultfs::secrets::Failure;
use tokio::task::JoinSet;

use super::bench::Bench;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_crowd_of_readers_keeps_to_the_pace_of_a_vault_that_throttles() {
    let bench = Arc::new(Bench::new());
    bench.set_secret("a", "v");
    bench.vault.warm_up().await;
    bench.set_rate_limit(Some(20));
    let began = Instant::now();
    let mut readers = JoinSet::new();
    for _ in 0..40 {
        let bench = bench.clone();
        readers.spawn(async move {
            let mut read = 0;
            while began.elapsed() < 5 * SECOND {
                match bench.get_within("a", 2 * SECOND).await {
                    Ok(secret) => {
                        assert_eq!(secret.value.expose(), b"v");
                        read += 1;
                    }
                    Err(error) => {
                        // The last of the time may go in the midst of an attempt.
                        let expected = [Failure::Throttled, Failure::TimedOut];
                        assert!(expected.contains(&error.failure), "{error}");
                        // As a program that is told EAGAIN does.
                        tokio::time::sleep(SECOND / 4).await;
                    }
                }
            }
            read
        });
    }
    let read: usize = readers.join_all().await.into_iter().sum();
    let seconds = began.elapsed().as_secs_f64();
    let sent = bench.gets();
    // The vault is used: at least half of what it gives.
    assert!(read as f64 >= 10.0 * seconds, "{read} read in {seconds} s");
    // And not stormed, but for the first moment, when nobody knew.
    assert!(
        sent as f64 <= 120.0 + 30.0 * seconds,
        "{sent} sent in {seconds} s"
    );
}

#[tokio::test]
async fn a_vault_that_throttles_no_more_is_soon_read_at_its_pace_again() {
    let bench = Bench::new();
    bench.set_secret("a", "v");
    bench.set_rate_limit(Some(1));
    bench.get("a").await.unwrap();
    // One 429 at least; whether a retry succeeds is chance.
    let _ = bench.get("a").await;
    assert!(bench.gets() > 2);
    bench.set_rate_limit(None);
    let began = Instant::now();
    for _ in 0..30 {
        bench.get("a").await.unwrap();
    }
    assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
}
