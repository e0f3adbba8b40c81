//! [`HttpSubscriber`].

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use watermill_core::{
    Message, Subscriber, Subscription,
    backend::{Registry, Shared, SharedOptions},
    delivery::Origin,
    error::{ConfigError, SubscribeError, SubscribeErrorKind},
    subscriber::{Ordering, SubscriberCapabilities},
    subscription::SubscriptionStatus,
};

use crate::{BACKEND, HttpSubscriberConfig, route::Waiting, seldom::Seldom, settle::Requests};

type State = Shared<Requests>;

/// Takes requests, and answers each when its message has been settled.
///
/// [`route`](Self::route) is what brings them in. Clones are the same subscriber: closing one closes all.
#[derive(Clone)]
pub struct HttpSubscriber(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: HttpSubscriberConfig,
    /// A permit for each request in hand.
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) turned_away: Seldom,
    pub(crate) unsigned: Seldom,
    open: Registry<State>,
    queues: Mutex<HashMap<String, Vec<Queue>>>,
    /// Names the next queue or request.
    next: AtomicU64,
}

/// A subscription, as requests find it.
#[derive(Clone)]
pub(crate) struct Queue {
    number: u64,
    pub(crate) shared: Arc<State>,
    pub(crate) origin: Origin,
}

/// A queue is found until this is dropped.
struct Listed {
    inner: Arc<Inner>,
    queue: Queue,
}

impl HttpSubscriber {
    /// A subscriber. It listens nowhere by itself.
    ///
    /// # Errors
    ///
    /// As [`HttpSubscriberConfig::validate`].
    pub fn new(config: HttpSubscriberConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let requests = Arc::new(Semaphore::new(config.requests_max.min(Semaphore::MAX_PERMITS)));
        Ok(Self(Arc::new(Inner {
            config,
            requests,
            turned_away: Seldom::default(),
            unsigned: Seldom::default(),
            open: Registry::default(),
            queues: Mutex::default(),
            next: AtomicU64::new(1),
        })))
    }
}

impl Inner {
    /// Leaves a message to the subscription to its topic that has the least in hand; `None` where there is none.
    pub(crate) fn push(&self, topic: &str, message: Message) -> Option<Waiting> {
        let mut queues = self.queues().get(topic)?.clone();
        queues.sort_by_cached_key(|queue| queue.shared.lock().ledger.len());
        let number = self.next.fetch_add(1, Relaxed);
        for queue in queues {
            let mut state = queue.shared.lock();
            // Under the lock: what is pushed behind the end of intake would wait for nobody.
            if state.is_stopped() {
                continue;
            }
            let answer = state.ledger.push(number, message);
            drop(state);
            queue.shared.wake_stream();
            return Some(Waiting::new(queue, number, answer));
        }
        None
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<String, Vec<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    fn new(inner: Arc<Inner>, shared: Arc<State>, origin: Origin) -> Self {
        let queue = Queue { number: inner.next.fetch_add(1, Relaxed), shared, origin };
        inner.queues().entry(queue.shared.topic().to_owned()).or_default().push(queue.clone());
        Self { inner, queue }
    }

    /// The task of a subscription: it only sees to its end.
    async fn run(self) {
        let Queue { shared, origin, .. } = self.queue.clone();
        let task = shared.task();
        shared.start();
        while !shared.is_over() {
            give_back_if_stopped(&shared);
            tokio::select! {
                () = shared.closing().cancelled() => {}
                () = shared.work() => {}
            }
        }
        drop(self);
        shared.give_back(&origin);
        task.end(Ok(()));
    }
}

/// What nobody has begun with is answered as soon as intake has stopped, and not only at the end.
fn give_back_if_stopped(shared: &State) {
    let mut state = shared.lock();
    if state.is_stopped() {
        state.ledger.give_back_fresh();
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let topic = self.queue.shared.topic();
        let mut queues = self.inner.queues();
        if let Some(of_topic) = queues.get_mut(topic) {
            of_topic.retain(|queue| queue.number != self.queue.number);
            if of_topic.is_empty() {
                queues.remove(topic);
            }
        }
    }
}

#[async_trait]
impl Subscriber for HttpSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.0.open.check(topic)?;
        let shared = Arc::new(Shared::new(topic, None, Requests::new(topic), SharedOptions::default()));
        let inner = self.0.clone();
        self.0.open.start(BACKEND, shared, |shared, origin| Listed::new(inner, shared, origin).run())
    }

    /// Nothing has to be there before.
    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.0.open.check(topic)
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let why = format!("a request has one answer, so there are no groups, and no {group:?}");
        Err(SubscribeError::new(SubscribeErrorKind::Unsupported, "").because(why))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.0.open.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.0.open.status()
    }

    /// What is claimed of repeated delivery is the sender's to keep, who sends again what was not answered with 200; so is the
    /// delay of a nack, for which a relay of `watermill-forwarder` waits. A router could only wait while the sender does.
    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new(BACKEND).ordering(Ordering::None).nack_delay(true)
    }
}

impl fmt::Debug for HttpSubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSubscriber")
            .field("config", &self.0.config)
            .field("open", &self.0.open)
            .finish_non_exhaustive()
    }
}
