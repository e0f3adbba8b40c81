//! [`HoldUntilDue`]: a subscriber that keeps messages to itself until they are due.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures::{Stream, stream::BoxStream};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Delivery, Subscriber, Subscription,
    decorator::DecoratedShards,
    error::SubscribeError,
    subscriber::{Sharding, Shards, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

/// A subscriber that hands a message out when it is [due](crate::Message::delayed_until), on any backend.
///
/// A message that waits is outstanding: it counts against the [window](crate::Window), and what comes behind it in
/// its partition waits with it. So this fits topics whose messages all wait equally long. Where the backend has
/// delivered a message when it was due, nothing is left to wait for, and it passes at once.
///
/// The time is compared with this machine's clock, to the millisecond. No message waits longer than the longest
/// delay given here: one that claims to be due later, because a clock is wrong for instance, is handed out then, and
/// the log says so. One whose time cannot be read does not wait.
///
/// When the subscription stops, what still waits is nacked, and comes again at once to whoever reads next.
///
/// Holding is not free where the backend watches deliveries. RabbitMQ counts such a nack as a delivery, and a quorum queue drops or
/// dead-letters what it has delivered more often than its limit says, 20 times unless told otherwise: raise `delivery-limit` above
/// the number of times that a service may stop while one message waits. RabbitMQ also closes the channel of a consumer that keeps a delivery for longer than
/// `consumer_timeout`, 30 minutes, so that the longest delay has to be shorter; and so has it where a visibility timeout is not
/// extended.
///
/// ```
/// use std::time::Duration;
/// use watermill_core::{MemoryBroker, delay::HoldUntilDue};
///
/// let broker = MemoryBroker::new();
/// let reminders = HoldUntilDue::new(broker.subscriber().group("reminders"), Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct HoldUntilDue<S> {
    inner: S,
    rules: Rules,
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    longest: Duration,
    otherwise_after: Option<Duration>,
}

impl<S> HoldUntilDue<S> {
    /// Holds each message until the time in its metadata, for `longest` at the most.
    pub fn new(inner: S, longest: Duration) -> Self {
        Self { inner, rules: Rules { longest, otherwise_after: None } }
    }

    /// A message that says nothing is due so long after it was published, or after it was delivered where the
    /// backend does not know when that was. By default it is due at once.
    ///
    /// A time that had passed when the message was published says nothing: it was left there by an earlier wait, as in
    /// a dead letter of a message that had been delayed.
    #[must_use]
    pub fn otherwise_after(mut self, delay: Duration) -> Self {
        self.rules.otherwise_after = Some(delay);
        self
    }

    /// The wrapped subscriber.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Subscriber> Subscriber for HoldUntilDue<S> {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        let rules = self.rules;
        let subscription = self.inner.subscribe(topic).await?;
        Ok(subscription.map_stream(|inner| Holding {
            inner,
            rules,
            held: BTreeMap::new(),
            next: 0,
            timer: None,
        }))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.inner.initialize(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Ok(self.rules.around(self.inner.in_group(group)?))
    }

    fn with_dead_letters(&self, topic: &str) -> Option<Arc<dyn Subscriber>> {
        Some(self.rules.around(self.inner.with_dead_letters(topic)?))
    }

