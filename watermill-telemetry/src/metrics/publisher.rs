//! [`MeteredPublisher`]: how long calls to publish take, and how large they are.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use metrics::{Histogram, SharedString};
use parking_lot::RwLock;
use tokio::time::Instant;
use watermill_core::{Message, Publisher, error::PublishError, publisher::PublisherCapabilities};

use super::{
    buckets::Durations,
    list::{PUBLISH_ERRORS, PUBLISH_MESSAGES, PUBLISH_SECONDS},
    shared::{NO_HANDLER, Shared},
    words::OTHER,
};

/// A publisher whose calls are measured: what [`Metrics::publisher`](super::Metrics::publisher) makes.
///
/// A call that is empty, or whose future is dropped, is not counted.
#[derive(Clone)]
pub struct MeteredPublisher<P> {
    inner: P,
    shared: Arc<Shared>,
    name: SharedString,
    /// Registered once, by the label of the topic and, in it, by handler.
    calls: Arc<RwLock<HashMap<SharedString, Vec<Arc<Calls>>>>>,
}

/// The figures of one handler's calls to one topic.
struct Calls {
    handler: Option<String>,
    succeeded: Durations,
    failed: Durations,
    messages: Histogram,
}

impl<P: Publisher> MeteredPublisher<P> {
    pub(super) fn new(inner: P, shared: Arc<Shared>) -> Self {
        let name = shared.name(inner.capabilities().backend);
        Self { inner, shared, name, calls: Arc::default() }
    }

    /// Sets the label `publisher_name`; by default it is the backend's short name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = self.shared.name(name);
        self.calls = Arc::default();
        self
    }

    /// The wrapped publisher.
    pub fn get_ref(&self) -> &P {
        &self.inner
    }

    fn calls(&self, topic: &str, handler: Option<&str>) -> Arc<Calls> {
        self.known(topic, handler).unwrap_or_else(|| self.register(topic, handler))
    }

    /// Those that were registered, also as what is beyond a bound: one shared lock.
    fn known(&self, topic: &str, handler: Option<&str>) -> Option<Arc<Calls>> {
        let known = self.calls.read();
        let beyond = || self.shared.is_topic_beyond(topic).then(|| known.get(OTHER)).flatten();
        let of_topic = known.get(topic).or_else(beyond)?;
        let of = |handler: Option<&str>| of_topic.iter().find(|calls| calls.handler.as_deref() == handler);
        let beyond = || of(Some(handler.filter(|name| self.shared.is_name_beyond(name)).map(|_| OTHER)?));
        of(handler).or_else(beyond).cloned()
    }

    /// Past the bound all topics share one entry, and so do all handlers: the map grows no further.
    #[cold]
    fn register(&self, topic: &str, handler: Option<&str>) -> Arc<Calls> {
        let topic = self.shared.topic(topic);
        let name = handler.map_or(NO_HANDLER.into(), |handler| self.shared.name(handler));
        let handler = handler.filter(|handler| **handler == *name).or(handler.map(|_| OTHER));
        let mut known = self.calls.write();
        let of_topic = known.entry(topic.clone()).or_default();
        if let Some(calls) = of_topic.iter().find(|calls| calls.handler.as_deref() == handler) {
            return Arc::clone(calls);
        }
        let seconds = |success| self.shared.durations(PUBLISH_SECONDS, &[&*name, &*self.name, success]);
        let calls = Arc::new(Calls {
            handler: handler.map(str::to_owned),
            succeeded: seconds("true"),
            failed: seconds("false"),
            messages: self.shared.histogram(PUBLISH_MESSAGES, &[&*self.name, &*topic]),
        });
        of_topic.push(Arc::clone(&calls));
        calls
    }

    #[cold]
    fn failed(&self, topic: &str, error: &PublishError) {
        let topic = self.shared.topic(topic);
        self.shared.counter(PUBLISH_ERRORS, &[&*self.name, &*topic, error.kind().as_str()]).increment(1);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<P: Publisher> Publisher for MeteredPublisher<P> {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let Some(first) = messages.first() else { return self.inner.publish(topic, messages).await };
        let calls = self.calls(topic, first.handler().map(|handler| &*handler.name));
        let (count, began) = (messages.len(), Instant::now());
        let published = self.inner.publish(topic, messages).await;
        let took = began.elapsed();
        calls.messages.record(count as f64);
        match &published {
            Ok(()) => calls.succeeded.record(took),
            Err(error) => {
                calls.failed.record(took);
                self.failed(topic, error);
            }
        }
        published
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

impl<P: Publisher> fmt::Debug for MeteredPublisher<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MeteredPublisher").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use watermill_core::MemoryBroker;

    use crate::Metrics;

    #[test]
    fn beyond_the_bounds_nothing_is_registered_any_more() {
        let metrics = Metrics::builder().topics_max(1).names_max(2).prometheus();
        let publisher = metrics.publisher(MemoryBroker::new().publisher());
        // The publisher's name is the first.
        for handler in [None, Some("bill"), Some("mail")] {
            publisher.register("orders", handler);
            publisher.register("orders.1", handler);
        }
        for (topic, handler) in
            [("orders.2", None), ("orders", Some("tenant 7")), ("orders.3", Some("tenant 8"))]
        {
            assert!(publisher.known(topic, handler).is_some(), "{topic} {handler:?}");
        }
    }
}
