use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use futures::stream;
use tokio::sync::{Notify, broadcast};
use watermill_core::{
    Delivery, DeliveryInfo, Message, Subscriber, Subscription, Window,
    delivery::{Origin, Outcome, Receipt, Settle, Token},
    error::{SubscribeError, SubscribeErrorKind},
    subscriber::{DeliveryGuarantee, Ordering, SubscriberCapabilities},
    subscription::{Health, SubscriptionControl, SubscriptionStatus},
};

use super::{BACKEND, FanOut};

pub(crate) struct FanOutSubscriber {
    channels: FanOut,
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    closed: bool,
    subscriptions: Vec<Arc<Shared>>,
}

/// What a subscription's stream, its control and its deliveries share.
struct Shared {
    topic: String,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    window: Window,
    takes: bool,
    next: u64,
    /// By token, and whether its handler has finished.
    out: BTreeMap<Token, bool>,
}

struct Control(Arc<Shared>);
struct Settler(Arc<Shared>);

impl FanOutSubscriber {
    pub(crate) fn new(channels: FanOut) -> Self {
        Self { channels, opened: Mutex::default() }
    }
}

#[async_trait]
impl Subscriber for FanOutSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.initialize(topic).await?;
        let shared = Arc::new(Shared::new(topic));
        {
            let mut opened = self.opened.lock().unwrap();
            if opened.closed {
                return Err(SubscribeError::closed(topic));
            }
            opened.subscriptions.push(shared.clone());
        }
        let origin = Origin::builder(BACKEND, topic).build(Settler(shared.clone()));
        let receiver = self.channels.channel(topic).subscribe();
        let state = (shared.clone(), origin, receiver);
        let deliveries = stream::unfold(state, |(shared, origin, mut receiver)| async {
            let item = shared.next(&origin, &mut receiver).await?;
            Some((item, (shared, origin, receiver)))
        });
        Ok(Subscription::new(deliveries, Control(shared)))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        if topic.is_empty() {
            return Err(SubscribeError::new(SubscribeErrorKind::Topic, topic));
        }
        Ok(())
    }

    fn in_group(&self, _group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Err(SubscribeError::new(SubscribeErrorKind::Unsupported, ""))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        let mut opened = self.opened.lock().unwrap();
        opened.closed = true;
        opened.subscriptions.drain(..).for_each(|shared| shared.end());
        Ok(())
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        let opened = self.opened.lock().unwrap();
        let running = opened.subscriptions.iter().map(|shared| shared.status());
        running.filter(|status| status.health != Health::Ended).collect()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new(BACKEND).delivery(DeliveryGuarantee::AtMostOnce).ordering(Ordering::Total)
    }
}

impl Shared {
    fn new(topic: &str) -> Self {
        let state = State { window: Window::ONE, takes: true, next: 0, out: BTreeMap::new() };
        Self { topic: topic.to_owned(), state: Mutex::new(state), changed: Notify::new() }
    }

    async fn next(
        &self,
        origin: &Origin,
        receiver: &mut broadcast::Receiver<Message>,
    ) -> Option<Result<Delivery, SubscribeError>> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (takes, has_room) = {
                let state = self.state();
                (state.takes, state.has_room())
            };
            if !takes {
                return None;
            }
            let message = tokio::select! {
                () = changed => continue,
                message = receiver.recv(), if has_room => message,
            };
            return Some(match message {
                Ok(message) => {
                    let token = self.state().hand_out();
                    Ok(Delivery::new(message, DeliveryInfo::new(origin.clone(), token)))
                }
                Err(error) => Err(SubscribeError::new(SubscribeErrorKind::Unavailable, &self.topic)
                    .because("it was too slow, and missed messages")
                    .with_source(error)),
            });
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_waiters();
    }

    fn end(&self) {
        self.change(|state| {
            state.takes = false;
            state.out.clear();
        });
    }

    fn status(&self) -> SubscriptionStatus {
        let state = self.state();
        let health = if state.takes { Health::Healthy } else { Health::Ended };
        SubscriptionStatus::new(&self.topic, health).outstanding(state.out.len())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn has_room(&self) -> bool {
        let handling = self.out.values().filter(|handled| !**handled).count();
        handling < self.window.per_scope() && self.out.len() < self.window.total()
    }

    fn hand_out(&mut self) -> Token {
        let token = Token { scope: 0, position: self.next, delivery: 1 };
        self.next += 1;
        self.out.insert(token, false);
        token
    }
}

impl Settle for Settler {
    fn settle(&self, token: Token, _outcome: Outcome, receipt: Option<Receipt>) {
        self.0.change(|state| {
            state.out.remove(&token);
        });
        if let Some(receipt) = receipt {
            receipt.complete(Ok(()));
        }
    }

    fn handled(&self, token: Token) {
        self.0.change(|state| {
            state.out.entry(token).and_modify(|handled| *handled = true);
        });
    }
}

#[async_trait]
impl SubscriptionControl for Control {
    fn set_window(&self, window: Window) {
        self.0.change(|state| state.window = window);
    }

    fn stop_intake(&self) {
        self.0.change(|state| state.takes = false);
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.0.end();
        Ok(())
    }

    fn status(&self) -> SubscriptionStatus {
        self.0.status()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.0.end();
    }
}
