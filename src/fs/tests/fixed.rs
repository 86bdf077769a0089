//! `.keyvaultfs/` and `.storage/`: what the mount says of itself, and storage accounts' keys.

use super::*;
use crate::config::StorageAccount;
use crate::fs::DirectoryEntry;

async fn entry(mount: &Mount, path: &[&str]) -> Attributes {
    let mut parent = ROOT;
    let mut found = None;
    for name in path {
        let attributes = mount.fs.lookup(parent, OsStr::new(name), 7).await;
        let attributes = attributes.unwrap_or_else(|errno| panic!("{name}: {errno}"));
        parent = attributes.ino;
        found = Some(attributes);
    }
    found.unwrap()
}

async fn read(mount: &Mount, ino: u64, fh: u64) -> Result<String, Errno> {
    let bytes = mount.fs.read(fh, ino, 0, 1 << 20, false).await?;
    Ok(String::from_utf8(bytes.expose().to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn status_and_metrics_are_read_at_no_request_and_never_written() {
    let mount = mount();
    for name in ["status", "metrics"] {
        let file = entry(&mount, &[".keyvaultfs", name]).await;
        assert_eq!((file.mode, file.directory), (0o444, false));
        let opened = mount.fs.open(file.ino, READ, 7).await.unwrap();
        let text = read(&mount, file.ino, opened.fh).await.unwrap();
        assert_eq!(text.len() as u64, file.size, "the size was true");
        assert!(text.contains("1.2.3"), "{text}");
        mount.fs.flush(opened.fh, 7).await.unwrap();
        mount.fs.release(opened.fh).await;
        assert_eq!(
            mount.fs.open(file.ino, REPLACE, 7).await.err(),
            Some(Errno::EROFS)
        );
    }
    assert_eq!(mount.gets(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_directories_with_fixed_names_are_listed() {
    let mount = mount();
    assert_eq!(mount.fs.readdir(ROOT), Err(Errno::EACCES));
    let own = entry(&mount, &[".keyvaultfs"]).await;
    assert_eq!((own.mode, own.directory), (0o555, true));
    let listed = mount.fs.readdir(own.ino).unwrap();
    let names: Vec<_> = listed
        .iter()
        .map(|DirectoryEntry { name, .. }| name.as_str())
        .collect();
    assert_eq!(names, [".", "..", "status", "metrics"]);
    let missing = mount.fs.lookup(own.ino, OsStr::new("db"), 7).await;
    assert_eq!(missing.err(), Some(Errno::ENOENT));
    let created = mount.fs.create(own.ino, OsStr::new("db"), 7, PLAINLY).await;
    assert_eq!(created.err(), Some(Errno::EPERM));
    assert_eq!(mount.gets(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_file_opened_in_an_earlier_worker_begins_anew_or_fails() {
    let mount = mount();
    let file = entry(&mount, &[".keyvaultfs", "status"]).await;
    let (from_before, other) = (77, 78);
    assert!(
        read(&mount, file.ino, from_before)
            .await
            .unwrap()
            .contains("1.2.3")
    );
    let further = mount.fs.read(other, file.ino, 10, 10, false).await;
    assert_eq!(further.err(), Some(Errno::EIO));
}

fn mount_with_accounts() -> Mount {
    mount_with(|options| {
        let id = |name: &str| {
            format!(
                "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/{name}"
            )
        };
        options.storage_accounts = ["first", "second"]
            .map(|name| StorageAccount::parse(&id(name)).unwrap())
            .into();
        options.ownership.file_mode = 0o640;
    })
}

async fn key(mount: &Mount, account: &str, name: &str) -> Result<String, Errno> {
    let directory = entry(mount, &[".storage", account]).await;
    let file = mount.fs.lookup(directory.ino, OsStr::new(name), 7).await?;
    let opened = mount.fs.open(file.ino, READ, 7).await?;
    let text = read(mount, file.ino, opened.fh).await?;
    mount.fs.release(opened.fh).await;
    assert_eq!((file.mode, file.size), (0o440, text.len() as u64));
    Ok(text)
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_an_account_cost_one_request_within_a_moment() {
    let mount = mount_with_accounts();
    let storage = entry(&mount, &[".storage"]).await;
    assert_eq!((storage.mode, storage.directory), (0o550, true));
    let listed = mount.fs.readdir(storage.ino).unwrap();
    assert_eq!(listed[2].name, "first");
    assert_eq!(key(&mount, "first", "key1").await.unwrap(), "a0");
    assert_eq!(key(&mount, "first", "key2").await.unwrap(), "b0");
    let string = key(&mount, "first", "connection-string").await.unwrap();
    assert!(
        string.ends_with("AccountName=first;AccountKey=a0"),
        "{string}"
    );
    assert_eq!(mount.lists(), 1);
    assert_eq!(key(&mount, "second", "key1").await.unwrap(), "a1");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(key(&mount, "first", "key1").await.unwrap(), "a2");
    assert_eq!(mount.gets(), 0);
}

#[tokio::test(start_paused = true)]
async fn keys_that_may_not_be_listed_have_an_errno_and_are_never_written() {
    let mount = mount_with_accounts();
    for (failure, errno) in [
        (Failure::Forbidden, Errno::EACCES),
        (Failure::ScopeLocked, Errno::EPERM),
        (Failure::NotFound, Errno::ENOENT),
        (Failure::Throttled, Errno::EAGAIN),
    ] {
        *mount.vault.get_denied.lock() = Some(failure);
        assert_eq!(key(&mount, "first", "key1").await, Err(errno));
        sleep(Duration::from_secs(2)).await;
    }
    *mount.vault.get_denied.lock() = None;
    let file = entry(&mount, &[".storage", "first", "key1"]).await;
    let opened = mount.fs.open(file.ino, REPLACE, 7).await;
    assert_eq!(opened.err(), Some(Errno::EROFS));
}

#[tokio::test(start_paused = true)]
async fn a_slow_resource_manager_holds_a_lookup_for_a_second_and_an_open_to_its_end() {
    let mount = mount_with_accounts();
    *mount.vault.delay.lock() = Duration::from_secs(3);
    let began = Instant::now();
    let file = entry(&mount, &[".storage", "first", "key1"]).await;
    assert_eq!((file.size, began.elapsed().as_secs()), (0, 1));
    let opened = mount.fs.open(file.ino, READ, 7).await.unwrap();
    assert_eq!(read(&mount, file.ino, opened.fh).await.unwrap(), "a0");
    assert_eq!((mount.lists(), began.elapsed().as_secs()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_keys_that_joins_late_is_not_ended_by_the_first_ones_deadline() {
    let mount = mount_with_accounts();
    let directory = entry(&mount, &[".storage", "first"]).await;
    let file = mount.fs.lookup(directory.ino, OsStr::new("key1"), 7).await;
    let ino = file.unwrap().ino;
    sleep(Duration::from_secs(2)).await;
    *mount.vault.delay.lock() = Duration::from_secs(100);
    let fs = Arc::clone(&mount.fs);
    let first = tokio::spawn(async move { fs.open(ino, READ, 8).await });
    sleep(Duration::from_millis(9_500)).await;
    let began = Instant::now();
    assert_eq!(mount.fs.open(ino, READ, 9).await, Err(Errno::ETIMEDOUT));
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    assert_eq!(first.await.unwrap(), Err(Errno::ETIMEDOUT));
}
