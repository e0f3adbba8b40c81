//! [`ClaimCheckSubscriber`]: fetches large payloads from a store.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::{Instant, timeout};

use super::{Claim, ClaimErrorKind, ClaimStore};
use crate::{
    Backoff, Delivery, Subscriber, Subscription,
    decorator::DecoratedShards,
    error::{BoxError, Permanent, SubscribeError, SubscribeErrorKind, chain},
    metadata_keys,
    subscriber::{Sharding, Shards, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

/// Hands out messages with the payloads that a [`ClaimCheckPublisher`](super::ClaimCheckPublisher) has put into the store.
/// Messages without a claim pass as they are.
///
/// A payload is fetched when its message is delivered, side by side with those behind it and in their order. While the
/// store is away, fetching is tried again for as long as is [allowed](Self::fetch_within), and then the message is nacked
/// and comes again, with an error on the stream. A payload that has expired or is cut off can never be had: its message is
/// rejected, to the backend's own dead letters where it has such, and the error on the stream says so. Its metadata still
/// have the claim then. One that is missing before it expires may only be late, in a copy of a store that follows another for
/// instance: it is looked for [a while](Self::late_within) before its message is rejected.
#[derive(Debug)]
pub struct ClaimCheckSubscriber<S, C> {
    inner: S,
    store: Arc<C>,
    patience: Patience,
}

/// How long a payload is waited for.
#[derive(Clone, Copy, Debug)]
struct Patience {
    fetch_within: Duration,
    late_within: Duration,
}

/// How many payloads are being fetched at once, of one subscription.
const FETCHING: usize = 8;

/// How long fetching may take, unless told otherwise.
const FETCH_WITHIN: Duration = Duration::from_secs(30);

/// How long a payload that is not there is looked for, unless told otherwise.
const LATE_WITHIN: Duration = Duration::from_secs(5);

/// How long a message stays away whose payload could not be fetched.
const AWAY: Duration = Duration::from_secs(1);

impl<S: Subscriber, C: ClaimStore + 'static> ClaimCheckSubscriber<S, C> {
    /// Fetches payloads from `store`.
    pub fn new(inner: S, store: C) -> Self {
        let patience = Patience { fetch_within: FETCH_WITHIN, late_within: LATE_WITHIN };
        Self { inner, store: Arc::new(store), patience }
    }

    /// How long fetching one payload may take, all tries together: 30 s by default.
    #[must_use]
    pub fn fetch_within(mut self, time: Duration) -> Self {
        self.patience.fetch_within = time;
        self
    }

    /// How long a payload is looked for that the store does not have though it has not expired: 5 s by default, and half of
    /// [`fetch_within`](Self::fetch_within) at the most. Then its message is rejected. What comes behind waits meanwhile.
    #[must_use]
    pub fn late_within(mut self, time: Duration) -> Self {
        self.patience.late_within = time;
        self
    }

    fn around(&self, inner: Arc<dyn Subscriber>) -> Arc<dyn Subscriber> {
        around(inner, self.store.clone(), self.patience)
    }
}

fn around<C: ClaimStore + 'static>(
    inner: Arc<dyn Subscriber>,
    store: Arc<C>,
    patience: Patience,
) -> Arc<dyn Subscriber> {
    Arc::new(ClaimCheckSubscriber { inner, store, patience })
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Subscriber, C: ClaimStore + 'static> Subscriber for ClaimCheckSubscriber<S, C> {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        let (store, patience) = (self.store.clone(), self.patience);
        let subscription = self.inner.subscribe(topic).await?;
        Ok(subscription.map_stream(|deliveries| {
            deliveries
                .map(move |delivery| {
                    let store = store.clone();
                    async move { check_out(delivery?, &*store, patience).await }
                })
                .buffered(FETCHING)
        }))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.inner.initialize(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Ok(self.around(self.inner.in_group(group)?))
    }

    fn with_dead_letters(&self, topic: &str) -> Option<Arc<dyn Subscriber>> {
        Some(self.around(self.inner.with_dead_letters(topic)?))
    }

    /// The key is looked for in the message as it is stored, without its payload.
    fn shards(&self, topic: &str, sharding: Sharding) -> Option<Arc<dyn Shards>> {
        let inner = self.inner.shards(topic, sharding)?;
        let (store, patience) = (self.store.clone(), self.patience);
        Some(Arc::new(DecoratedShards::new(inner, move |shard| around(shard, store.clone(), patience))))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.inner.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.inner.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        self.inner.capabilities()
    }
}

