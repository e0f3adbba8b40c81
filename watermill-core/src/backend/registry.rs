//! [`Registry`]: the subscriptions that a subscriber has begun, and how they end.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use futures::future::join_all;

use super::{EMPTY_TOPIC, Ledger, Settler, Shared, Source, stream::Deliveries};
use crate::{
    Subscription, Window,
    delivery::{Origin, OriginBuilder},
    error::{SubscribeError, SubscribeErrorKind},
    subscription::{SubscriptionControl, SubscriptionStatus},
};

/// The open subscriptions of one subscriber. It keeps none of them running, and forgets each when it has
/// ended; subscriptions outlive the registry.
pub struct Registry<S> {
    shared: Arc<Mutex<Registered<S>>>,
}

/// Two handles on the same subscriptions: closing either closes all of them.
impl<S> Clone for Registry<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Registered<S> {
    closed: bool,
    running: Vec<Arc<Running<S>>>,
}

/// A subscription, as the registry and its own control know it.
struct Running<S> {
    source: Arc<S>,
    origin: Origin,
    /// The subscription was dropped or closed.
    over: AtomicBool,
    registry: Weak<Mutex<Registered<S>>>,
}

impl<S: Source> Registry<S> {
    /// Whether there may be a subscription to `topic`: to be asked before anything is prepared for it.
    ///
    /// # Errors
    ///
    /// Of kind [`Closed`](SubscribeErrorKind::Closed) after [`close`](Self::close), and
    /// [`Topic`](SubscribeErrorKind::Topic) for a topic without a name.
    pub fn check(&self, topic: &str) -> Result<(), SubscribeError> {
        if lock(&self.shared).closed {
            return Err(SubscribeError::closed(topic));
        }
        if topic.is_empty() {
            return Err(SubscribeError::new(SubscribeErrorKind::Topic, topic).because(EMPTY_TOPIC));
        }
        Ok(())
    }

    /// Makes the subscription of a source. The origin that comes with it is for the backend's task, to
    /// [revoke](Origin::revoke) what it has lost; the source itself must not hold it, for it holds the
    /// source.
    ///
    /// When the subscription is dropped, the source [ends](Source::end) and all of its deliveries are
    /// revoked.
    ///
    /// # Errors
    ///
    /// Of kind [`Closed`](SubscribeErrorKind::Closed) after [`close`](Self::close); the source is ended then.
    pub fn open(
        &self,
        origin: OriginBuilder,
        source: Arc<S>,
    ) -> Result<(Subscription, Origin), SubscribeError> {
        self.forget_ended();
        let origin = origin.build(Settler(source.clone()));
        let running = Arc::new(Running {
            source: source.clone(),
            origin: origin.clone(),
            over: AtomicBool::new(false),
            registry: Arc::downgrade(&self.shared),
        });
        {
            let mut registered = lock(&self.shared);
            if registered.closed {
                drop(registered);
                running.end();
                return Err(SubscribeError::closed(origin.topic()));
            }
            registered.running.push(running.clone());
        }
        let subscription = Subscription::new(Deliveries::new(source, origin.clone()), Control(running));
        Ok((subscription, origin))
    }

    /// How each of them is doing that has not ended.
    pub fn status(&self) -> Vec<SubscriptionStatus> {
        self.sources().iter().map(|source| source.status()).collect()
    }

    /// The sources of those that have not ended.
    pub fn sources(&self) -> Vec<Arc<S>> {
        self.forget_ended();
        lock(&self.shared).running.iter().map(|running| running.source.clone()).collect()
    }

    fn forget_ended(&self) {
        let has_ended = |running: &mut Arc<Running<S>>| running.source.has_ended();
        // Dropped without the lock, for what goes with a source is not ours to know.
        let ended: Vec<_> = lock(&self.shared).running.extract_if(.., has_ended).collect();
        drop(ended);
    }

    /// Closes all of them side by side, and begins no more. Those that were dropped and have something to
    /// do in the background are waited for too. A second call returns at once.
    ///
    /// # Errors
    ///
    /// The first of what closing them has failed with.
    pub async fn close(&self) -> Result<(), SubscribeError> {
        let running = {
            let mut registered = lock(&self.shared);
            registered.closed = true;
            std::mem::take(&mut registered.running)
        };
        join_all(running.iter().map(|running| running.close())).await.into_iter().collect()
    }
}

impl<L: Ledger> Registry<Shared<L>> {
    /// Makes the subscription of a [`Shared`], as [`open`](Self::open) does, and spawns its task, which is made
    /// of it and of the origin of its deliveries. `backend` is the backend's short name.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); no task is spawned then.
    pub fn start<T>(
        &self,
        backend: &'static str,
        shared: Arc<Shared<L>>,
        task: impl FnOnce(Arc<Shared<L>>, Origin) -> T,
    ) -> Result<Subscription, SubscribeError>
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let origin = Origin::builder(backend, shared.topic()).group(shared.group());
        let (subscription, origin) = self.open(origin, shared.clone())?;
        tokio::spawn(task(shared, origin));
        Ok(subscription)
    }
}

impl<S> Default for Registry<S> {
    fn default() -> Self {
        Self { shared: Arc::new(Mutex::new(Registered { closed: false, running: Vec::new() })) }
    }
}

impl<S> std::fmt::Debug for Registry<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Registered { closed, running } = &*lock(&self.shared);
        f.debug_struct("Registry").field("closed", closed).field("running", &running.len()).finish()
    }
}

impl<S: Source> Running<S> {
    fn end(&self) {
        if !self.over.swap(true, Ordering::AcqRel) {
            self.source.stop_intake();
            self.source.end();
            self.origin.revoke_all();
        }
        self.forget();
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.source.stop_intake();
        let closed = self.source.close().await;
        if !self.over.swap(true, Ordering::AcqRel) {
            self.origin.revoke_all();
        }
        self.forget();
        closed
    }

    /// What has ended is forgotten; what has something to do in the background is looked at again later.
    fn forget(&self) {
        if self.source.has_ended()
            && let Some(registry) = self.registry.upgrade()
        {
            let mut registered = lock(&registry);
            let at = registered.running.iter().position(|running| std::ptr::eq(&**running, self));
            let forgotten = at.map(|at| registered.running.swap_remove(at));
            drop(registered);
            drop(forgotten);
        }
    }
}

/// The verbs beside the stream. Dropped with the subscription, it ends it.
struct Control<S: Source>(Arc<Running<S>>);

#[async_trait]
impl<S: Source> SubscriptionControl for Control<S> {
    fn set_window(&self, window: Window) {
        self.0.source.set_window(window);
    }

    fn stop_intake(&self) {
        self.0.source.stop_intake();
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.0.close().await
    }

    fn status(&self) -> SubscriptionStatus {
        self.0.source.status()
    }

    fn is_owner(&self) -> bool {
        self.0.source.is_owner()
    }
}

impl<S: Source> Drop for Control<S> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn lock<S>(registered: &Mutex<Registered<S>>) -> MutexGuard<'_, Registered<S>> {
    registered.lock().unwrap_or_else(PoisonError::into_inner)
}
