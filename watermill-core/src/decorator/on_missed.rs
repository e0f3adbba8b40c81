//! [`OnMissed`]: tells when messages may have been missed.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::StreamExt;

use super::DecoratedShards;
use crate::{
    Subscriber, Subscription,
    error::{SubscribeError, SubscribeErrorKind},
    subscriber::{Sharding, Shards, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

/// A subscriber that calls a function when messages may have been [missed](SubscribeErrorKind::Missed): for a router's handler,
/// which sees messages and not what happens to their stream.
///
/// ```
/// use std::{collections::HashMap, sync::{Arc, Mutex}};
/// use watermill_core::{Handler, Message, Router, State, Subscriber, decorator::OnMissed};
///
/// type Cache = Arc<Mutex<HashMap<String, String>>>;
///
/// async fn invalidate(State(cache): State<Cache>, key: Message) {
///     cache.lock().unwrap().remove(&*String::from_utf8_lossy(key.payload()));
/// }
///
/// fn keep_fresh(cache: Cache, changes: impl Subscriber + 'static) -> Router<Cache> {
///     let stale = cache.clone();
///     let changes = OnMissed::new(changes, move |_topic| stale.lock().unwrap().clear());
///     Router::new().with_state(cache).add(Handler::new("invalidate", invalidate).from(changes, "changes"))
/// }
/// ```
///
/// The function is called with the topic, before anything is delivered that came after the gap. It is to return at once. Subscribers
/// that deliver at least once never call it, but for broadcasts, which begin anew after they were away for long.
#[derive(Clone)]
pub struct OnMissed<S, F> {
    inner: S,
    call: Arc<F>,
}

impl<S, F> OnMissed<S, F> {
    /// Wraps a subscriber.
    pub fn new(inner: S, call: F) -> Self
    where
        F: Fn(&str),
    {
        Self { inner, call: Arc::new(call) }
    }

    /// The wrapped subscriber.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S, F> Subscriber for OnMissed<S, F>
where
    S: Subscriber,
    F: Fn(&str) + Send + Sync + 'static,
{
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        let call = self.call.clone();
        let subscription = self.inner.subscribe(topic).await?;
        Ok(subscription.map_stream(|deliveries| {
            deliveries.inspect(move |delivery| match delivery {
                Err(error) if error.kind() == SubscribeErrorKind::Missed => call(error.topic()),
                _ => {}
            })
        }))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.inner.initialize(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Ok(Arc::new(OnMissed { inner: self.inner.in_group(group)?, call: self.call.clone() }))
    }

    fn with_dead_letters(&self, topic: &str) -> Option<Arc<dyn Subscriber>> {
        let inner = self.inner.with_dead_letters(topic)?;
        Some(Arc::new(OnMissed { inner, call: self.call.clone() }))
    }

    fn shards(&self, topic: &str, sharding: Sharding) -> Option<Arc<dyn Shards>> {
        let inner = self.inner.shards(topic, sharding)?;
        let call = self.call.clone();
        let decorate = move |inner| Arc::new(OnMissed { inner, call: call.clone() }) as Arc<dyn Subscriber>;
        Some(Arc::new(DecoratedShards::new(inner, decorate)))
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

impl<S: fmt::Debug, F> fmt::Debug for OnMissed<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnMissed").field("inner", &self.inner).finish_non_exhaustive()
    }
}
