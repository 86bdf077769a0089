//! Lookup, stat, open for reading, read.

use super::*;

#[tokio::test(start_paused = true)]
async fn cat_costs_one_request_and_so_does_stat() {
    let mount = mount();
    mount.vault.put("a", b"value");
    assert_eq!(mount.cat("a").await.unwrap(), b"value");
    assert_eq!(mount.gets(), 1);
    let entry = mount.lookup("a").await.unwrap();
    assert_eq!(mount.fs.getattr(entry.ino, None, 7).await.unwrap().size, 5);
    assert_eq!(mount.gets(), 2);
}

#[tokio::test(start_paused = true)]
async fn every_open_pulls_unless_the_lookup_just_before_did() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let entry = mount.lookup("a").await.unwrap();
    mount.fs.open(entry.ino, READ, 7).await.unwrap();
    mount.vault.put("a", b"2");
    // Another thread, and the same one without a lookup (a bind-mounted file).
    for tid in [8, 7] {
        let opened = mount.fs.open(entry.ino, READ, tid).await.unwrap();
        assert_eq!(mount.read_all(opened.fh).await, b"2");
    }
    assert_eq!(mount.gets(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_nobody_came_for_is_dropped_after_a_second() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let entry = mount.lookup("a").await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert!(mount.fs.hand_offs.take(entry.ino, 7).is_none());
}

#[tokio::test(start_paused = true)]
async fn attributes_are_to_be_remembered_only_while_one_thread_uses_a_file() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let look_up = async |tid| mount.fs.lookup(ROOT, OsStr::new("a"), tid).await.unwrap();
    let first = look_up(7).await;
    assert!(first.fresh);
    assert!(!look_up(8).await.fresh, "7 may be about to open it");
    let opened = mount.fs.open(first.ino, READ, 7).await.unwrap();
    mount.fs.open(first.ino, READ, 8).await.unwrap();
    assert!(
        !look_up(9).await.fresh,
        "fstat(2) of 7 is to tell of what 7 has open"
    );
    mount.fs.release(opened.fh).await;
    assert!(!look_up(9).await.fresh, "8 still has it open");
    let read = mount.fs.getattr(first.ino, None, 9).await.unwrap();
    assert!(!read.fresh);
    assert!(!mount.fs.getattr(ROOT, None, 9).await.unwrap().fresh);
}

#[tokio::test(start_paused = true)]
async fn attributes_are_not_to_be_remembered_beside_another_versions_birth_time() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let ino = mount.lookup("a").await.unwrap().ino;
    mount.fs.statx(ino, 7).await.unwrap();
    assert!(mount.lookup("a").await.unwrap().fresh);
    mount.vault.put("a", b"2");
    for _ in 0..2 {
        assert!(!mount.lookup("a").await.unwrap().fresh);
    }
    // The kernel may not have taken this answer: its waiter may be gone.
    mount.fs.statx(ino, 7).await.unwrap();
    assert!(!mount.lookup("a").await.unwrap().fresh);
}

#[tokio::test(start_paused = true)]
async fn nor_is_it_where_files_are_opened_without_a_look_up() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let ino = mount.lookup("a").await.unwrap().ino;
    let opened = mount.fs.open(ino, READ, 8).await.unwrap();
    mount.fs.release(opened.fh).await;
    assert!(!mount.lookup("a").await.unwrap().fresh);
}

#[tokio::test(start_paused = true)]
async fn readers_of_one_name_share_a_request() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let ino = mount.lookup("a").await.unwrap().ino;
    *mount.vault.delay.lock() = Duration::from_millis(50);
    let open = |tid| {
        let fs = Arc::clone(&mount.fs);
        tokio::spawn(async move { fs.open(ino, READ, tid).await })
    };
    for opened in (100..200).map(open).collect::<Vec<_>>() {
        opened.await.unwrap().unwrap();
    }
    assert_eq!(mount.gets(), 2);
}

