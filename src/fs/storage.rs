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
type Request = watch::Receiver<Option<Listed>>;

/// An account, and the request for its keys that is under way or was just answered.
pub(super) struct Account {
    pub(super) account: StorageAccount,
    /// Guards the request. It is taken out when its moment is over, and the keys with it.
    request: Arc<Mutex<Option<Request>>>,
}

impl Account {
    pub(super) fn new(account: &StorageAccount) -> Self {
        Self {
            account: account.clone(),
            request: Arc::default(),
        }
    }

    /// The account's keys, listed before `deadline`. If that joins a request that runs into an
    /// earlier one, it is made anew.
    pub(super) async fn keys<S: SecretStore>(&self, store: &Arc<S>, deadline: Instant) -> Listed {
        loop {
            let request = self.join(store, deadline);
            match self.wait(request.clone(), deadline).await {
                Err(error) if error.failure == Failure::TimedOut && Instant::now() < deadline => {
                    clear(&self.request, &request);
                }
                listed => return listed,
            }
        }
    }

    async fn wait(&self, mut request: Request, deadline: Instant) -> Listed {
        let waited = timeout_at(deadline, request.wait_for(Option::is_some)).await;
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

    fn join<S: SecretStore>(&self, store: &Arc<S>, deadline: Instant) -> Request {
        let mut request = self.request.lock();
        if let Some(listed) = &*request {
            return listed.clone();
        }
        let (tell, listed) = watch::channel(None);
        *request = Some(listed.clone());
        let this_request = listed.clone();
        let (store, account) = (Arc::clone(store), self.account.clone());
        let this = Arc::clone(&self.request);
        tokio::spawn(async move {
            let keys = store.storage_keys(&account, deadline.into_std()).await;
            tell.send_replace(Some(keys.map(Arc::new)));
            sleep(MOMENT).await;
            clear(&this, &this_request);
        });
        listed
    }
}

/// Takes out a request, unless another is in its place.
fn clear(requests: &Mutex<Option<Request>>, this: &Request) {
    requests
        .lock()
        .take_if(|request| request.same_channel(this));
}