    fn shards(&self, topic: &str, sharding: Sharding) -> Option<Arc<dyn Shards>> {
        let (inner, rules) = (self.inner.shards(topic, sharding)?, self.rules);
        Some(Arc::new(DecoratedShards::new(inner, move |shard| rules.around(shard))))
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

impl Rules {
    fn around(self, inner: Arc<dyn Subscriber>) -> Arc<dyn Subscriber> {
        Arc::new(HoldUntilDue { inner, rules: self })
    }

    /// How long a message still waits.
    fn wait(self, delivery: &Delivery) -> Duration {
        let now = SystemTime::now();
        let said = delivery.message().delayed_until().unwrap_or_else(|error| {
            tracing::warn!(
                topic = delivery.info().topic(),
                message_id = delivery.id().as_str(),
                %error,
                "the message does not say when it is due in a way that can be read; it does not wait"
            );
            None
        });
        let published_at = delivery.info().published_at();
        let otherwise = self.otherwise_after.map(|after| published_at.unwrap_or(now) + after);
        let due = match (said, otherwise) {
            // It had passed when the message was published: what it tells of is an earlier wait.
            (Some(said), Some(_)) if published_at.is_some_and(|at| said <= at) => otherwise,
            _ => said.or(otherwise),
        };
        let wait = due.and_then(|due| due.duration_since(now).ok()).unwrap_or_default();
        if wait > self.longest {
            tracing::warn!(
                topic = delivery.info().topic(),
                message_id = delivery.id().as_str(),
                ?wait,
                longest = ?self.longest,
                "the message is due later than any message is held; it is handed out after the longest wait"
            );
        }
        wait.min(self.longest)
    }
}

/// The stream of a subscription, and what of it is not due yet. The window bounds how much that is.
struct Holding {
    inner: BoxStream<'static, Result<Delivery, SubscribeError>>,
    rules: Rules,
    /// By when they are due, and in the order in which they came.
    held: BTreeMap<(Instant, u64), Delivery>,
    next: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Holding {
    /// Keeps a delivery until it is due, or gives it back if it is due now.
    fn hold(&mut self, delivery: Delivery) -> Option<Delivery> {
        let wait = self.rules.wait(&delivery);
        if wait.is_zero() {
            return Some(delivery);
        }
        // What was lost meanwhile comes again, and would lie here twice.
        self.held.retain(|_, held| !held.is_lost());
        self.held.insert((Instant::now() + wait, self.next), delivery);
        self.next += 1;
        None
    }

    fn due(&mut self) -> Option<Delivery> {
        let first = self.held.first_entry()?;
        (first.key().0 <= Instant::now()).then(|| first.remove())
    }

    /// Whether the first is due; otherwise this task is woken when it is.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((&(due, _), _)) = self.held.first_key_value() else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}

impl Stream for Holding {
    type Item = Result<Delivery, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(delivery) = self.due() {
                return Poll::Ready(Some(Ok(delivery)));
            }
            match self.inner.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(delivery))) => match self.hold(delivery) {
                    Some(delivery) => return Poll::Ready(Some(Ok(delivery))),
                    None => continue,
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    self.held.clear();
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
            if self.poll_timer(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt, stream};

    use super::*;
    use crate::{Message, fixtures::Outcomes, message};

    fn holding(messages: Vec<Message>, longest: Duration) -> (Holding, Outcomes) {
        let outcomes = Outcomes::default();
        let deliveries: Vec<_> = messages.into_iter().map(|message| Ok(outcomes.deliver(message))).collect();
        let rules = Rules { longest, otherwise_after: None };
        let inner = stream::iter(deliveries).chain(stream::pending()).boxed();
        (Holding { inner, rules, held: BTreeMap::new(), next: 0, timer: None }, outcomes)
    }

    fn due_in(id: &str, delay: Duration) -> Message {
        let mut message = Message::with_id(id, "x");
        message::delay::write(message.metadata_mut(), delay, SystemTime::now() + delay);
        message
    }

    #[tokio::test(start_paused = true)]
    async fn messages_are_handed_out_when_they_are_due_and_in_the_order_of_that() {
        let second = Duration::from_secs(1);
        let (mut held, _) = holding(
            vec![due_in("later", 3 * second), due_in("sooner", second), Message::with_id("now", "x")],
            Duration::from_secs(60),
        );
        let began = Instant::now();
        for (id, at_least, at_most) in [("now", 0, 0), ("sooner", 900, 1_010), ("later", 2_900, 3_010)] {
            assert_eq!(held.next().await.unwrap().unwrap().id().as_str(), id);
            let waited = began.elapsed().as_millis();
            assert!((at_least..=at_most).contains(&waited), "{id} after {waited} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_message_waits_longer_than_the_longest_wait_and_nonsense_does_not_wait() {
        let (mut held, _) = holding(
            vec![
                due_in("in a century", Duration::from_secs(100 * 365 * 24 * 3600)),
                Message::with_id("nonsense", "x").with_metadata("_watermill_delayed_until", "soon"),
            ],
            Duration::from_secs(5),
        );
        assert_eq!(held.next().await.unwrap().unwrap().id().as_str(), "nonsense");
        let began = Instant::now();
        assert_eq!(held.next().await.unwrap().unwrap().id().as_str(), "in a century");
        assert_eq!(began.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn what_still_waits_when_the_stream_ends_is_nacked() {
        let (mut held, outcomes) = holding(vec![due_in("a", Duration::from_secs(9))], Duration::MAX);
        assert!(held.next().now_or_never().is_none(), "it is held");
        held.inner = stream::empty().boxed();
        assert!(held.next().await.is_none());
        assert_eq!(outcomes.all(), [crate::delivery::Outcome::Nack { delay: Duration::ZERO }]);
    }
}
