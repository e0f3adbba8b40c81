//! [`Source`]: the subscription, with its errors kept apart from its deliveries.

use std::{pin::Pin, task::Poll};

use futures::{StreamExt, poll};
use tokio::time::{Instant, sleep, timeout_at};
use watermill_core::{
    Delivery, Subscriber, Subscription, Window,
    error::{SubscribeError, SubscribeErrorKind, chain},
    subscriber::Ordering,
};

use crate::{ForwarderConfig, ForwarderError, control::Shared};

/// A subscription to the forwarder topic.
pub(crate) struct Source {
    subscription: Subscription,
    ordering: Ordering,
    last_error: Option<SubscribeError>,
    ended: bool,
}

impl Source {
    /// Subscribes; `None` when `shutdown` is ready first. What is away is waited for, if that is asked for.
    pub(crate) async fn open(
        subscriber: &dyn Subscriber,
        (config, shared): (&ForwarderConfig, &Shared),
        window: impl FnOnce(Ordering) -> Window,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Self>, ForwarderError> {
        let topic = &*config.topic;
        let mut failures = 0;
        let subscription = loop {
            let subscribed = tokio::select! {
                biased;
                () = &mut shutdown => return Ok(None),
                subscribed = subscriber.subscribe(topic) => subscribed,
            };
            let error = match subscribed {
                Ok(subscription) => break subscription,
                Err(error) if config.await_source && error.is_retryable() => error,
                Err(error) => return Err(ForwarderError::subscribe(topic, error)),
            };
            shared.source_away(chain(&error));
            let wait = config.backoff.delay(failures);
            failures = failures.saturating_add(1);
            tracing::error!(topic, failures, ?wait, error = %chain(&error), "the source is not there yet");
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(None),
                () = sleep(wait) => {}
            }
        };
        let ordering = subscriber.capabilities().ordering;
        subscription.set_window(window(ordering));
        shared.subscribed(subscription.control());
        Ok(Some(Self { subscription, ordering, last_error: None, ended: false }))
    }

    /// Whether a message that is given back holds up nothing else there.
    pub(crate) fn may_come_again_later(&self) -> bool {
        self.ordering == Ordering::None
    }

    /// The next delivery; `None` when there will be none. Errors go to the log: the subscription
    /// reconnects by itself.
    ///
    /// # Cancel safety
    ///
    /// A delivery is either returned or still to come.
    pub(crate) async fn next(&mut self) -> Option<Delivery> {
        while !self.ended {
            match self.subscription.next().await {
                Some(Ok(delivery)) => return Some(delivery),
                Some(Err(error)) => {
                    let topic = error.topic();
                    tracing::warn!(topic, error = %chain(&error), "trouble with the forwarder topic");
                    self.last_error = Some(error);
                    // A source that has nothing but errors must not keep everything else from running.
                    tokio::task::yield_now().await;
                }
                None => self.ended = true,
            }
        }
        None
    }

    /// A delivery that is there already.
    pub(crate) async fn ready(&mut self) -> Option<Delivery> {
        match poll!(std::pin::pin!(self.next())) {
            Poll::Ready(delivery) => delivery,
            Poll::Pending => None,
        }
    }

    /// Whether there will be no delivery any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn stop_intake(&self) {
        self.subscription.stop_intake();
    }

    /// Closes the subscription, by `deadline`: later it is dropped, and what is not recorded comes again.
    pub(crate) async fn close(self, deadline: Instant) -> Result<(), SubscribeError> {
        let topic = self.subscription.status().topic;
        timeout_at(deadline, self.subscription.close()).await.unwrap_or_else(|_| {
            let late = "it was not closed within the drain timeout, and is dropped";
            Err(SubscribeError::new(SubscribeErrorKind::Unavailable, topic).because(late))
        })
    }

    /// What went wrong last.
    pub(crate) fn take_last_error(&mut self) -> Option<SubscribeError> {
        self.last_error.take()
    }
}
