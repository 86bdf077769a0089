//! The contract of lookup, open, read, write and close, against a store in memory whose answers
//! can be delayed and made to fail. Time is tokio's paused clock: a second costs none.

mod against_model;
mod certificates;
mod fixed;
mod freshness;
mod hand_over;
mod model;
mod reading;
mod temporary;
mod writing;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use super::*;
use crate::config::{Freshness, Ownership};
use crate::secret_bytes::SecretBytes;
use crate::secrets::{
    Checked, NewSecret, Properties, Secret, SecretName, SecretVersion, StorageKeys,
};

const READ: Access = Access {
    read: true,
    write: false,
    truncate: false,
};
const APPEND: Access = Access {
    read: false,
    write: true,
    truncate: false,
};
const REPLACE: Access = Access {
    read: false,
    write: true,
    truncate: true,
};

/// What a shell's `> f` creates with.
const PLAINLY: Creation = Creation {
    uid: 0,
    gid: 0,
    mode: 0o100_600,
    flags: libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC,
};
/// What mkstemp(3) creates with.
const MKSTEMP: Creation = Creation {
    flags: libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
    ..PLAINLY
};

type Version = (Vec<u8>, Properties);

/// A vault in memory. `faults` are used up in order by gets; a delay holds for all calls.
#[derive(Default)]
struct Vault {
    secrets: Mutex<HashMap<SecretName, Vec<Version>>>,
    get_faults: Mutex<VecDeque<Failure>>,
    set_faults: Mutex<VecDeque<Failure>>,
    get_denied: Mutex<Option<Failure>>,
    set_denied: Mutex<bool>,
    delay: Mutex<Duration>,
    gets: AtomicU32,
    sets: AtomicU32,
    checks: AtomicU32,
    lists: AtomicU32,
}

impl Vault {
    fn put(&self, name: &str, value: &[u8]) {
        let mut secrets = self.secrets.lock();
        let versions = secrets.entry(SecretName::parse(name).unwrap()).or_default();
        let version = SecretVersion::parse(&format!("{:032x}", versions.len() + 1)).unwrap();
        let properties = Properties {
            version,
            enabled: true,
            created: Some(1_000 + i64::try_from(versions.len()).unwrap()),
            updated: Some(2_000),
            not_before: None,
            expires: None,
            content_type: Some("text/plain".into()),
            tags: BTreeMap::from([("team".into(), "db".into())]),
            managed: false,
        };
        versions.push((value.to_vec(), properties));
    }

    fn values(&self, name: &str) -> Vec<Vec<u8>> {
        let secrets = self.secrets.lock();
        let versions = secrets.get(&SecretName::parse(name).unwrap());
        versions
            .into_iter()
            .flatten()
            .map(|(value, _)| value.clone())
            .collect()
    }

    fn properties(&self, name: &str) -> Properties {
        let secrets = self.secrets.lock();
        let versions = &secrets[&SecretName::parse(name).unwrap()];
        versions.last().unwrap().1.clone()
    }

    async fn work(&self, deadline: std::time::Instant) -> Result<(), StoreError> {
        let delay = *self.delay.lock();
        timeout_at(deadline.into(), sleep(delay))
            .await
            .map_err(|_| StoreError::new(Failure::TimedOut, "scripted"))
    }
}

