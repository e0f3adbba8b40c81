//! [`Subscriptions`]: those that a subscriber has begun, what each hands to its user, and how they end.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures::{Stream, future::join_all};
use tokio::{sync::watch, time::Instant};
use watermill_core::{
    Delivery, DeliveryInfo, Subscription, Window,
    delivery::Origin,
    error::{SubscribeError, SubscribeErrorKind},
    subscription::{SubscriptionControl, SubscriptionStatus},
};

use crate::settle::{Desk, Hand};

/// How a subscription ended: `None` while it has not, then whether something could not be recorded.
pub(crate) type Ended = Option<Result<(), String>>;

/// The subscriptions of one subscriber.
pub(crate) struct Subscriptions<H> {
    running: Mutex<Running<H>>,
}

struct Running<H> {
    closed: bool,
    handles: Vec<Handle<H>>,
}

/// The way to end a subscription and to wait for that.
pub(crate) struct Handle<H> {
    desk: Arc<Desk<H>>,
    ended: watch::Receiver<Ended>,
    topic: String,
    group: Option<String>,
}

impl<H: Hand> Subscriptions<H> {
    /// How each of them is doing.
    pub(crate) fn status(&self) -> Vec<SubscriptionStatus> {
        let handles = self.lock().handles.clone();
        handles.iter().filter(|handle| handle.ended.borrow().is_none()).map(Handle::status).collect()
    }

    /// Fails once they were closed.
    pub(crate) fn check(&self, topic: &str) -> Result<(), SubscribeError> {
        if self.lock().closed { Err(SubscribeError::closed(topic)) } else { Ok(()) }
    }

    /// Adds one, whose task says with the sender how it ended.
    pub(crate) fn add(
        &self,
        desk: &Arc<Desk<H>>,
        topic: &str,
        group: Option<&str>,
    ) -> Result<(Handle<H>, watch::Sender<Ended>), SubscribeError> {
        let (sender, ended) = watch::channel(None);
        let handle =
            Handle { desk: desk.clone(), ended, topic: topic.to_owned(), group: group.map(str::to_owned) };
        let mut running = self.lock();
        if running.closed {
            return Err(SubscribeError::closed(topic));
        }
        running
            .handles
            .retain(|handle| handle.ended.has_changed().is_ok() && handle.ended.borrow().is_none());
        running.handles.push(handle.clone());
        Ok((handle, sender))
    }

    /// Looks at each.
    pub(crate) fn each<T>(&self, look: impl FnMut(&Desk<H>) -> Option<T>) -> Vec<T> {
        let mut look = look;
        self.lock().handles.iter().filter_map(|handle| look(&handle.desk)).collect()
    }

    /// Ends all of them gracefully, and begins no more.
    pub(crate) async fn close(&self) -> Result<(), SubscribeError> {
        let handles = {
            let mut running = self.lock();
            running.closed = true;
            std::mem::take(&mut running.handles)
        };
        join_all(handles.iter().map(Handle::close)).await.into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Running<H>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H> Default for Subscriptions<H> {
    fn default() -> Self {
        Self { running: Mutex::new(Running { closed: false, handles: Vec::new() }) }
    }
}

impl<H: Hand> Handle<H> {
    fn status(&self) -> SubscriptionStatus {
        self.desk.status(&self.topic, self.group.as_deref())
    }

    /// The subscription, once its task knows where it stands. Dropping the future ends it.
    pub(crate) async fn subscription(self, origin: Origin) -> Subscription {
        let desk = self.desk.clone();
        let subscription = Subscription::new(Deliveries { desk: desk.clone(), origin }, Control(self));
        desk.started.notified().await;
        subscription
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.desk.stop_intake();
        self.desk.closing.cancel();
        let mut ended = self.ended.clone();
        let why = match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Err(why))) => why.clone(),
            Ok(_) => return Ok(()),
            Err(_) => "the runtime of its task has ended".to_owned(),
        };
        Err(SubscribeError::new(SubscribeErrorKind::Unavailable, &self.topic)
            .because(format!("what was settled last may not be recorded: {why}")))
    }
}

impl<H> Clone for Handle<H> {
    fn clone(&self) -> Self {
        let Self { desk, ended, topic, group } = self;
        Self { desk: desk.clone(), ended: ended.clone(), topic: topic.clone(), group: group.clone() }
    }
}

/// The stream. Dropping it ends the intake; dropping the control beside it ends the subscription.
struct Deliveries<H: Hand> {
    desk: Arc<Desk<H>>,
    origin: Origin,
}

impl<H: Hand> Stream for Deliveries<H> {
    type Item = Result<Delivery, SubscribeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let handed = match self.desk.poll(cx.waker()) {
            Poll::Ready(Some(Ok(handed))) => handed,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        let info = DeliveryInfo::new(self.origin.clone(), handed.token())
            .with_attempt(handed.attempt)
            .with_redelivered(handed.redelivered)
            .with_published_at(handed.published_at)
            .with_offset(handed.offset);
        Poll::Ready(Some(Ok(Delivery::new(handed.message, info))))
    }
}

impl<H: Hand> Drop for Deliveries<H> {
    fn drop(&mut self) {
        self.desk.stop_intake();
    }
}

struct Control<H: Hand>(Handle<H>);

#[async_trait]
impl<H: Hand> SubscriptionControl for Control<H> {
    fn set_window(&self, window: Window) {
        self.0.desk.lock().hand.set_window(window);
        self.0.desk.wake_reader();
        self.0.desk.work.notify_one();
    }

    fn stop_intake(&self) {
        self.0.desk.stop_intake();
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.0.close().await
    }

    fn status(&self) -> SubscriptionStatus {
        self.0.status()
    }
}

impl<H: Hand> Drop for Control<H> {
    fn drop(&mut self) {
        // At once, and not when the task gets to it: what is acked after the drop does not count.
        self.0.desk.lock().hand.give_back(Instant::now());
        self.0.desk.closing.cancel();
    }
}
