//! [`MeteredSubscriber`]: what became of deliveries that no router handles.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::StreamExt;
use metrics::{Counter, SharedString};
use watermill_core::{
    Subscriber, Subscription,
    decorator::DecoratedShards,
    delivery::Outcome,
    error::SubscribeError,
    subscriber::{Sharding, Shards, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

use super::{
    list::RECEIVED,
    shared::{NO_HANDLER, Shared},
};

/// A subscriber whose deliveries are counted as they are settled: what [`Metrics::subscriber`](super::Metrics::subscriber) makes.
///
/// It is for subscriptions that are read without a router. A router counts those of its handlers itself, and both together would
/// count them twice.
#[derive(Clone)]
pub struct MeteredSubscriber<S> {
    inner: S,
    name: SharedString,
    settled: Arc<Settled>,
    shared: Arc<Shared>,
}

struct Settled {
    acked: Counter,
    nacked: Counter,
}

impl<S: Subscriber> MeteredSubscriber<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        let name = inner.capabilities().backend;
        Self::with_name(inner, shared, name)
    }

    fn with_name(inner: S, shared: Arc<Shared>, name: &str) -> Self {
        let name = shared.name(name);
        let counter = |acked| shared.counter(RECEIVED, &[NO_HANDLER, &name, acked]);
        let settled = Arc::new(Settled { acked: counter("acked"), nacked: counter("nacked") });
        Self { inner, name, settled, shared }
    }

    /// Sets the label `subscriber_name`; by default it is the backend's short name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self::with_name(self.inner, self.shared, name)
    }

    /// The wrapped subscriber.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S> MeteredSubscriber<S> {
    /// Another one whose deliveries are counted with this one's.
    fn like<T>(&self, inner: T) -> MeteredSubscriber<T> {
        MeteredSubscriber {
            inner,
            name: self.name.clone(),
            settled: Arc::clone(&self.settled),
            shared: Arc::clone(&self.shared),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Subscriber> Subscriber for MeteredSubscriber<S> {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        let settled = Arc::clone(&self.settled);
        let subscription = self.inner.subscribe(topic).await?;
        Ok(subscription.map_stream(|deliveries| {
            deliveries.inspect(move |delivery| {
                let Ok(delivery) = delivery else { return };
                let settled = Arc::clone(&settled);
                delivery.info().on_settled(move |outcome| match outcome {
                    Outcome::Ack => settled.acked.increment(1),
                    _ => settled.nacked.increment(1),
                });
            })
        }))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.inner.initialize(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Ok(Arc::new(self.like(self.inner.in_group(group)?)))
    }

    fn with_dead_letters(&self, topic: &str) -> Option<Arc<dyn Subscriber>> {
        Some(Arc::new(self.like(self.inner.with_dead_letters(topic)?)))
    }

    fn shards(&self, topic: &str, sharding: Sharding) -> Option<Arc<dyn Shards>> {
        let like = self.like(());
        let inner = self.inner.shards(topic, sharding)?;
        Some(Arc::new(DecoratedShards::new(inner, move |shard| Arc::new(like.like(shard)))))
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

impl<S> fmt::Debug for MeteredSubscriber<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MeteredSubscriber").field(&self.name).finish()
    }
}
