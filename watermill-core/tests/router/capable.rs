//! Subscribers that can more or less than the script: one that says so, and one that cannot count or wait.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::stream;
use tokio::sync::Notify;
use watermill_core::{
    Delivery, DeliveryInfo, Message, Subscriber, Subscription, Window,
    delivery::{Origin, Outcome, Receipt, Settle, Token},
    error::SubscribeError,
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::{Health, SubscriptionControl, SubscriptionStatus},
};
use watermill_testkit::ScriptedSubscriber;

/// Plays a script, and says of itself what a test wants.
#[derive(Clone)]
pub(crate) struct Capable {
    script: ScriptedSubscriber,
    capabilities: SubscriberCapabilities,
}

impl Capable {
    /// Changes what the script says of itself.
    pub(crate) fn new(
        script: ScriptedSubscriber,
        change: impl FnOnce(SubscriberCapabilities) -> SubscriberCapabilities,
    ) -> Self {
        let capabilities = change(script.capabilities());
        Self { script, capabilities }
    }
}

#[async_trait]
impl Subscriber for Capable {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.script.subscribe(topic).await
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.script.initialize(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        self.script.in_group(group)
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.script.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.script.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        self.capabilities
    }
}

/// A backend that hands out what was nacked at once, whatever the delay, and does not know how often it did.
/// One delivery is out at a time.
#[derive(Clone, Default)]
pub(crate) struct Forgetful(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Message>,
    out: Option<(Token, Message)>,
    handed_out: u32,
    outcomes: Vec<Outcome>,
    stopped: bool,
}

impl Forgetful {
    pub(crate) fn push(&self, message: Message) {
        self.0.state.lock().unwrap().ready.push_back(message);
        self.0.changed.notify_waiters();
    }

    /// What became of deliveries, in order.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.0.state.lock().unwrap().outcomes.clone()
    }
}

impl Queue {
    fn next(&self, origin: &Origin) -> Option<Option<Delivery>> {
        let mut state = self.state.lock().unwrap();
        if state.stopped {
            return Some(None);
        }
        if state.out.is_some() {
            return None;
        }
        let message = state.ready.pop_front()?;
        state.handed_out += 1;
        let token = Token { scope: 0, position: 0, delivery: state.handed_out };
        state.out = Some((token, message.clone()));
        Some(Some(Delivery::new(message, DeliveryInfo::new(origin.clone(), token))))
    }
}

struct Settles(Arc<Queue>);

impl Settle for Settles {
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        let mut state = self.0.state.lock().unwrap();
        if let Some((_, message)) = state.out.take_if(|(out, _)| *out == token) {
            if matches!(outcome, Outcome::Nack { .. }) {
                state.ready.push_front(message);
            }
            state.outcomes.push(outcome);
        }
        drop(state);
        self.0.changed.notify_waiters();
        if let Some(receipt) = receipt {
            receipt.complete(Ok(()));
        }
    }

    fn handled(&self, _: Token) {}
}

#[async_trait]
impl SubscriptionControl for Settles {
    fn set_window(&self, _: Window) {}

    fn stop_intake(&self) {
        self.0.state.lock().unwrap().stopped = true;
        self.0.changed.notify_waiters();
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        Ok(())
    }

    fn status(&self) -> SubscriptionStatus {
        SubscriptionStatus::new("in", Health::Healthy)
    }
}

#[async_trait]
impl Subscriber for Forgetful {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        let origin = Origin::builder("forgetful", topic).build(Settles(self.0.clone()));
        let deliveries = stream::unfold((self.0.clone(), origin), async |(queue, origin)| {
            loop {
                let changed = queue.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                if let Some(next) = queue.next(&origin) {
                    return next.map(|delivery| (Ok(delivery), (queue.clone(), origin)));
                }
                changed.await;
            }
        });
        Ok(Subscription::new(deliveries, Settles(self.0.clone())))
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
        Vec::new()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new("forgetful").ordering(Ordering::Total)
    }
}
