//! [`RouterHandle`]: adds handlers to a running router.

use std::{fmt, ops::Deref};

use tokio::sync::{mpsc, oneshot};
use tower::{Layer, layer::util::Identity};

use super::{
    Handler, MakeService, MessageService, RouterControl, RunError, RunErrorKind, SharedLayer,
    destination::Output, router::prepare, source::Source, supervisor::Addition,
};

/// A [`RouterControl`] that can also add handlers, with the router's state and layers.
pub struct RouterHandle<S = (), L = Identity> {
    pub(super) state: S,
    pub(super) layers: SharedLayer<L>,
    pub(super) chain: Vec<&'static str>,
    pub(super) control: RouterControl,
    pub(super) additions: mpsc::Sender<Addition>,
}

impl<S, L> RouterHandle<S, L> {
    /// Starts a handler in the running router (or as soon as it runs) and returns when it has
    /// subscribed.
    ///
    /// # Errors
    ///
    /// [`RunErrorKind::Build`] for a name that is taken, `Start` when it cannot subscribe,
    /// `NotRunning` when the router has ended. The router goes on in every case.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled the handler may start, even if the future is dropped.
    pub async fn add<M, In, Out, HL>(&self, handler: Handler<M, In, Out, HL>) -> Result<(), RunError>
    where
        S: Clone,
        In: Source,
        M: MakeService<S>,
        Out: Output<M::Kind>,
        HL: Layer<M::Service>,
        L: Layer<HL::Service>,
        L::Service: MessageService,
    {
        let prepared = prepare(handler, self.state.clone(), &self.layers, &self.chain);
        let (answer, answered) = oneshot::channel();
        let ended = || RunError::new(RunErrorKind::NotRunning, "the router has ended");
        self.additions.send((prepared, answer)).await.map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl<S, L> Deref for RouterHandle<S, L> {
    type Target = RouterControl;

    fn deref(&self) -> &RouterControl {
        &self.control
    }
}

impl<S: Clone, L> Clone for RouterHandle<S, L> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            layers: self.layers.clone(),
            chain: self.chain.clone(),
            control: self.control.clone(),
            additions: self.additions.clone(),
        }
    }
}

impl<S, L> fmt::Debug for RouterHandle<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.control.fmt(f)
    }
}
