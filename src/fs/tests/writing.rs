//! Open for writing, write, close: what is set, and what is refused.

use super::*;

#[tokio::test(start_paused = true)]
async fn replacing_a_slow_secret_does_not_wait_to_open_it() {
    let mount = mount();
    mount.vault.put("a", b"1");
    *mount.vault.delay.lock() = Duration::from_secs(3);
    let entry = mount.lookup("a").await.unwrap();
    let began = Instant::now();
    let opened = mount.fs.open(entry.ino, REPLACE, 7).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    mount.write(opened.fh, b"2").await.unwrap();
    mount.fs.flush(opened.fh, 7).await.unwrap();
    let secrets = mount.vault.secrets.lock();
    let (_, properties) = &secrets[&SecretName::parse("a").unwrap()][1];
    assert_eq!(
        properties.tags["team"], "db",
        "carried over although not known at open"
    );
}

#[tokio::test(start_paused = true)]
async fn a_close_sets_once_and_a_second_close_of_a_duplicate_sets_nothing() {
    let mount = mount();
    let (_, opened) = mount
        .fs
        .create(ROOT, OsStr::new("a"), 7, PLAINLY)
        .await
        .unwrap();
    mount.fs.flush(opened.fh, 7).await.unwrap();
    mount.write(opened.fh, b"v1").await.unwrap();
    mount.fs.flush(opened.fh, 7).await.unwrap();
    mount.fs.flush(opened.fh, 7).await.unwrap();
    mount.fs.fsync(opened.fh).await.unwrap();
    assert_eq!(mount.vault.values("a"), [b"v1"]);
    assert_eq!(mount.sets(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_written_sets_nothing() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let fh = mount.open("a", REPLACE).await.unwrap();
    mount.fs.flush(fh, 7).await.unwrap();
    mount.fs.release(fh).await;
    let (entry, opened) = mount
        .fs
        .create(ROOT, OsStr::new("b"), 7, PLAINLY)
        .await
        .unwrap();
    assert_eq!(
        mount.lookup("b").await.unwrap().ino,
        entry.ino,
        "it exists while it is open"
    );
    mount.fs.flush(opened.fh, 7).await.unwrap();
    mount.fs.release(opened.fh).await;
    assert_eq!(mount.lookup("b").await, Err(Errno::ENOENT));
    assert_eq!(mount.sets(), 0);
}

#[tokio::test(start_paused = true)]
async fn appending_and_overwriting_in_place_start_from_the_current_value() {
    let mount = mount();
    mount.vault.put("a", b"abc");
    let fh = mount.open("a", APPEND).await.unwrap();
    mount.write(fh, b"d").await.unwrap();
    let data = SecretBytes::new(b"X".to_vec());
    mount.fs.write(fh, WriteAt::Offset(1), &data).await.unwrap();
    mount.fs.flush(fh, 7).await.unwrap();
    assert_eq!(mount.vault.values("a").last().unwrap(), b"aXcd");
}

#[tokio::test(start_paused = true)]
async fn overwriting_keeps_content_type_and_tags() {
    let mount = mount();
    mount.vault.put("a", b"1");
    mount.replace("a", b"2").await.unwrap();
    let secrets = mount.vault.secrets.lock();
    let (_, properties) = &secrets[&SecretName::parse("a").unwrap()][1];
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!(properties.tags["team"], "db");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_created_is_there_for_others_too() {
    let mount = mount();
    let created = mount.fs.create(ROOT, OsStr::new("a"), 7, PLAINLY).await;
    let fh = created.unwrap().1.fh;
    mount.write(fh, b"abc").await.unwrap();
    let entry = mount.lookup("a").await.unwrap();
    let shown = mount.fs.getattr(entry.ino, None, 7).await.unwrap();
    assert_eq!((entry.size, shown.size), (3, 3));
    let again = mount.fs.open(entry.ino, REPLACE, 7).await.unwrap().fh;
    mount.write(again, b"d").await.unwrap();
    for fh in [fh, again] {
        mount.fs.flush(fh, 7).await.unwrap();
        mount.fs.release(fh).await;
    }
    assert_eq!(mount.vault.values("a"), [&b"abc"[..], b"d"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_set_leaves_the_bytes_for_another_try() {
    let mount = mount();
    mount
        .vault
        .set_faults
        .lock()
        .push_back(Failure::ServerError);
    let (_, opened) = mount
        .fs
        .create(ROOT, OsStr::new("a"), 7, PLAINLY)
        .await
        .unwrap();
    mount.write(opened.fh, b"v").await.unwrap();
    assert_eq!(mount.fs.fsync(opened.fh).await, Err(Errno::EIO));
    assert_eq!(mount.fs.flush(opened.fh, 7).await, Ok(()));
    assert_eq!(mount.vault.values("a"), [b"v"]);
}

#[tokio::test(start_paused = true)]
async fn without_set_the_first_write_fails_and_then_the_open() {
    let mount = mount();
    *mount.vault.set_denied.lock() = true;
    mount.vault.put("a", b"1");
    assert_eq!(mount.replace("a", b"2").await, Err(Errno::EACCES));
    assert_eq!(mount.open("a", REPLACE).await, Err(Errno::EACCES));
    let created = mount.fs.create(ROOT, OsStr::new("A"), 7, PLAINLY).await;
    assert_eq!(created.map(|_| ()), Err(Errno::EACCES));
    assert_eq!(mount.cat("a").await.unwrap(), b"1");
    assert_eq!(mount.sets(), 0);
    *mount.vault.set_denied.lock() = false;
    sleep(Duration::from_secs(11)).await;
    mount.replace("a", b"2").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whether_a_name_may_be_set_is_asked_once() {
    let mount = mount();
    mount.replace("a", b"1").await.unwrap();
    mount.replace("a", b"2").await.unwrap();
    assert_eq!(mount.vault.checks.load(Ordering::Relaxed), 1);
    let unchecked = mount_with(|options| options.set_check = false);
    unchecked.replace("a", b"1").await.unwrap();
    assert_eq!(unchecked.vault.checks.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn creating_a_file_asks_nothing_and_waits_for_nothing() {
    let mount = mount();
    *mount.vault.delay.lock() = Duration::from_secs(60);
    *mount.vault.set_denied.lock() = true;
    let began = Instant::now();
    let created = mount.fs.create(ROOT, OsStr::new("a"), 7, PLAINLY).await;
    assert!(created.is_ok());
    assert_eq!(began.elapsed(), Duration::ZERO);
    let checks = mount.vault.checks.load(Ordering::Relaxed);
    assert_eq!((mount.gets(), mount.sets(), checks), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn that_get_is_refused_is_remembered_10_s_for_the_mount() {
    let mount = mount();
    *mount.vault.get_denied.lock() = Some(Failure::Forbidden);
    for name in ["a", "b", "c", "d", "e"] {
        mount.lookup(name).await.unwrap();
    }
    assert_eq!(mount.gets(), 3, "by then it is the mount's policy");
    sleep(Duration::from_secs(11)).await;
    mount.lookup("d").await.unwrap();
    assert_eq!(mount.gets(), 4);
}

#[tokio::test(start_paused = true)]
async fn without_get_a_name_is_a_drop_box() {
    let mount = mount();
    *mount.vault.get_denied.lock() = Some(Failure::Forbidden);
    let entry = mount.lookup("a").await.unwrap();
    assert_eq!((entry.size, entry.mode), (0, 0o200));
    assert_eq!(mount.cat("a").await, Err(Errno::EACCES));
    mount.replace("a", b"1").await.unwrap();
    assert_eq!(mount.vault.values("a"), [b"1"]);
    assert_eq!(mount.gets(), 1, "a refusal is remembered");
    let fh = mount.open("a", APPEND).await.unwrap();
    assert_eq!(
        mount.write(fh, b"2").await,
        Err(Errno::EACCES),
        "it would lose what is there"
    );
    let emptied = Change {
        size: Some(0),
        ..Change::default()
    };
    mount
        .fs
        .setattr(entry.ino, Some(fh), emptied, 7)
        .await
        .unwrap();
    mount.write(fh, b"2").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_certificates_secret_is_refused_at_open() {
    let mount = mount();
    mount.vault.put("cert", b"pem");
    mount
        .vault
        .secrets
        .lock()
        .get_mut(&SecretName::parse("cert").unwrap())
        .unwrap()[0]
        .1
        .managed = true;
    assert_eq!(mount.open("cert", REPLACE).await, Err(Errno::EPERM));
    assert_eq!(mount.cat("cert").await.unwrap(), b"pem");
}

#[tokio::test(start_paused = true)]
async fn a_read_only_mount_refuses_at_open() {
    let mount = mount_with(|options| options.read_only = true);
    mount.vault.put("a", b"1");
    assert_eq!(mount.open("a", APPEND).await, Err(Errno::EROFS));
    assert_eq!(mount.lookup("a").await.unwrap().mode, 0o400);
    assert_eq!(mount.fs.getattr(ROOT, None, 7).await.unwrap().mode, 0o100);
}

#[tokio::test(start_paused = true)]
async fn chmod_and_chown_succeed_if_they_change_nothing() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let ino = mount.lookup("a").await.unwrap().ino;
    let same = Change {
        mode: Some(0o100_600),
        uid: Some(0),
        gid: Some(0),
        size: Some(1),
        ..Change::default()
    };
    assert!(mount.fs.setattr(ino, None, same, 7).await.is_ok());
    for other in [
        Change {
            mode: Some(0o644),
            ..Change::default()
        },
        Change {
            uid: Some(1),
            ..Change::default()
        },
        Change {
            size: Some(0),
            ..Change::default()
        },
    ] {
        assert_eq!(
            mount.fs.setattr(ino, None, other, 7).await,
            Err(Errno::EPERM)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_trailing_newline_is_trimmed_on_demand() {
    let mount = mount_with(|options| options.trim_newline = true);
    mount.replace("a", b"v\n").await.unwrap();
    assert_eq!(mount.vault.values("a"), [b"v"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_mount_puts_on_sets_counts_before_what_is_carried_over() {
    let mount = mount_with(|options| {
        options.on_set.content_type = Some("application/json".into());
        options.on_set.expires_in = Some(Duration::from_secs(3600));
        options.on_set.tags = BTreeMap::from([("by".into(), "mount".into())]);
    });
    mount.vault.put("a", b"old");
    mount.replace("a", b"new").await.unwrap();
    let properties = mount.vault.properties("a");
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));
    let tags = [("by", "mount"), ("team", "db")].map(|(a, b)| (a.into(), b.into()));
    assert_eq!(properties.tags, BTreeMap::from(tags));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let lifetime = properties.expires.unwrap() - i64::try_from(now).unwrap();
    assert!((3590..=3600).contains(&lifetime), "{lifetime}");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_outgrows_the_vault_by_its_encoding_fails_the_close() {
    let mount = mount();
    let mut bytes = vec![b'x'; 25_599];
    // The first half of a character: text so far, but no text to store.
    bytes.push("ä".as_bytes()[0]);
    assert_eq!(mount.replace("a", &bytes).await, Err(Errno::EFBIG));
    assert_eq!(mount.sets(), 0);
    bytes.truncate(18_949);
    bytes[0] = 0xff;
    assert_eq!(mount.replace("a", &bytes).await, Err(Errno::EFBIG));
    bytes.truncate(18_948);
    assert_eq!(mount.replace("a", &bytes).await, Ok(()));
    assert_eq!(mount.vault.values("a"), [bytes]);
}

#[tokio::test(start_paused = true)]
async fn an_open_after_a_set_does_not_join_a_pull_begun_before_it() {
    let mount = mount();
    mount.vault.put("a", b"old");
    let ino = mount.lookup("a").await.unwrap().ino;
    let fh = mount.open("a", REPLACE).await.unwrap();
    mount.write(fh, b"new").await.unwrap();
    *mount.vault.delay.lock() = Duration::from_millis(50);
    let fs = Arc::clone(&mount.fs);
    let slow = tokio::spawn(async move { fs.open(ino, READ, 8).await });
    sleep(Duration::from_millis(20)).await;
    *mount.vault.delay.lock() = Duration::ZERO;
    mount.fs.flush(fh, 7).await.unwrap();
    let after = mount.fs.open(ino, READ, 9).await.unwrap();
    assert_eq!(mount.read_all(after.fh).await, b"new");
    slow.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_shares_a_file_with_a_writer_that_was_killed_gets_to_know() {
    let mount = mount();
    let fh = {
        let created = mount.fs.create(ROOT, OsStr::new("a"), 7, PLAINLY).await;
        created.unwrap().1.fh
    };
    mount.write(fh, b"half").await.unwrap();
    let handle = mount.fs.handles.get(fh).unwrap();
    let handles::Body::Writer(writer) = &handle.body else {
        panic!("it was opened to be written");
    };
    // As the keeper's word that the flushing process is being killed does it.
    mount
        .fs
        .drop_staged(&handle, writer, &mut *writer.state.lock().await);
    assert_eq!(mount.write(fh, b"x").await, Err(Errno::EIO));
    assert_eq!(mount.fs.fsync(fh).await, Err(Errno::EIO));
    assert_eq!(mount.fs.flush(fh, 7).await, Err(Errno::EIO));
    assert_eq!(mount.sets(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_before_a_write_that_did_not_fit_is_not_set() {
    let mount = mount();
    mount.vault.put("a", b"good");
    let fh = mount.open("a", REPLACE).await.unwrap();
    mount.write(fh, &[b'x'; 25_000]).await.unwrap();
    assert_eq!(mount.write(fh, &[b'x'; 601]).await, Err(Errno::EFBIG));
    assert_eq!(mount.write(fh, b"y").await, Err(Errno::EFBIG));
    assert_eq!(mount.fs.flush(fh, 7).await, Err(Errno::EFBIG));
    assert_eq!(mount.fs.fsync(fh).await, Err(Errno::EFBIG));
    assert_eq!(mount.vault.values("a"), [b"good"]);
    let ino = mount.lookup("a").await.unwrap().ino;
    let emptied = Change {
        size: Some(0),
        ..Change::default()
    };
    mount.fs.setattr(ino, Some(fh), emptied, 7).await.unwrap();
    mount.write(fh, b"new").await.unwrap();
    mount.fs.flush(fh, 7).await.unwrap();
    assert_eq!(mount.vault.values("a").last().unwrap(), b"new");
}
