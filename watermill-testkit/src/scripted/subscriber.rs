//! The traits of a subscriber, played from the script.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream;
use tokio::time;
use watermill_core::{
    Delivery, Subscriber, Subscription, Window,
    delivery::{Origin, Outcome, Receipt, Settle, Token},
    error::SubscribeError,
    subscriber::SubscriberCapabilities,
    subscription::{SubscriptionControl, SubscriptionStatus},
};

use super::{
    ScriptedSubscriber,
    script::{Next, Script},
};
use crate::wait::Watched;

const BACKEND: &str = "scripted";

#[async_trait]
impl Subscriber for ScriptedSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        let id = self.script.change(|script| {
            script.subscribe_calls += 1;
            if script.subscriber_closed {
                return Err(SubscribeError::closed(topic));
            }
            if let Some(kind) = script.fail_subscribe.pop_front() {
                return Err(SubscribeError::new(kind, topic).because("the script says so"));
            }
            Ok(script.start(topic, |id| {
                let settle = Handle { script: self.script.clone(), id };
                Origin::builder(BACKEND, topic).group(self.group.clone()).build(settle)
            }))
        })?;
        let handle = Arc::new(Handle { script: self.script.clone(), id });
        let deliveries = stream::unfold(handle.clone(), async |handle| Some((handle.next().await?, handle)));
        Ok(Subscription::new(deliveries, Control { handle }))
    }

    async fn initialize(&self, _topic: &str) -> Result<(), SubscribeError> {
        Ok(())
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Ok(Arc::new(Self { group: Some(group.to_owned()), ..self.clone() }))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.script.change(Script::finish_all);
        Ok(())
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.script.read(Script::statuses)
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        let capabilities = self.script.read(|script| script.capabilities);
        SubscriberCapabilities::new(BACKEND)
            .groups(true)
            .ordering(capabilities.ordering)
            .attempts(capabilities.attempts)
            .nack_delay(capabilities.nack_delay)
            .dead_letters(capabilities.dead_letters)
    }
}

/// One subscription of the script.
struct Handle {
    script: Arc<Watched<Script>>,
    id: u64,
}

impl Handle {
    async fn next(&self) -> Option<Result<Delivery, SubscribeError>> {
        loop {
            let changed = self.script.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.script.change_silently(|script| script.next(self.id)) {
                Next::Item(item) => {
                    // Only now: a look that finds nothing must not wake others to look in turn.
                    self.script.change(|_| ());
                    return Some(item);
                }
                Next::End => return None,
                Next::Wait(None) => changed.await,
                Next::Wait(Some(wake)) => {
                    let _ = time::timeout_at(wake, changed).await;
                }
            }
        }
    }
}

impl Settle for Handle {
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        self.script.change(|script| script.settle(self.id, token, outcome, receipt));
    }

    fn handled(&self, token: Token) {
        self.script.change(|script| script.handled(self.id, token));
    }
}

/// Dropped, it ends the subscription.
struct Control {
    handle: Arc<Handle>,
}

#[async_trait]
impl SubscriptionControl for Control {
    fn set_window(&self, window: Window) {
        self.handle.script.change(|script| script.set_window(self.handle.id, window));
    }

    fn stop_intake(&self) {
        self.handle.script.change(|script| script.stop_intake(self.handle.id));
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.handle.script.change(|script| {
            script.closed += 1;
            script.record_all(self.handle.id);
            script.finish(self.handle.id);
        });
        Ok(())
    }

    fn status(&self) -> SubscriptionStatus {
        self.handle.script.read(|script| script.status(self.handle.id))
    }

    fn is_owner(&self) -> bool {
        self.handle.script.read(|script| !script.is_overdue)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.handle.script.change(|script| script.finish(self.handle.id));
    }
}
