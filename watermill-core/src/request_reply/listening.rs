//! The task of an inbox: reads replies and hands each to who waits for it.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::{select, time};
use tokio_util::sync::CancellationToken;

use super::pending::Pending;
use crate::{
    Backoff, Subscriber, Subscription, Window,
    error::{SubscribeError, SubscribeErrorKind, chain},
};

/// How many replies are handed out before their acks are recorded.
const WINDOW: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// How long the end waits until acks are recorded.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct Listening {
    pub(super) subscriber: Arc<dyn Subscriber>,
    pub(super) topic: String,
    pub(super) pending: Arc<Pending>,
    pub(super) stop: CancellationToken,
}

impl Listening {
    /// Subscribes; what is sent from then on is answered here.
    pub(super) async fn subscribe(&self) -> Result<Subscription, SubscribeError> {
        let subscription = self.subscriber.subscribe(&self.topic).await?;
        subscription.set_window(Window::unordered(WINDOW));
        Ok(subscription)
    }

    /// Reads until it is stopped, or the subscriber is closed.
    pub(super) async fn run(self, mut subscription: Subscription) {
        let backoff = Backoff::exponential(Duration::from_millis(100)).max(Duration::from_secs(30));
        let mut troubles = 0;
        loop {
            let next = select! {
                biased;
                () = self.stop.cancelled() => break,
                next = subscription.next() => next,
            };
            let error = match next {
                Some(Ok(delivery)) => {
                    troubles = 0;
                    let (reply, settlement) = delivery.split();
                    let id = reply.id().clone();
                    if !self.pending.answer(reply) {
                        tracing::trace!(topic = self.topic, message_id = %id, "nobody here waits for a reply");
                    }
                    settlement.ack();
                    continue;
                }
                Some(Err(error)) => Some(error),
                None => None,
            };
            if error.as_ref().is_some_and(|error| error.kind() == SubscribeErrorKind::Closed) {
                break;
            }
            let delay = backoff.delay(troubles);
            troubles = troubles.saturating_add(1);
            let reason =
                error.as_ref().map_or_else(|| "the subscription has ended".to_owned(), |it| chain(it));
            tracing::warn!(topic = self.topic, reason, ?delay, "replies cannot be read");
            if select! { () = self.stop.cancelled() => true, () = time::sleep(delay) => false } {
                break;
            }
            if error.is_none() {
                let again = select! {
                    biased;
                    () = self.stop.cancelled() => break,
                    again = self.subscribe() => again,
                };
                match again {
                    Ok(again) => subscription = again,
                    Err(error) if error.kind() == SubscribeErrorKind::Closed => break,
                    Err(error) => {
                        tracing::warn!(topic = self.topic, error = chain(&error), "replies cannot be read")
                    }
                }
            }
        }
        self.pending.close();
        // Replies that come again are nobody's by then.
        if time::timeout(CLOSE_WITHIN, subscription.close()).await.is_err() {
            tracing::warn!(topic = self.topic, "the subscription to replies did not close in time");
        }
    }
}
