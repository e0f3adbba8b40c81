//! [`Subscribing`]: how a handler's task gets a subscription, and shows how far it is.

use std::sync::Arc;

use tokio::{sync::Semaphore, time::sleep};

use crate::{
    Backoff, Subscriber, Subscription,
    error::{SubscribeError, SubscribeErrorKind, chain},
    panic::CatchPanic,
    router::{
        RouterControl,
        status::{Entry, Stage},
        worker::Environment,
    },
};

/// A handler's subscriber, and what is asked while it subscribes.
pub(super) struct Subscribing {
    pub(super) subscriber: Arc<dyn Subscriber>,
    pub(super) env: Environment,
    pub(super) control: RouterControl,
    /// Lets a bounded number of handlers subscribe at a time.
    pub(super) turns: Arc<Semaphore>,
}

impl Subscribing {
    /// Subscribes, however long the backend cannot be reached; `None` when it was asked to stop before.
    pub(super) async fn patiently(&self, waits: Backoff) -> Result<Option<Subscription>, SubscribeError> {
        let mut tries = 0;
        loop {
            match self.once().await {
                None => return Ok(None),
                Some(Err(error)) if error.is_retryable() => {
                    if !self.wait(waits, tries, &error).await {
                        return Ok(None);
                    }
                    tries += 1;
                }
                Some(subscribed) => return subscribed.map(Some),
            }
        }
    }

    /// Subscribes once, when it is its turn; `None` when it was asked to stop before.
    pub(super) async fn once(&self) -> Option<Result<Subscription, SubscribeError>> {
        let topic = &self.env.info.subscribe_topic;
        let subscribe = async {
            let _turn = self.turns.acquire().await;
            let subscribing = CatchPanic::new(|| self.subscriber.subscribe(topic)).await;
            subscribing.unwrap_or_else(|panicked| {
                Err(SubscribeError::new(SubscribeErrorKind::Refused, topic).with_source(panicked))
            })
        };
        self.env.stop.run_until_asked(subscribe).await
    }

    /// Waits before the next try to subscribe; whether there is to be one.
    pub(super) async fn wait(&self, waits: Backoff, tries: u32, error: &SubscribeError) -> bool {
        let wait = waits.delay(tries);
        let error = chain(error);
        tracing::warn!(handler = self.env.info.name, ?wait, error, "cannot subscribe yet");
        self.enter(Stage::Subscribing { error: Some(error) });
        self.env.stop.run_until_asked(sleep(wait)).await.is_some()
    }

    /// Shows how far the handler is.
    pub(super) fn enter(&self, stage: Stage) {
        self.entry(|entry| entry.stage = stage);
    }

    pub(super) fn count_restart(&self) {
        self.entry(|entry| entry.restarts += 1);
    }

    /// The handler was not started.
    pub(super) fn forget(&self) {
        self.control.shared.handlers().remove(self.name());
    }

    pub(super) fn name(&self) -> &str {
        &self.env.info.name
    }

    fn entry(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.control.shared.handlers().get_mut(self.name()) {
            change(entry);
        }
    }
}