impl SecretStore for Vault {
    async fn get(
        &self,
        name: &SecretName,
        version: Option<&SecretVersion>,
        deadline: std::time::Instant,
    ) -> Result<Secret, StoreError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.work(deadline).await?;
        let fault = self
            .get_faults
            .lock()
            .pop_front()
            .or(*self.get_denied.lock());
        if let Some(failure) = fault {
            return Err(StoreError::new(failure, "scripted"));
        }
        let secrets = self.secrets.lock();
        let mut versions = secrets.get(name).into_iter().flatten().rev();
        let found = versions.find(|(_, p)| version.is_none_or(|version| p.version == *version));
        let (value, properties) =
            found.ok_or_else(|| StoreError::new(Failure::NotFound, "no such secret"))?;
        Ok(Secret {
            value: SecretBytes::new(value.clone()),
            properties: properties.clone(),
        })
    }

    async fn set(
        &self,
        name: &SecretName,
        new: &NewSecret,
        deadline: std::time::Instant,
    ) -> Result<Properties, StoreError> {
        self.sets.fetch_add(1, Ordering::Relaxed);
        self.work(deadline).await?;
        if let Some(failure) = self.set_faults.lock().pop_front() {
            return Err(StoreError::new(failure, "scripted"));
        }
        if *self.set_denied.lock() {
            return Err(StoreError::new(Failure::Forbidden, "scripted"));
        }
        self.put(name.as_str(), new.value.expose());
        let mut secrets = self.secrets.lock();
        let (_, properties) = secrets.get_mut(name).unwrap().last_mut().unwrap();
        properties.content_type = new.content_type.clone();
        properties.tags = new.tags.clone();
        properties.expires = new.expires;
        Ok(properties.clone())
    }

    async fn storage_keys(
        &self,
        account: &StorageAccount,
        deadline: std::time::Instant,
    ) -> Result<StorageKeys, StoreError> {
        let listed = self.lists.fetch_add(1, Ordering::Relaxed);
        self.work(deadline).await?;
        if let Some(failure) = *self.get_denied.lock() {
            return Err(StoreError::new(failure, "scripted"));
        }
        let key = |text: &str| SecretBytes::new(format!("{text}{listed}").into_bytes());
        let keys = StorageKeys::new(account.name(), "core.windows.net", key("a"), key("b"));
        Ok(keys.unwrap())
    }

    async fn check_set(
        &self,
        _name: &SecretName,
        deadline: std::time::Instant,
    ) -> Result<Checked, StoreError> {
        self.checks.fetch_add(1, Ordering::Relaxed);
        if self.work(deadline).await.is_err() {
            return Ok(Checked::Unknown);
        }
        if *self.set_denied.lock() {
            return Err(StoreError::new(Failure::Forbidden, "scripted"));
        }
        Ok(Checked::Allowed)
    }
}

/// A filesystem in front of a vault of its own, with the requests the kernel would send.
struct Mount {
    vault: Arc<Vault>,
    fs: Arc<SecretFs<Vault>>,
}

fn mount() -> Mount {
    mount_with(|_| {})
}

fn mount_with(change: impl FnOnce(&mut Options)) -> Mount {
    let ownership = Ownership {
        uid: 0,
        gid: 0,
        file_mode: 0o600,
        dir_mode: 0o300,
    };
    let mut options = Options {
        timeout: Duration::from_secs(10),
        freshness: Freshness::default(),
        ownership,
        read_only: false,
        set_check: true,
        trim_newline: false,
        on_set: OnSet::default(),
        storage_accounts: Vec::new(),
        subject: Subject {
            program: "1.2.3",
            vault: "https://myvault.vault.azure.net".into(),
            identity: "imds".into(),
            worker: 1,
            started: SystemTime::now(),
        },
    };
    change(&mut options);
    let vault = Arc::new(Vault::default());
    let link = Arc::new(Link::detached());
    let fs = Arc::new(SecretFs::new(Arc::clone(&vault), options, link, 1));
    Mount { vault, fs }
}

impl Mount {
    async fn lookup(&self, name: &str) -> Result<Attributes, Errno> {
        self.fs.lookup(ROOT, OsStr::new(name), 7).await
    }

    async fn open(&self, name: &str, access: Access) -> Result<u64, Errno> {
        let entry = self.lookup(name).await?;
        Ok(self.fs.open(entry.ino, access, 7).await?.fh)
    }

    async fn read_all(&self, fh: u64) -> Vec<u8> {
        self.fs
            .read(fh, 0, 0, 1 << 20, false)
            .await
            .unwrap()
            .expose()
            .to_vec()
    }

    async fn cat(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let fh = self.open(name, READ).await?;
        let bytes = self.read_all(fh).await;
        self.fs.release(fh).await;
        Ok(bytes)
    }

    async fn write(&self, fh: u64, data: &[u8]) -> Result<u32, Errno> {
        self.fs
            .write(fh, WriteAt::End, &SecretBytes::new(data.to_vec()))
            .await
    }

    /// `printf %s DATA > NAME`
    async fn replace(&self, name: &str, data: &[u8]) -> Result<(), Errno> {
        let fh = match self.lookup(name).await {
            Ok(entry) => self.fs.open(entry.ino, REPLACE, 7).await?.fh,
            Err(Errno::ENOENT) => {
                self.fs
                    .create(ROOT, OsStr::new(name), 7, PLAINLY)
                    .await?
                    .1
                    .fh
            }
            Err(errno) => return Err(errno),
        };
        let written = self.write(fh, data).await;
        let closed = self.fs.flush(fh, 7).await;
        self.fs.release(fh).await;
        written.and(closed)
    }

    fn gets(&self) -> u32 {
        self.vault.gets.load(Ordering::Relaxed)
    }

    fn lists(&self) -> u32 {
        self.vault.lists.load(Ordering::Relaxed)
    }

    fn sets(&self) -> u32 {
        self.vault.sets.load(Ordering::Relaxed)
    }
}
