//! [`SpoolSubscriber`].

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;
use watermill_core::{
    Subscriber, Subscription,
    backend::{self, ById, Nacks, Registry, Shared, SharedOptions, TransportOptions},
    error::{SubscribeError, SubscribeErrorKind},
    subscriber::SubscriberCapabilities,
    subscription::SubscriptionStatus,
};

use super::{
    BACKEND,
    directory::{Claim, Directory},
    error::classify,
    settle::SpoolTransport,
};

/// How many messages are claimed beyond what is handled, so that handlers do not wait for the disk.
const AHEAD: usize = 8;
/// How many outcomes are recorded together, or how long the first of them waits.
const RECORD_BATCH: usize = 100;
const RECORD_INTERVAL: Duration = Duration::from_millis(20);

/// Hands out what is in directories, each message to one of all subscriptions.
#[derive(Debug)]
pub(crate) struct SpoolSubscriber {
    root: PathBuf,
    lease: Duration,
    open: Registry<Shared<ById<Claim>>>,
}

impl SpoolSubscriber {
    /// A subscriber below a directory. A subscription that dies loses what it has after `lease`.
    pub(crate) fn new(root: impl Into<PathBuf>, lease: Duration) -> Self {
        Self { root: root.into(), lease, open: Registry::default() }
    }
}

#[async_trait]
impl Subscriber for SpoolSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.open.check(topic)?;
        let directory =
            Directory::open(&self.root, topic).map_err(|error| classify(error).subscribing(topic))?;

        let ledger = ById::new(Nacks::ToServer).ahead(AHEAD);
        let options = SharedOptions::default().record_batch(RECORD_BATCH).record_interval(RECORD_INTERVAL);
        let shared = Arc::new(Shared::new(topic, None, ledger, options));
        let transport =
            SpoolTransport { directory, owner: Uuid::now_v7().simple().to_string(), lease: self.lease };
        let options = TransportOptions::default().lease(Some(self.lease));
        self.open.start(BACKEND, shared, |shared, origin| backend::run(shared, origin, transport, options))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.open.check(topic)?;
        Directory::open(&self.root, topic).map(drop).map_err(|error| classify(error).subscribing(topic))
    }

    fn in_group(&self, _group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Err(SubscribeError::new(SubscribeErrorKind::Unsupported, "")
            .because("a directory has no consumer groups"))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.open.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.open.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new(BACKEND).persistent(true).attempts(true).nack_delay(true)
    }
}