/// The delivery with its payload. One whose payload cannot be had is settled, and the error says how.
async fn check_out(
    delivery: Delivery,
    store: &impl ClaimStore,
    patience: Patience,
) -> Result<Delivery, SubscribeError> {
    let metadata = delivery.metadata();
    let Some(text) = metadata.get(metadata_keys::CLAIM) else { return Ok(delivery) };
    let size = metadata.get(metadata_keys::CLAIM_BYTES).and_then(|size| size.parse::<usize>().ok());
    let fetched = match Claim::parse(text) {
        Some(claim) => {
            let lost = delivery.cancellation();
            let fetching = timeout(patience.fetch_within, fetch(store, &claim, patience));
            match lost.run_until_cancelled(fetching).await {
                Some(Ok(fetched)) => fetched,
                Some(Err(_)) | None => Err("the store did not answer in time".into()),
            }
        }
        None => Err(Permanent::new(format!("{} is no claim", metadata_keys::CLAIM)).into()),
    };
    let checked = fetched.and_then(|payload| match size {
        Some(size) if size != payload.len() => {
            let problem =
                format!("the stored payload has {} bytes, and the message had {size}", payload.len());
            Err(Permanent::new(problem).into())
        }
        _ => Ok(payload),
    });
    match checked {
        Ok(payload) => Ok(delivery.map(|mut message| {
            message.set_payload(payload);
            message.metadata_mut().remove(metadata_keys::CLAIM);
            message.metadata_mut().remove(metadata_keys::CLAIM_BYTES);
            message
        })),
        Err(error) => Err(refuse(delivery, error)),
    }
}

/// Tries until the store answers. The caller bounds it.
async fn fetch(store: &impl ClaimStore, claim: &Claim, patience: Patience) -> Result<Bytes, BoxError> {
    let (backoff, begun) = (Backoff::default(), Instant::now());
    let late_within = patience.late_within.min(patience.fetch_within / 2);
    let mut tries = 0;
    loop {
        match store.get(claim).await {
            Ok(payload) => return Ok(payload),
            Err(error)
                if error.kind() == ClaimErrorKind::Lost
                    && (begun.elapsed() >= late_within || claim.expires() <= SystemTime::now()) =>
            {
                return Err(Permanent::new(error).into());
            }
            Err(error) => {
                let wait = backoff.delay(tries);
                tracing::warn!(
                    claim = claim.as_str(),
                    ?wait,
                    error = chain(&error),
                    "a payload is not fetched yet"
                );
                tries += 1;
                tokio::time::sleep(wait).await;
            }
        }
    }
}

fn refuse(delivery: Delivery, error: BoxError) -> SubscribeError {
    let (topic, id) = (delivery.info().topic().to_owned(), delivery.id().as_str().to_owned());
    let is_final = Permanent::is(&*error);
    let (kind, what) = match is_final {
        true => (SubscribeErrorKind::Undecodable, "is rejected"),
        false => (SubscribeErrorKind::Unavailable, "will be delivered again"),
    };
    let reason = chain(&*error);
    if is_final {
        tracing::error!(
            topic,
            message_id = id,
            error = reason,
            "the payload of a message is lost; it is rejected"
        );
        delivery.reject(format!("its payload is lost: {reason}"));
    } else {
        delivery.nack_after(AWAY);
    }
    SubscribeError::new(kind, topic)
        .because(format!("message {id:?} has no payload and {what}"))
        .with_source(error)
}
