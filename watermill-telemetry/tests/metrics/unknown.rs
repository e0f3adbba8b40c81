//! Figures that are not always known.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use watermill_core::{
    Handler, MemoryBroker, Router, Subscriber, Subscription,
    error::SubscribeError,
    subscriber::SubscriberCapabilities,
    subscription::{Health, SubscriptionStatus},
};
use watermill_telemetry::{Metrics, Watched};

use crate::{Running, sample};

/// Says of itself what it is told to.
#[derive(Clone)]
pub(crate) struct Said(Arc<Mutex<Vec<SubscriptionStatus>>>);

impl Said {
    pub(crate) fn new(statuses: impl Into<Vec<SubscriptionStatus>>) -> Self {
        Self(Arc::new(Mutex::new(statuses.into())))
    }

    pub(crate) fn now(&self, statuses: impl Into<Vec<SubscriptionStatus>>) {
        *self.0.lock() = statuses.into();
    }
}

#[async_trait]
impl Subscriber for Said {
    async fn subscribe(&self, _: &str) -> Result<Subscription, SubscribeError> {
        unreachable!("it is looked at and not read")
    }

    async fn initialize(&self, _: &str) -> Result<(), SubscribeError> {
        Ok(())
    }

    fn in_group(&self, _: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Ok(Arc::new(self.clone()))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        Ok(())
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.0.lock().clone()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new("said")
    }
}

#[test]
fn what_is_no_longer_known_is_no_number_and_not_what_it_was() {
    let status = SubscriptionStatus::new("orders", Health::Healthy);
    let said = Said::new([status.clone()]);
    let metrics = Metrics::prometheus();
    let watch = metrics.watch(Watched::new().subscriber("outbox", said.clone()));
    let names = ["watermill_subscription_lag_messages", "watermill_subscription_oldest_message_seconds"].map(
        |name| format!(r#"{name}{{handler_name="<no handler>",subscriber_name="outbox",topic="orders"}}"#),
    );

    watch.update();
    let page = metrics.render().unwrap();
    assert!(names.iter().all(|name| !page.contains(name)), "what was never known has no sample: {page}");

    said.now([status.clone().lag(Some(3)).oldest_unsettled(Some(Duration::from_secs(400)))]);
    watch.update();
    assert_eq!(names.each_ref().map(|name| sample(&metrics, name)), [3.0, 400.0]);

    // As of a reader that has lost its lease: somebody else knows.
    said.now([status]);
    watch.update();
    assert!(names.iter().all(|name| sample(&metrics, name).is_nan()));
}

#[tokio::test(start_paused = true)]
async fn how_much_a_handler_has_left_behind_that_failed_is_no_longer_known() {
    let (metrics, source) = (Metrics::prometheus(), MemoryBroker::new().subscriber());
    let router = Router::new().add(Handler::new("ends", async || {}).from(source.clone(), "in"));
    let watch = metrics.watch(Watched::new().router(router.control()));
    let running = Running::start(router).await;
    let names = ["watermill_subscription_lag_messages", "watermill_subscription_oldest_message_seconds"]
        .map(|name| format!(r#"{name}{{handler_name="ends",subscriber_name="memory",topic="in"}}"#));
    watch.update();
    assert_eq!(names.each_ref().map(|name| sample(&metrics, name)), [0.0, 0.0]);
    source.close().await.unwrap();
    running.task.await.unwrap().unwrap_err();
    for _ in 0..2 {
        watch.update();
        assert!(names.iter().all(|name| sample(&metrics, name).is_nan()));
    }
}
