//! [`Source`]: the subscription, with its errors kept apart from its deliveries.

use std::{pin::Pin, task::Poll};

use futures::{StreamExt, poll};
use watermill_core::{
    Delivery, Subscriber, Subscription, Window,
    error::{SubscribeError, chain},
};

use crate::ForwarderError;

/// A subscription to the forwarder topic.
pub(crate) struct Source {
    subscription: Subscription,
    last_error: Option<SubscribeError>,
    ended: bool,
}

impl Source {
    /// Subscribes; `None` when `shutdown` is ready first.
    pub(crate) async fn open(
        subscriber: &dyn Subscriber,
        topic: &str,
        window: Window,
        shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Self>, ForwarderError> {
        let subscribed = tokio::select! {
            biased;
            () = shutdown => return Ok(None),
            subscribed = subscriber.subscribe(topic) => subscribed,
        };
        let subscription = subscribed.map_err(|error| ForwarderError::subscribe(topic, error))?;
        subscription.set_window(window);
        Ok(Some(Self { subscription, last_error: None, ended: false }))
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

    pub(crate) fn stop_intake(&self) {
        self.subscription.stop_intake();
    }

    pub(crate) async fn close(self) -> Result<(), SubscribeError> {
        self.subscription.close().await
    }

    /// What went wrong last.
    pub(crate) fn take_last_error(&mut self) -> Option<SubscribeError> {
        self.last_error.take()
    }
}
