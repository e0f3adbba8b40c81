//! Subscribing, with faults.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tokio::runtime::Handle;
use watermill_core::{
    Delivery, DeliveryInfo, Settlement, Subscriber, Subscription, Window,
    decorator::DecoratedShards,
    delivery::{Origin, Outcome, Receipt, Settle, Token},
    error::{SettleError, SubscribeError, SubscribeErrorKind},
    subscriber::{Sharding, Shards, SubscriberCapabilities},
    subscription::{SubscriptionControl, SubscriptionStatus},
};

use super::{Faulty, Injector};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Subscriber> Subscriber for Faulty<S> {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        if self.injector.happens(|faults| faults.subscribe, |injected| &mut injected.failed_subscribe) {
            return Err(unavailable(topic));
        }
        let (deliveries, inner) = self.inner.subscribe(topic).await?.into_parts();
        let (injector, topic) = (self.injector.clone(), topic.to_owned());
        let mut wrapper =
            Wrapper { injector: injector.clone(), outstanding: Arc::default(), origin: Arc::default() };
        let control = Control { inner: Some(inner), origin: wrapper.origin.clone() };
        let deliveries = deliveries.flat_map(move |next| {
            let fails = next.is_ok()
                && injector.happens(|faults| faults.stream, |injected| &mut injected.stream_errors);
            let error = fails.then(|| Err(unavailable(&topic)));
            let next = next.map(|delivery| wrapper.wrap(delivery));
            stream::iter(error.into_iter().chain([next]))
        });
        Ok(Subscription::new(deliveries, control))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.inner.initialize(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Ok(Arc::new(Faulty { inner: self.inner.in_group(group)?, injector: self.injector.clone() }))
    }

    fn with_dead_letters(&self, topic: &str) -> Option<Arc<dyn Subscriber>> {
        Some(Arc::new(Faulty {
            inner: self.inner.with_dead_letters(topic)?,
            injector: self.injector.clone(),
        }))
    }

    fn shards(&self, topic: &str, sharding: Sharding) -> Option<Arc<dyn Shards>> {
        let inner = self.inner.shards(topic, sharding)?;
        let injector = self.injector.clone();
        Some(Arc::new(DecoratedShards::new(inner, move |inner| {
            Arc::new(Faulty { inner, injector: injector.clone() })
        })))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.inner.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.inner.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        self.inner.capabilities()
    }
}

fn unavailable(topic: &str) -> SubscribeError {
    SubscribeError::new(SubscribeErrorKind::Unavailable, topic).because("an injected fault")
}

/// Puts itself between the deliveries of one subscription and their backend.
struct Wrapper {
    injector: Arc<Injector>,
    outstanding: Arc<Outstanding>,
    /// Made for the first delivery, from what it says of its own origin.
    origin: Arc<OnceLock<Origin>>,
}

/// The backend's own controls, and the end of what was wrapped.
struct Control {
    /// Taken when this is dropped: what the backend does then comes before what is said of it here.
    inner: Option<Arc<dyn SubscriptionControl>>,
    origin: Arc<OnceLock<Origin>>,
}

/// The backend's own settlements of what is handed out.
#[derive(Default)]
struct Outstanding(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    settlements: HashMap<Token, (u64, Settlement)>,
    /// Tells a delivery from a later one in the same place.
    next: u64,
}

struct FaultySettle {
    injector: Arc<Injector>,
    /// Settling may happen on any thread, also on one without a runtime.
    runtime: Handle,
    outstanding: Arc<Outstanding>,
}

impl Wrapper {
    fn wrap(&mut self, delivery: Delivery) -> Delivery {
        let outstanding = &self.outstanding;
        let origin = self.origin.get_or_init(|| {
            let inner = delivery.info().origin();
            let (injector, runtime) = (self.injector.clone(), Handle::current());
            let settle = FaultySettle { injector, runtime, outstanding: outstanding.clone() };
            Origin::builder(inner.backend(), inner.topic()).group(inner.group()).build(settle)
        });
        let token = delivery.info().token();
        let lost = delivery.cancellation();
        let mut info = DeliveryInfo::new(origin.clone(), token)
            .with_attempt(delivery.info().attempt())
            .with_redelivered(delivery.info().redelivered())
            .with_published_at(delivery.info().published_at());
        if let Some(partition) = delivery.info().partition() {
            info = info.with_partition(partition);
        }
        if let Some(offset) = delivery.info().offset() {
            info = info.with_offset(offset);
        }
        let (message, settlement) = delivery.split();
        let number = outstanding.insert(token, settlement);

        // The backend may lose the delivery before it is settled: whoever watches it is told.
        let (origin, outstanding) = (origin.clone(), Arc::downgrade(outstanding));
        tokio::spawn(async move {
            lost.cancelled().await;
            if Outstanding::forget(&outstanding, token, number) {
                origin.revoke(|| [token]);
            }
        });
        Delivery::new(message, info)
    }
}

impl Control {
    fn inner(&self) -> &dyn SubscriptionControl {
        self.inner.as_deref().unwrap_or_else(|| unreachable!("it is there until this is dropped"))
    }

    /// The subscription is over, and with it the ownership of whatever was outstanding.
    fn lose_all(&self) {
        if let Some(origin) = self.origin.get() {
            origin.revoke_all();
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SubscriptionControl for Control {
    fn set_window(&self, window: Window) {
        self.inner().set_window(window);
    }

    fn stop_intake(&self) {
        self.inner().stop_intake();
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        let closed = self.inner().close().await;
        self.lose_all();
        closed
    }

    fn status(&self) -> SubscriptionStatus {
        self.inner().status()
    }

    fn is_owner(&self) -> bool {
        self.inner().is_owner()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.inner = None;
        self.lose_all();
    }
}

impl Settle for FaultySettle {
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        let Some((_, settlement)) = self.outstanding.entries().settlements.remove(&token) else {
            if let Some(receipt) = receipt {
                receipt.complete(Err(SettleError::lost()));
            }
            return;
        };
        if self.injector.happens(|faults| faults.settlement, |injected| &mut injected.lost_settlements) {
            // Dropped, the settlement nacks. A dropped receipt says that nothing is known.
            return;
        }
        match receipt {
            None => settlement.settle(outcome),
            Some(receipt) => {
                self.runtime
                    .spawn(async move { receipt.complete(settlement.settle_confirmed(outcome).await) });
            }
        }
    }

    fn handled(&self, token: Token) {
        if let Some((_, settlement)) = self.outstanding.entries().settlements.get(&token) {
            settlement.handled();
        }
    }
}

impl Outstanding {
    fn insert(&self, token: Token, settlement: Settlement) -> u64 {
        let mut entries = self.entries();
        entries.next += 1;
        let number = entries.next;
        entries.settlements.insert(token, (number, settlement));
        number
    }

    /// Forgets a delivery, if it is still the one that is meant.
    fn forget(outstanding: &Weak<Self>, token: Token, number: u64) -> bool {
        let Some(outstanding) = outstanding.upgrade() else { return false };
        let mut entries = outstanding.entries();
        let is_meant = entries.settlements.get(&token).is_some_and(|(current, _)| *current == number);
        let forgotten = is_meant.then(|| entries.settlements.remove(&token));
        drop(entries);
        // Its settlement goes here, after the lock: it nacks in vain.
        forgotten.is_some()
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
