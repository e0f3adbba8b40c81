//! [`Run`]: a handler's service with its type forgotten, driven and renewed.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;

use super::{
    factory::{BoxedFactory, Factory},
    worker::{End, Environment, drive},
};
use crate::Subscription;

/// Drives the service of one handler, whose type is known only to whoever made this.
pub(super) trait Run: Send {
    /// Drives the service with one subscription.
    fn drive<'r>(
        &'r mut self,
        subscription: Subscription,
        env: &'r Environment,
    ) -> BoxFuture<'r, (Subscription, End)>;

    /// Puts another service in the place of one that has failed; whether there is one.
    fn renew(&mut self) -> bool;

    /// One more service of the same handler, for another subscription beside this one's; `None` when there is no other.
    fn sibling(&self) -> Option<Box<dyn Run>>;
}

/// A factory of a handler in a set: it becomes a runner as it is, or boxed, to go into other layers.
pub(super) trait AnyFactory: Send {
    fn into_runner(self: Box<Self>) -> Box<dyn Run>;

    fn into_boxed(self: Box<Self>) -> BoxedFactory;
}

/// A service, and whoever makes the next.
pub(super) struct Runner<F: Factory> {
    /// Siblings share it, and ask it when they start and when they have failed.
    factory: Arc<Mutex<F>>,
    service: Option<F::Service>,
}

impl<F: Factory> Runner<F> {
    /// Makes the first service.
    pub(super) fn new(mut factory: F) -> Self {
        let service = factory.make();
        Self { factory: Arc::new(Mutex::new(factory)), service }
    }
}

impl<F: Factory> Run for Runner<F> {
    fn drive<'r>(
        &'r mut self,
        subscription: Subscription,
        env: &'r Environment,
    ) -> BoxFuture<'r, (Subscription, End)> {
        async move {
            match &mut self.service {
                Some(service) => drive(service, subscription, env).await,
                None => (subscription, End::ServiceFailed("the handler made no service".into())),
            }
        }
        .boxed()
    }

    fn renew(&mut self) -> bool {
        // The old one goes first: it may hold what the new one needs.
        self.service = None;
        self.service = self.factory.lock().make();
        self.service.is_some()
    }

    fn sibling(&self) -> Option<Box<dyn Run>> {
        let service = self.factory.lock().make()?;
        Some(Box::new(Self { factory: self.factory.clone(), service: Some(service) }))
    }
}

impl<F> AnyFactory for F
where
    F: Factory,
    F::Service: Clone,
{
    fn into_runner(self: Box<Self>) -> Box<dyn Run> {
        Box::new(Runner::new(*self))
    }

    fn into_boxed(self: Box<Self>) -> BoxedFactory {
        BoxedFactory::new(*self)
    }
}
