//! Decorators: publishers and subscribers that change every message that passes.

mod on_missed;

pub use on_missed::OnMissed;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::StreamExt;

use crate::{
    Message, Publisher, Subscriber, Subscription,
    error::{PublishError, SubscribeError},
    publisher::PublisherCapabilities,
    subscriber::{Sharding, Shards, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

/// A publisher that changes every message before it is published.
#[derive(Clone, Debug)]
pub struct TransformPublisher<P, F> {
    inner: P,
    transform: F,
}

impl<P, F> TransformPublisher<P, F> {
    /// Wraps a publisher.
    pub fn new(inner: P, transform: F) -> Self
    where
        F: Fn(&mut Message),
    {
        Self { inner, transform }
    }

    /// The wrapped publisher.
    pub fn get_ref(&self) -> &P {
        &self.inner
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<P: Publisher, F: Fn(&mut Message) + Send + Sync> Publisher for TransformPublisher<P, F> {
    async fn publish(&self, topic: &str, mut messages: Vec<Message>) -> Result<(), PublishError> {
        messages.iter_mut().for_each(&self.transform);
        self.inner.publish(topic, messages).await
    }

    fn take_back(&self) {
        self.inner.take_back();
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.inner.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        self.inner.capabilities()
    }
}

/// A subscriber that changes every message it delivers.
#[derive(Clone, Debug)]
pub struct TransformSubscriber<S, F> {
    inner: S,
    transform: F,
}

impl<S, F> TransformSubscriber<S, F> {
    /// Wraps a subscriber.
    pub fn new(inner: S, transform: F) -> Self
    where
        F: Fn(&mut Message),
    {
        Self { inner, transform }
    }

    /// The wrapped subscriber.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S, F> Subscriber for TransformSubscriber<S, F>
where
    S: Subscriber,
    F: Fn(&mut Message) + Clone + Send + Sync + 'static,
{
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        let transform = self.transform.clone();
        let subscription = self.inner.subscribe(topic).await?;
        Ok(subscription.map_stream(|deliveries| {
            deliveries.map(move |delivery| {
                delivery.map(|delivery| {
                    delivery.map(|mut message| {
                        transform(&mut message);
                        message
                    })
                })
            })
        }))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.inner.initialize(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Ok(Arc::new(TransformSubscriber::new(self.inner.in_group(group)?, self.transform.clone())))
    }

    fn with_dead_letters(&self, topic: &str) -> Option<Arc<dyn Subscriber>> {
        let inner = self.inner.with_dead_letters(topic)?;
        Some(Arc::new(TransformSubscriber::new(inner, self.transform.clone())))
    }

    /// The key is that of the message as it is delivered.
    fn shards(&self, topic: &str, Sharding { count, key_of }: Sharding) -> Option<Arc<dyn Shards>> {
        let transform = self.transform.clone();
        let sharding = Sharding::new(count).key_of(move |message| {
            let mut message = message.clone();
            transform(&mut message);
            key_of(&message)
        });
        let inner = self.inner.shards(topic, sharding)?;
        let transform = self.transform.clone();
        Some(Arc::new(DecoratedShards::new(inner, move |shard| {
            Arc::new(TransformSubscriber::new(shard, transform.clone()))
        })))
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

/// The shards of a topic, with a decorator around the subscriber of each.
pub struct DecoratedShards<F> {
    inner: Arc<dyn Shards>,
    decorate: F,
}

impl<F> DecoratedShards<F> {
    /// Wraps shards.
    pub fn new(inner: Arc<dyn Shards>, decorate: F) -> Self
    where
        F: Fn(Arc<dyn Subscriber>) -> Arc<dyn Subscriber>,
    {
        Self { inner, decorate }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<F> Shards for DecoratedShards<F>
where
    F: Fn(Arc<dyn Subscriber>) -> Arc<dyn Subscriber> + Send + Sync,
{
    async fn count(&self) -> Result<u32, SubscribeError> {
        self.inner.count().await
    }

    fn shard(&self, number: u32) -> Arc<dyn Subscriber> {
        (self.decorate)(self.inner.shard(number))
    }
}

impl<F> fmt::Debug for DecoratedShards<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecoratedShards").finish_non_exhaustive()
    }
}
