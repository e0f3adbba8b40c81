#![doc = include_str!("../README.md")]

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{Error, ObjectStore, ObjectStoreExt as _, path::Path};
use tokio::time::timeout;
use watermill_core::components::claim_check::{Claim, ClaimError, ClaimErrorKind, ClaimStore};

/// Keeps payloads as objects of a bucket, below a prefix. Clones are the same store.
#[derive(Clone)]
pub struct ObjectClaimStore {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    within: Duration,
}

/// How long a call may take, unless told otherwise.
const WITHIN: Duration = Duration::from_secs(30);

impl ObjectClaimStore {
    /// A store of objects whose names begin with `prefix` and a slash; with an empty one, of the whole bucket. Nothing
    /// else should be there.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: impl AsRef<str>) -> Self {
        Self { store, prefix: Path::from(prefix.as_ref()), within: WITHIN }
    }

    /// How long the store may take for one request with all that its client tries again: 30 s by default.
    #[must_use]
    pub fn call_within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    fn path(&self, claim: &Claim) -> Path {
        self.prefix.clone().join(claim.as_str())
    }

    async fn call<T>(
        &self,
        claim: &Claim,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, ClaimError> {
        match timeout(self.within, call).await {
            Ok(answer) => answer.map_err(|error| failure(claim, error)),
            Err(late) => Err(ClaimError::new(ClaimErrorKind::Unavailable, claim).with_source(late)),
        }
    }
}

#[async_trait]
impl ClaimStore for ObjectClaimStore {
    async fn put(&self, claim: &Claim, payload: Bytes) -> Result<(), ClaimError> {
        let path = self.path(claim);
        self.call(claim, self.store.put(&path, payload.into())).await.map(drop)
    }

    async fn get(&self, claim: &Claim) -> Result<Bytes, ClaimError> {
        let path = self.path(claim);
        self.call(claim, async { self.store.get(&path).await?.bytes().await }).await
    }

    async fn remove_expired(&self, now: SystemTime) -> Result<u64, ClaimError> {
        // Errors name a claim; this one is nobody's.
        let nobodys = Claim::until(now);
        let listed = self.store.list(Some(&self.prefix));
        let expired = listed.try_filter_map(move |object| async move {
            let claim = object.location.filename().and_then(Claim::parse);
            Ok(claim.filter(|claim| claim.expires() <= now).map(|_| object.location))
        });
        let mut removing = self.store.delete_stream(expired.boxed());
        let mut removed = 0;
        while let Some(gone) = self.call(&nobodys, async { removing.next().await.transpose() }).await? {
            let _: Path = gone;
            removed += 1;
        }
        Ok(removed)
    }
}

fn failure(claim: &Claim, error: Error) -> ClaimError {
    let kind = match error {
        Error::NotFound { .. } => ClaimErrorKind::Lost,
        Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. } => ClaimErrorKind::Refused,
        _ => ClaimErrorKind::Unavailable,
    };
    ClaimError::new(kind, claim).with_source(error)
}

impl fmt::Debug for ObjectClaimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectClaimStore")
            .field("store", &format_args!("{}", self.store))
            .field("prefix", &self.prefix.as_ref())
            .finish_non_exhaustive()
    }
}
