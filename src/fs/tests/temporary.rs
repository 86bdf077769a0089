//! Temporary files: what editors and atomic writers do beside a secret.

use super::*;

/// A closed temporary file of these bytes.
async fn scratch(mount: &Mount, name: &str, how: Creation, data: &[u8]) {
    let created = mount.fs.create(ROOT, OsStr::new(name), 7, how).await;
    let (_, opened) = created.unwrap();
    mount.write(opened.fh, data).await.unwrap();
    mount.fs.flush(opened.fh, 7).await.unwrap();
    mount.fs.release(opened.fh).await;
}

async fn rename(mount: &Mount, from: &str, to: &str) -> Result<(), Errno> {
    mount
        .fs
        .rename((ROOT, OsStr::new(from)), (ROOT, OsStr::new(to)), 7)
        .await
}

#[tokio::test(start_paused = true)]
async fn renaming_a_temporary_file_onto_a_secret_sets_it_once() {
    let mount = mount();
    mount.vault.put("a", b"1");
    scratch(&mount, "sedAb12", MKSTEMP, b"2").await;
    assert_eq!(mount.lookup("sedAb12").await.unwrap().size, 1);
    assert_eq!(rename(&mount, "sedAb12", "a").await, Ok(()));
    sleep(Duration::from_secs(70)).await;
    assert_eq!(mount.vault.values("a"), [b"1", b"2"]);
    assert!(mount.vault.values("sedAb12").is_empty());
    let secrets = mount.vault.secrets.lock();
    assert_eq!(
        secrets[&SecretName::parse("a").unwrap()][1].1.tags["team"],
        "db"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rename_that_cannot_be_set_reports_it_and_keeps_the_file() {
    let mount = mount();
    mount.vault.put("a", b"1");
    scratch(&mount, "a.tmp", MKSTEMP, b"2").await;
    mount
        .vault
        .set_faults
        .lock()
        .push_back(Failure::ServerError);
    assert_eq!(rename(&mount, "a.tmp", "a").await, Err(Errno::EIO));
    assert_eq!(rename(&mount, "a.tmp", "a").await, Ok(()));
    assert_eq!(rename(&mount, "a", "b").await, Err(Errno::EPERM));
}

#[tokio::test(start_paused = true)]
async fn editors_files_never_reach_the_vault() {
    let mount = mount();
    for name in [".a.swp", "a~", "#a#", ".#a"] {
        scratch(&mount, name, PLAINLY, b"2").await;
    }
    let exclusively = Creation {
        flags: PLAINLY.flags | libc::O_EXCL,
        ..PLAINLY
    };
    scratch(&mount, "a.lock", exclusively, b"2").await;
    assert_eq!(rename(&mount, "a.lock", "a.new").await, Ok(()));
    assert_eq!(mount.fs.unlink(ROOT, OsStr::new("a.new")), Ok(()));
    assert_eq!(mount.fs.unlink(ROOT, OsStr::new("a")), Err(Errno::EPERM));
    assert_eq!(mount.lookup("a.new").await, Err(Errno::ENOENT));
    sleep(Duration::from_secs(70)).await;
    assert_eq!(mount.lookup("a~").await, Err(Errno::ENOENT));
    assert_eq!((mount.gets(), mount.sets()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_file_made_like_a_temporary_one_and_left_is_set_after_5_s() {
    let mount = mount();
    scratch(&mount, "Real", MKSTEMP, b"v").await;
    assert_eq!(mount.cat("Real").await.unwrap(), b"v");
    sleep(Duration::from_secs(7)).await;
    assert_eq!(mount.vault.values("Real"), [b"v"]);
    assert_eq!(mount.cat("Real").await.unwrap(), b"v");
}

#[tokio::test(start_paused = true)]
async fn a_slow_rename_leaves_no_secret_of_the_temporary_name() {
    let mount = mount();
    mount.vault.put("a", b"1");
    scratch(&mount, "sedAb12", MKSTEMP, b"2").await;
    *mount.vault.delay.lock() = Duration::from_secs(4);
    assert_eq!(rename(&mount, "sedAb12", "a").await, Ok(()));
    sleep(Duration::from_secs(70)).await;
    assert_eq!(mount.vault.values("a"), [b"1", b"2"]);
    assert!(mount.vault.values("sedAb12").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rename_onto_a_file_that_waits_to_be_set_sets_the_secret() {
    let mount = mount();
    scratch(&mount, "Real", MKSTEMP, b"1").await;
    let exclusively = Creation {
        flags: PLAINLY.flags | libc::O_EXCL,
        ..PLAINLY
    };
    scratch(&mount, "Real.lock", exclusively, b"2").await;
    assert_eq!(rename(&mount, "Real.lock", "Real").await, Ok(()));
    assert_eq!(mount.cat("Real").await.unwrap(), b"2");
    sleep(Duration::from_secs(70)).await;
    assert_eq!(mount.vault.values("Real"), [b"2"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_left_behind_outlives_a_passing_fault_of_the_vault() {
    let mount = mount();
    mount
        .vault
        .set_faults
        .lock()
        .extend([Failure::ServerError, Failure::Unreachable]);
    scratch(&mount, "Real", MKSTEMP, b"v").await;
    sleep(Duration::from_secs(12)).await;
    assert_eq!(mount.cat("Real").await.unwrap(), b"v");
    sleep(Duration::from_secs(12)).await;
    assert_eq!(mount.vault.values("Real"), [b"v"]);
    mount
        .vault
        .set_faults
        .lock()
        .extend([Failure::ServerError; 9]);
    scratch(&mount, "Lost", MKSTEMP, b"v").await;
    sleep(Duration::from_secs(70)).await;
    assert_eq!(mount.lookup("Lost").await, Err(Errno::ENOENT));
    assert_eq!(mount.sets(), 6, "three tries each");
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_set_is_set_when_the_mount_ends() {
    let mount = mount();
    for name in ["One", "Two"] {
        scratch(&mount, name, MKSTEMP, b"v").await;
    }
    scratch(&mount, "a~", PLAINLY, b"v").await;
    let open = mount.fs.create(ROOT, OsStr::new("Open"), 7, MKSTEMP).await;
    mount.write(open.unwrap().1.fh, b"half").await.unwrap();
    mount.fs.finish().await;
    assert_eq!(mount.vault.values("One"), [b"v"]);
    assert_eq!(mount.vault.values("Two"), [b"v"]);
    assert_eq!(mount.sets(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rename_takes_no_longer_than_the_time_limit() {
    let mount = mount();
    mount.vault.put("a", b"1");
    scratch(&mount, "sedAb12", MKSTEMP, b"2").await;
    *mount.vault.delay.lock() = Duration::from_secs(60);
    let began = Instant::now();
    let renamed = rename(&mount, "sedAb12", "a").await;
    assert_eq!(renamed, Err(Errno::ETIMEDOUT));
    assert_eq!(began.elapsed(), mount.fs.options.timeout);
}

#[tokio::test(start_paused = true)]
async fn other_files_left_are_dropped_after_60_s_and_open_ones_are_not() {
    let mount = mount();
    scratch(&mount, "a~", PLAINLY, b"x").await;
    let open = mount.fs.create(ROOT, OsStr::new(".a.swp"), 7, PLAINLY);
    open.await.unwrap();
    sleep(Duration::from_secs(58)).await;
    assert_eq!(mount.lookup("a~").await.unwrap().size, 1);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(mount.lookup("a~").await, Err(Errno::ENOENT));
    assert!(mount.lookup(".a.swp").await.is_ok());
    assert_eq!((mount.gets(), mount.sets()), (0, 0));
}
