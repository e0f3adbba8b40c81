//! [`Pump`]: takes deliveries from the one subscription to the members' queues, and their acks back.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::{sync::watch, task::unconstrained};
use tokio_util::sync::CancellationToken;

use crate::{
    Delivery, DeliveryInfo, MemoryBroker, Publisher, Settlement, Subscriber, Subscription, Window,
    error::{PublishError, SubscribeError, chain},
    memory::{MemoryConfig, MemoryPublisher, OnReject},
    subscription::SubscriptionControl,
};

/// An extension of what a [`FanOut`](super::FanOut) hands out: how the original was delivered, with its partition and its
/// offset, where the copy's own [`DeliveryInfo`] speaks of the copy.
#[derive(Clone, Debug)]
pub struct Upstream(pub DeliveryInfo);

/// A wait that only an ack ends, or the end of the subscription.
const UNTIL_ACKED: Duration = Duration::MAX;

/// The members' queues, and how the subscription that fills them is doing. Each has a group of its own.
pub(super) struct Pump {
    topic: Arc<str>,
    ahead: NonZeroUsize,
    broker: MemoryBroker,
    /// Ends it.
    stop: CancellationToken,
    /// Set when the subscription has ended, by itself or because it was stopped.
    ended: watch::Sender<Option<Ended>>,
}

/// How it ended.
#[derive(Clone)]
pub(super) enum Ended {
    ByItself,
    Stopped(Arc<Mutex<Result<(), SubscribeError>>>),
}

/// The right to read what is pumped. Dropped by the last, it stops.
pub(super) struct Joined {
    pump: Arc<Pump>,
    upstream: Arc<dyn SubscriptionControl>,
}

impl Pump {
    pub(super) fn new(topic: &str, ahead: NonZeroUsize) -> Self {
        let config = MemoryConfig::default()
            .capacity(ahead.get())
            .publish_waits_for_ack(Some(UNTIL_ACKED))
            .preserve_extensions(true);
        Self {
            topic: topic.into(),
            ahead,
            broker: MemoryBroker::with_config(config).expect("a number that is not zero is a capacity"),
            stop: CancellationToken::new(),
            ended: watch::channel(None).0,
        }
    }

    /// Makes the members' queues, as far as there are none.
    pub(super) async fn open_groups(
        &self,
        members: impl Iterator<Item = Arc<str>>,
    ) -> Result<(), SubscribeError> {
        for member in members {
            self.broker.subscriber().group(&member).initialize(&self.topic).await?;
        }
        Ok(())
    }

    /// Subscribes, and begins to take deliveries.
    pub(super) async fn start(self, upstream: &dyn Subscriber) -> Result<Joined, SubscribeError> {
        let subscription = upstream.subscribe(&self.topic).await?;
        subscription.set_window(Window::ordered(self.ahead).with_total(self.ahead));
        let control = subscription.control();
        let pump = Arc::new(self);
        tokio::spawn(pump.clone().run(subscription));
        Ok(Joined { pump, upstream: control })
    }

    pub(super) fn broker(&self) -> &MemoryBroker {
        &self.broker
    }

    pub(super) fn has_ended_by_itself(&self) -> bool {
        matches!(*self.ended.borrow(), Some(Ended::ByItself))
    }

    /// Waits until the subscription has ended by itself.
    pub(super) async fn ended_by_itself(self: Arc<Self>) {
        let mut ended = self.ended.subscribe();
        let by_itself = |ended: &Option<Ended>| matches!(ended, Some(Ended::ByItself));
        let _ = ended.wait_for(by_itself).await;
    }

    /// If it was asked to stop, waits until every settlement has been recorded. One of those who wait hears of an error.
    pub(super) async fn stopped(&self) -> Result<(), SubscribeError> {
        if !self.stop.is_cancelled() {
            return Ok(());
        }
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ended::Stopped(result))) => std::mem::replace(&mut *result.lock(), Ok(())),
            // The runtime is shutting down, or there was nothing left to stop.
            _ => Ok(()),
        }
    }

    async fn run(self: Arc<Self>, mut upstream: Subscription) {
        let publisher = self.broker.publisher();
        let mut with_members = FuturesUnordered::new();
        let stopped = loop {
            tokio::select! {
                biased;
                Some(done) = with_members.next(), if !with_members.is_empty() => settle(done),
                () = self.stop.cancelled() => break true,
                next = upstream.next() => match next {
                    Some(Ok(delivery)) => with_members.push(Self::hand_on(&publisher, &self.topic, delivery)),
                    Some(Err(error)) => {
                        let error = chain(&error);
                        tracing::warn!(topic = &*self.topic, error, "the subscription that is fanned out has trouble");
                    }
                    None => break false,
                },
            }
        };
        // All that is done by now, though it may be more than a task may poll at a time.
        while let Some(Some(done)) = unconstrained(with_members.next()).now_or_never() {
            settle(done);
        }
        // The members are not done with these: they go back.
        drop(with_members);
        if stopped {
            let result = Arc::new(Mutex::new(upstream.close().await));
            self.ended.send_replace(Some(Ended::Stopped(result)));
        } else {
            tracing::warn!(topic = &*self.topic, "the subscription that is fanned out has ended");
            self.ended.send_replace(Some(Ended::ByItself));
        }
    }

    /// Puts a copy into every member's queue, at once and so in order; the future ends when all are done with it.
    fn hand_on<'p>(
        publisher: &'p MemoryPublisher,
        topic: &'p str,
        delivery: Delivery,
    ) -> BoxFuture<'p, Done> {
        let (message, settlement) = delivery.split();
        let rejected = Arc::new(Mutex::new(None));
        let note = rejected.clone();
        let on_reject = OnReject(Arc::new(move |reason| *note.lock() = Some(reason.to_owned())));
        let message = match message.delivery().cloned() {
            Some(info) => message.with_extension(Upstream(info)),
            None => message,
        };
        let call = publisher.publish(topic, vec![message.with_extension(on_reject)]);
        async move {
            let result = call.await;
            Done { settlement, result, rejected: rejected.lock().take() }
        }
        .boxed()
    }
}

/// A message that all members are done with.
struct Done {
    settlement: Settlement,
    result: Result<(), PublishError>,
    rejected: Option<String>,
}

fn settle(Done { settlement, result, rejected }: Done) {
    match (result, rejected) {
        (Ok(()), None) => settlement.ack(),
        (Ok(()), Some(reason)) => settlement.reject(reason),
        (Err(error), _) => {
            tracing::error!(
                error = chain(&error),
                "a message could not be fanned out; it will be delivered again"
            );
            settlement.nack();
        }
    }
}

impl Joined {
    pub(super) fn pump(&self) -> &Arc<Pump> {
        &self.pump
    }

    pub(super) fn upstream(&self) -> &Arc<dyn SubscriptionControl> {
        &self.upstream
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.pump.stop.cancel();
    }
}