#[tokio::test(start_paused = true)]
async fn lookup_waits_one_second_and_the_open_after_it_tells_the_truth() {
    let mount = mount();
    mount.vault.put("a", b"1");
    *mount.vault.delay.lock() = Duration::from_secs(3);
    let began = Instant::now();
    let entry = mount.lookup("a").await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    let opened = mount.fs.open(entry.ino, READ, 7).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(3));
    assert_eq!(mount.read_all(opened.fh).await, b"1");
    assert_eq!(mount.gets(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_provisional_entry_that_proves_missing_is_looked_up_again_at_no_cost() {
    let mount = mount();
    *mount.vault.delay.lock() = Duration::from_secs(3);
    let entry = mount.lookup("a").await.unwrap();
    assert_eq!(mount.fs.open(entry.ino, READ, 7).await, Err(Errno::ESTALE));
    assert_eq!(mount.lookup("a").await, Err(Errno::ENOENT));
    assert_eq!(mount.lookup("a").await, Err(Errno::ENOENT));
    assert_eq!(mount.gets(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_lookup_that_the_kernel_repeats_gets_the_same_answer() {
    let mount = mount();
    mount.vault.put("a", b"1");
    mount.lookup("a").await.unwrap();
    mount
        .vault
        .get_faults
        .lock()
        .push_back(Failure::Unreachable);
    assert_eq!(mount.lookup("a").await, Err(Errno::EHOSTUNREACH));
    assert_eq!(mount.lookup("a").await, Err(Errno::EHOSTUNREACH));
    assert_eq!(mount.gets(), 2);
    sleep(Duration::from_millis(200)).await;
    assert!(mount.lookup("a").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn names_that_cannot_exist_cost_no_request() {
    let mount = mount();
    for name in ["a.b", "*", ".git", "a b", &"x".repeat(128)] {
        assert_eq!(mount.lookup(name).await, Err(Errno::ENOENT), "{name}");
    }
    let create = async |name: &str| {
        mount
            .fs
            .create(ROOT, OsStr::new(name), 7, PLAINLY)
            .await
            .map(|_| ())
    };
    assert_eq!(create("a.b").await, Err(Errno::EINVAL));
    assert_eq!(create(&"x".repeat(128)).await, Err(Errno::ENAMETOOLONG));
    assert_eq!(mount.gets(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handle_is_a_snapshot() {
    let mount = mount();
    mount.vault.put("a", b"old");
    let fh = mount.open("a", READ).await.unwrap();
    mount.replace("a", b"newer").await.unwrap();
    assert_eq!(mount.read_all(fh).await, b"old");
    assert_eq!(mount.cat("a").await.unwrap(), b"newer");
}

#[tokio::test(start_paused = true)]
async fn a_search_for_a_free_name_in_a_drop_box_ends() {
    let mount = mount();
    *mount.vault.get_denied.lock() = Some(Failure::Forbidden);
    let mut found = 0;
    while mount.lookup(&format!("tmp{found}")).await.is_ok() {
        found += 1;
    }
    assert_eq!(found, 16);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_secret_is_there_cannot_be_read_and_can_be_overwritten() {
    let mount = mount();
    *mount.vault.get_denied.lock() = Some(Failure::Disabled);
    assert!(mount.lookup("a").await.is_ok());
    assert_eq!(mount.cat("a").await, Err(Errno::EPERM));
    mount.replace("a", b"1").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_version_is_read_and_never_written() {
    let mount = mount();
    mount.vault.put("a", b"1");
    mount.vault.put("a", b"2");
    let name = format!("a@{:032x}", 1);
    assert_eq!(mount.cat(&name).await.unwrap(), b"1");
    assert_eq!(mount.lookup(&name).await.unwrap().mode, 0o400);
    assert_eq!(mount.open(&name, REPLACE).await, Err(Errno::EROFS));
    let missing = OsStr::new("a@ffffffffffffffffffffffffffffffff");
    assert_eq!(
        mount.fs.create(ROOT, missing, 7, PLAINLY).await.map(|_| ()),
        Err(Errno::EROFS)
    );
}

#[tokio::test(start_paused = true)]
async fn times_are_the_versions() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let entry = mount.lookup("a").await.unwrap();
    let at = |seconds| std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(
        (entry.created, entry.modified),
        (Some(at(1_000)), at(2_000))
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_joins_late_is_not_ended_by_the_first_ones_deadline() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let ino = mount.lookup("a").await.unwrap().ino;
    *mount.vault.delay.lock() = Duration::from_secs(100);
    let fs = Arc::clone(&mount.fs);
    let first = tokio::spawn(async move { fs.open(ino, READ, 8).await });
    sleep(Duration::from_secs(9)).await;
    let fs = Arc::clone(&mount.fs);
    let second = tokio::spawn(async move { fs.open(ino, READ, 9).await });
    sleep(Duration::from_millis(500)).await;
    *mount.vault.delay.lock() = Duration::ZERO;
    assert_eq!(first.await.unwrap(), Err(Errno::ETIMEDOUT));
    assert!(second.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_joins_late_is_not_ended_by_the_first_ones_deadline() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let ino = mount.lookup("a").await.unwrap().ino;
    *mount.vault.delay.lock() = Duration::from_secs(100);
    let fs = Arc::clone(&mount.fs);
    let first = tokio::spawn(async move { fs.open(ino, READ, 8).await });
    sleep(Duration::from_millis(9_500)).await;
    let began = Instant::now();
    assert_eq!(mount.cat("a").await, Err(Errno::ETIMEDOUT));
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    assert_eq!(first.await.unwrap(), Err(Errno::ETIMEDOUT));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_inode_is_stale_and_an_unknown_handle_lost() {
    let mount = mount();
    assert_eq!(mount.fs.open(99, READ, 7).await, Err(Errno::ESTALE));
    assert_eq!(mount.fs.getattr(99, None, 7).await, Err(Errno::ESTALE));
    assert_eq!(
        mount.fs.read(99, 0, 0, 1, false).await.map(|_| ()),
        Err(Errno::EIO)
    );
}

#[tokio::test(start_paused = true)]
async fn all_attributes_of_a_file_cost_the_one_request_of_its_first_lookup() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let ino = mount.lookup("a").await.unwrap().ino;
    let names = mount.fs.listxattr(ino, 7).await.unwrap();
    let names = String::from_utf8(names).unwrap();
    let mut seen = BTreeMap::new();
    for name in names.split_terminator('\0') {
        mount.lookup("a").await.unwrap();
        mount.fs.getattr(ino, None, 7).await.unwrap();
        let value = mount.fs.getxattr(ino, name, 7).await.unwrap();
        let name = name.strip_prefix("user.keyvault.").unwrap();
        seen.insert(name.to_owned(), String::from_utf8(value).unwrap());
    }
    let expected = [
        ("content-type", "text/plain"),
        ("created", "1970-01-01T00:16:40Z"),
        ("enabled", "true"),
        ("managed", "false"),
        ("tags.team", "db"),
        ("updated", "1970-01-01T00:33:20Z"),
        ("version", "00000000000000000000000000000001"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(seen, BTreeMap::from(expected));
    assert_eq!(mount.gets(), 1);
    mount.vault.put("a", b"2");
    assert_eq!(
        mount.cat("a").await.unwrap(),
        b"2",
        "an open pulls all the same"
    );
}

#[tokio::test(start_paused = true)]
async fn attributes_that_are_not_the_vaults_cost_no_request() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let ino = mount.lookup("a").await.unwrap().ino;
    sleep(Duration::from_secs(2)).await;
    let security = mount.fs.getxattr(ino, "security.capability", 7).await;
    assert_eq!(security, Err(Errno::ENODATA));
    assert_eq!(mount.gets(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_and_the_lookup_before_it_share_one_time_limit() {
    let mount = mount();
    mount.vault.put("a", b"1");
    *mount.vault.delay.lock() = Duration::from_secs(100);
    let began = Instant::now();
    assert_eq!(mount.cat("a").await, Err(Errno::ETIMEDOUT));
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    assert_eq!(mount.gets(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_missing_file_that_is_not_looked_up_again_is_missing_the_second_time() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let ino = mount.lookup("a").await.unwrap().ino;
    mount.vault.secrets.lock().clear();
    sleep(Duration::from_secs(2)).await;
    let stat = async || mount.fs.getattr(ino, None, 7).await;
    assert_eq!(stat().await, Err(Errno::ESTALE));
    assert_eq!(stat().await, Err(Errno::ENOENT));
}
