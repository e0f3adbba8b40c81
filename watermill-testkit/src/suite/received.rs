//! [`Received`]: what arrived at the other side of a publisher, as a subscriber.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream;
use tokio::{sync::watch, time};
use watermill_core::{
    Delivery, DeliveryInfo, Subscriber, Subscription, Window,
    delivery::{Origin, Outcome, Receipt, Settle, Token},
    error::{SubscribeError, SubscribeErrorKind},
    subscriber::{DeliveryGuarantee, Ordering, SubscriberCapabilities},
    subscription::{Health, SubscriptionControl, SubscriptionStatus},
};

use crate::Backend;

/// Reads [`Backend::received`], each subscription from the beginning.
pub(super) struct Received(pub(super) Arc<dyn Backend>);

struct Ignores;

struct Control {
    topic: String,
    intake: watch::Sender<bool>,
}

#[async_trait]
impl Subscriber for Received {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        let (intake, ends) = watch::channel(true);
        let origin = Origin::builder("received", topic).build(Ignores);
        let state = (self.0.clone(), topic.to_owned(), ends, 0);
        let deliveries = stream::unfold(state, move |(backend, topic, mut ends, read)| {
            let origin = origin.clone();
            async move {
                let look = async {
                    loop {
                        if let Some(message) = backend.received(&topic).await.into_iter().nth(read) {
                            return message;
                        }
                        time::sleep(Duration::from_millis(10)).await;
                    }
                };
                let message = tokio::select! {
                    _ = ends.wait_for(|intake| !intake) => return None,
                    message = look => message,
                };
                let token = Token { scope: 0, position: read as u64, delivery: 1 };
                let delivery = Delivery::new(message, DeliveryInfo::new(origin, token));
                Some((Ok(delivery), (backend, topic, ends, read + 1)))
            }
        });
        Ok(Subscription::new(deliveries, Control { topic: topic.to_owned(), intake }))
    }

    async fn initialize(&self, _topic: &str) -> Result<(), SubscribeError> {
        Ok(())
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Err(SubscribeError::new(SubscribeErrorKind::Unsupported, "").because(format!("no group {group:?}")))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        Ok(())
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        Vec::new()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new("received")
            .ordering(Ordering::Scoped)
            .delivery(DeliveryGuarantee::AtMostOnce)
    }
}

impl Settle for Ignores {
    fn settle(&self, _token: Token, _outcome: Outcome, receipt: Option<Receipt>) {
        if let Some(receipt) = receipt {
            receipt.complete(Ok(()));
        }
    }

    fn handled(&self, _token: Token) {}
}

#[async_trait]
impl SubscriptionControl for Control {
    fn set_window(&self, _window: Window) {}

    fn stop_intake(&self) {
        self.intake.send_replace(false);
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        Ok(())
    }

    fn status(&self) -> SubscriptionStatus {
        let health = if *self.intake.borrow() { Health::Healthy } else { Health::Ended };
        SubscriptionStatus::new(&self.topic, health)
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Received")
    }
}
