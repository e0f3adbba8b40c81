//! Decorators: publishers and subscribers that change every message that passes.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;

use crate::{
    Message, Publisher, Subscriber, Subscription,
    error::{PublishError, SubscribeError},
    publisher::PublisherCapabilities,
    subscriber::SubscriberCapabilities,
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
