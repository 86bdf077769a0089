//! `--cache-ttl` and `--stale-if-error`.

use super::*;

fn keeping(ttl: u64, stale_if_error: u64) -> Mount {
    mount_with(|options| {
        options.freshness = Freshness {
            ttl: Duration::from_secs(ttl),
            stale_if_error: Duration::from_secs(stale_if_error),
        };
    })
}

#[tokio::test(start_paused = true)]
async fn a_value_serves_later_opens_for_its_ttl() {
    let mount = keeping(10, 0);
    mount.vault.put("a", b"1");
    assert_eq!(mount.cat("a").await.unwrap(), b"1");
    mount.vault.put("a", b"2");
    sleep(Duration::from_secs(9)).await;
    assert_eq!(mount.cat("A").await.unwrap(), b"1");
    assert_eq!(mount.gets(), 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(mount.cat("a").await.unwrap(), b"2");
    assert_eq!(mount.gets(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_set_through_the_mount_replaces_what_is_kept_at_once() {
    let mount = keeping(60, 0);
    mount.vault.put("a", b"1");
    assert_eq!(mount.cat("a").await.unwrap(), b"1");
    mount.replace("a", b"2").await.unwrap();
    assert_eq!(mount.cat("a").await.unwrap(), b"2");
    assert_eq!(mount.gets(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_not_there_is_asked_for_again_after_five_seconds() {
    let mount = keeping(60, 0);
    assert_eq!(mount.cat("a").await, Err(Errno::ENOENT));
    mount.vault.put("a", b"1");
    sleep(Duration::from_secs(4)).await;
    assert_eq!(mount.cat("a").await, Err(Errno::ENOENT));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(mount.cat("a").await.unwrap(), b"1");
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_serves_while_the_vault_is_silent_and_never_against_its_word() {
    let mount = keeping(0, 60);
    mount.vault.put("a", b"1");
    assert_eq!(mount.cat("a").await.unwrap(), b"1");
    for failure in [
        Failure::Unreachable,
        Failure::TimedOut,
        Failure::Throttled,
        Failure::ServerError,
    ] {
        mount.vault.get_faults.lock().push_back(failure);
        assert_eq!(mount.cat("a").await.unwrap(), b"1", "{failure:?}");
    }
    mount
        .vault
        .get_faults
        .lock()
        .push_back(Failure::Unauthorized);
    assert_eq!(mount.cat("a").await, Err(Errno::EACCES));
    sleep(Duration::from_secs(1)).await;
    let silent = Failure::Unreachable;
    mount.vault.get_faults.lock().push_back(silent);
    assert_eq!(
        mount.cat("a").await,
        Err(Errno::EHOSTUNREACH),
        "a refusal ended what was kept"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_has_its_time_too() {
    let mount = keeping(5, 10);
    mount.vault.put("a", b"1");
    mount.cat("a").await.unwrap();
    sleep(Duration::from_secs(16)).await;
    mount
        .vault
        .get_faults
        .lock()
        .push_back(Failure::Unreachable);
    assert_eq!(mount.cat("a").await, Err(Errno::EHOSTUNREACH));
}

#[tokio::test(start_paused = true)]
async fn a_version_is_kept_while_it_is_used() {
    let mount = keeping(10, 0);
    mount.vault.put("a", b"1");
    let name = format!("a@{:032x}", 1);
    for _ in 0..5 {
        assert_eq!(mount.cat(&name).await.unwrap(), b"1");
        sleep(Duration::from_secs(6)).await;
    }
    assert_eq!(mount.gets(), 1);
    sleep(Duration::from_secs(10)).await;
    mount.cat(&name).await.unwrap();
    assert_eq!(mount.gets(), 2);
}
