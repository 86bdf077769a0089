//! The storage accounts' keys on their way to the files that show them. One request serves the
//! files of an account for a moment: listing keys is limited to few a second, and the stat and
//! the open of one program shall see the same.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::StorageAccount;
use crate::secrets::{Failure, SecretStore, StorageKeys, StoreError};

/// How long an answer serves.
const MOMENT: Duration = Duration::from_secs(1);

type Listed = Result<Arc<StorageKeys>, StoreError>;

/// An account, and the request for its keys that is under way or was just answered.
pub(super) struct Account {
    pub(super) account: StorageAccount,
    /// Guards the request. It is taken out when its moment is over, and the keys with it.
    request: Arc<Mutex<Option<watch::Receiver<Option<Listed>>>>>,
}

impl Account {
    pub(super) fn new(account: &StorageAccount) -> Self {
        Self {
            account: account.clone(),
            request: Arc::default(),
        }
    }

    /// The account's keys, listed before `deadline`.
    pub(super) async fn keys<S: SecretStore>(&self, store: &Arc<S>, deadline: Instant) -> Listed {
        let mut listed = self.join(store, deadline);
        let waited = timeout_at(deadline, listed.wait_for(Option::is_some)).await;
        let lost = |failure, what: &str| {
            let name = self.account.name();
            let context = format!("keys of storage account {name}: {what}");
            Err(StoreError::new(failure, context))
        };
        match waited {
            Err(_) => lost(Failure::TimedOut, "no answer in time"),
            // A sender that is gone without an outcome was a task that panicked.
            Ok(Err(_)) => lost(Failure::ServerError, "the request was dropped"),
            Ok(Ok(listed)) => match &*listed {
                Some(listed) => listed.clone(),
                None => lost(Failure::ServerError, "the request was dropped"),
            },
        }
    }

    fn join<S: SecretStore>(
        &self,
        store: &Arc<S>,
        deadline: Instant,
    ) -> watch::Receiver<Option<Listed>> {
        let mut request = self.request.lock();
        if let Some(listed) = &*request {
            return listed.clone();
        }
        let (tell, listed) = watch::channel(None);
        *request = Some(listed.clone());
        let (store, account) = (Arc::clone(store), self.account.clone());
        let this = Arc::clone(&self.request);
        tokio::spawn(async move {
            let keys = store.storage_keys(&account, deadline.into_std()).await;
            tell.send_replace(Some(keys.map(Arc::new)));
            sleep(MOMENT).await;
            *this.lock() = None;
        });
        listed
    }
}
