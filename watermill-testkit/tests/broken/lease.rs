use std::{
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream};
use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinHandle},
    time::{self, Instant},
};
use watermill_core::{
    Delivery, Subscriber, Subscription, Window,
    error::SubscribeError,
    memory::MemorySubscriber,
    subscriber::SubscriberCapabilities,
    subscription::{Health, SubscriptionControl, SubscriptionStatus},
};

use super::{Fault, LEASE};

/// A subscriber of a server that gives up consumers from whom it has not heard for the time of a lease.
pub(super) struct LeasedSubscriber {
    inner: MemorySubscriber,
    server: Handle,
    fault: Fault,
}

/// What the server has of a consumer.
struct Lease {
    inner: MemorySubscriber,
    topic: String,
    state: Mutex<State>,
}

struct State {
    /// `None` once it has been given up: whatever it had goes to others.
    subscription: Option<Subscription>,
    window: Window,
    intake: bool,
    renewed: Instant,
}

struct Control {
    lease: Arc<Lease>,
    renewing: Option<AbortHandle>,
    watching: Option<AbortHandle>,
}

impl LeasedSubscriber {
    pub(super) fn new(inner: MemorySubscriber, server: Handle, fault: Fault) -> Self {
        Self { inner, server, fault }
    }
}

#[async_trait]
impl Subscriber for LeasedSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        let subscription = Some(self.inner.subscribe(topic).await?);
        let state = State { subscription, window: Window::ONE, intake: true, renewed: Instant::now() };
        let lease = Lease { inner: self.inner.clone(), topic: topic.to_owned(), state: Mutex::new(state) };
        let lease = Arc::new(lease);
        let abort = |task: JoinHandle<()>| task.abort_handle();
        let renewing = (self.fault != Fault::NeverRenews).then(|| abort(tokio::spawn(renew(lease.clone()))));
        let watching =
            (self.fault != Fault::ForgetsTheDead).then(|| abort(self.server.spawn(watch(lease.clone()))));
        let deliveries = {
            let lease = lease.clone();
            stream::poll_fn(move |cx| lease.poll_next(cx))
        };
        Ok(Subscription::new(deliveries, Control { lease, renewing, watching }))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.inner.initialize(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Ok(Arc::new(Self { inner: self.inner.group(group), server: self.server.clone(), fault: self.fault }))
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

async fn renew(lease: Arc<Lease>) {
    loop {
        lease.state().renewed = Instant::now();
        time::sleep(LEASE / 4).await;
    }
}

async fn watch(lease: Arc<Lease>) {
    loop {
        time::sleep(LEASE / 4).await;
        let given_up = {
            let mut state = lease.state();
            if state.renewed.elapsed() > LEASE { state.subscription.take() } else { None }
        };
        drop(given_up);
    }
}

impl Lease {
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, SubscribeError>>> {
        let mut state = self.state();
        if !state.intake {
            return Poll::Ready(None);
        }
        if state.subscription.is_none() {
            let again = self.inner.subscribe(&self.topic).now_or_never().expect("it asks nobody");
            let again = again.expect("it is open");
            again.set_window(state.window);
            state.subscription = Some(again);
        }
        state.subscription.as_mut().expect("it was just made").poll_next_unpin(cx)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

#[async_trait]
impl SubscriptionControl for Control {
    fn set_window(&self, window: Window) {
        let mut state = self.lease.state();
        state.window = window;
        if let Some(subscription) = &state.subscription {
            subscription.set_window(window);
        }
    }

    fn stop_intake(&self) {
        let mut state = self.lease.state();
        state.intake = false;
        if let Some(subscription) = &state.subscription {
            subscription.stop_intake();
        }
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        let subscription = self.lease.state().subscription.take();
        match subscription {
            Some(subscription) => subscription.close().await,
            None => Ok(()),
        }
    }

    fn status(&self) -> SubscriptionStatus {
        let state = self.lease.state();
        let ended = || SubscriptionStatus::new(&self.lease.topic, Health::Ended);
        state.subscription.as_ref().map_or_else(ended, Subscription::status)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        for task in [self.renewing.take(), self.watching.take()].into_iter().flatten() {
            task.abort();
        }
        drop(self.lease.state().subscription.take());
    }
}
