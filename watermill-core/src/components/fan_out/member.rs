//! [`FanOutMember`]: reads what is fanned out.

use std::{
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering as Atomic},
    },
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use parking_lot::Mutex;

use super::{Shared, pump::Pump};
use crate::{
    MemorySubscriber, Subscriber, Subscription, Window,
    error::{SubscribeError, SubscribeErrorKind},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::{Health, SubscriptionControl, SubscriptionStatus},
};

/// A member of a [`FanOut`](super::FanOut): a subscriber of its topic, and of no other.
///
/// An ack is recorded here at once, and upstream once every member has acked; [`Subscription::close`] of the last
/// member waits until it is.
#[derive(Clone)]
pub struct FanOutMember {
    shared: Arc<Shared>,
    name: Arc<str>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    closed: AtomicBool,
    /// One for each subscription that is open, and perhaps some that are not any more.
    open: Mutex<Vec<MemorySubscriber>>,
}

impl FanOutMember {
    pub(super) fn new(shared: Arc<Shared>, name: Arc<str>) -> Self {
        Self { shared, name, state: Arc::default() }
    }

    fn check(&self, topic: &str) -> Result<(), SubscribeError> {
        if self.state.closed.load(Atomic::Acquire) {
            return Err(SubscribeError::closed(topic));
        }
        if topic != self.shared.topic {
            let only = &self.shared.topic;
            let detail = format!("this fan-out has the topic {only:?} and no other; make one for each topic");
            return Err(SubscribeError::new(SubscribeErrorKind::Topic, topic).because(detail));
        }
        Ok(())
    }
}

#[async_trait]
impl Subscriber for FanOutMember {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.check(topic)?;
        let joined = self.shared.join().await?;
        let pump = joined.pump().clone();
        let subscriber = pump.broker().subscriber().group(&self.name);
        let subscription = subscriber.subscribe(topic).await?;
        {
            let mut open = self.state.open.lock();
            open.retain(|subscriber| !subscriber.status().is_empty());
            open.push(subscriber);
        }
        let control = Control {
            inner: subscription.control(),
            upstream: joined.upstream().clone(),
            pump: pump.clone(),
        };
        let topic = topic.to_owned();
        let (copies, _) = subscription.into_parts();
        let ended = pump.clone().ended_by_itself();
        // What comes behind is looked at when it has ended: an error if the source has, and otherwise nothing.
        let source_gone =
            stream::once(async move { pump.gone(&topic) }).filter_map(async |error| error.map(Err));
        let copies = copies.take_until(Box::pin(ended)).chain(source_gone).map(move |copy| {
            let _joined = &joined;
            copy
        });
        Ok(Subscription::new(copies, control))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.check(topic)?;
        self.shared.upstream.initialize(topic).await
    }

    fn in_group(&self, _group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let detail = "the group is that of the fan-out's subscriber; a member has a name of its own instead";
        Err(SubscribeError::new(SubscribeErrorKind::Unsupported, &self.shared.topic).because(detail))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.state.closed.store(true, Atomic::Release);
        let open = mem::take(&mut *self.state.open.lock());
        for subscriber in open {
            subscriber.close().await?;
        }
        Ok(())
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.state.open.lock().iter().flat_map(MemorySubscriber::status).collect()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        let upstream = self.shared.upstream.capabilities();
        SubscriberCapabilities::new(upstream.backend)
            .persistent(upstream.persistent)
            .delivery(upstream.delivery)
            .ordering(Ordering::Total)
            .attempts(true)
            .nack_delay(true)
            .dead_letters(upstream.dead_letters)
    }
}

impl Pump {
    /// Why there is nothing to read any more, if not because the member wanted so.
    fn gone(&self, topic: &str) -> Option<SubscribeError> {
        let detail = "the subscription that is fanned out has ended; subscribe again";
        self.has_ended_by_itself()
            .then(|| SubscribeError::new(SubscribeErrorKind::Unavailable, topic).because(detail))
    }
}

/// The controls of a member's queue, which know of the subscription that fills it.
struct Control {
    inner: Arc<dyn SubscriptionControl>,
    upstream: Arc<dyn SubscriptionControl>,
    pump: Arc<Pump>,
}

#[async_trait]
impl SubscriptionControl for Control {
    fn set_window(&self, window: Window) {
        self.inner.set_window(window);
    }

    fn stop_intake(&self) {
        self.inner.stop_intake();
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        let closed = self.inner.close().await;
        closed.and(self.pump.stopped().await)
    }

    fn status(&self) -> SubscriptionStatus {
        let (mut status, upstream) = (self.inner.status(), self.upstream.status());
        if let (Health::Healthy, Health::Degraded { .. }) = (&status.health, &upstream.health) {
            status.health = upstream.health;
        }
        status.active &= upstream.active;
        status.held_back_by = upstream.held_back_by;
        status
    }

    fn is_owner(&self) -> bool {
        self.upstream.is_owner()
    }
}

impl fmt::Debug for FanOutMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanOutMember")
            .field("topic", &self.shared.topic)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
