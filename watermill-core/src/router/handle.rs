//! [`RouterHandle`]: adds handlers to a running router.

use std::{fmt, ops::Deref};

use futures::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tower::{Layer, layer::util::Identity};

use super::{
    Handler, Handlers, MakeService, MessageService, RouterControl, RunError, boxed::BoxedService,
    destination::Output, factory::SharedLayer, handlers::prepare, prepared::Prepared, source::Source,
    supervisor::Addition,
};

/// A [`RouterControl`] that can also add handlers, with the router's state and layers.
pub struct RouterHandle<S = (), L = Identity> {
    pub(super) state: S,
    pub(super) layers: SharedLayer<L>,
    pub(super) chain: Vec<&'static str>,
    pub(super) control: RouterControl,
    pub(super) additions: mpsc::Sender<Addition>,
}

/// What became of a handler that was added to a running router.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Added {
    /// It has subscribed.
    Subscribed,
    /// It could not subscribe and goes on trying, as
    /// [`StartPolicy::Retry`](super::StartPolicy::Retry) says.
    Retrying {
        /// What the first try met.
        error: String,
    },
}

impl<S, L> RouterHandle<S, L> {
    /// Starts a handler in the running router (or as soon as it runs) and returns when it has
    /// subscribed, or says that it has not and goes on trying.
    ///
    /// # Errors
    ///
    /// [`RunErrorKind::Build`](super::RunErrorKind::Build) for a name that is taken, `Start` when it cannot subscribe,
    /// `NotRunning` when the router has ended or is stopping. The router goes on in every case, without the
    /// handler.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled the handler may start, even if the future is dropped.
    pub async fn add<M, In, Out, HL>(&self, handler: Handler<M, In, Out, HL>) -> Result<Added, RunError>
    where
        S: Clone + Send + 'static,
        In: Source,
        M: MakeService<S>,
        Out: Output<M::Kind>,
        HL: Layer<M::Service> + Send + 'static,
        L: Layer<HL::Service> + Send + Sync + 'static,
        HL::Service: MessageService,
        L::Service: MessageService,
    {
        let prepared = prepare(handler, self.state.clone(), &self.layers, &self.chain);
        self.start(prepared).await
    }

    /// Starts a handler behind those of its retry topics, so that what fails has where to go; all of them or none.
    async fn start(&self, prepared: Prepared) -> Result<Added, RunError> {
        let mut started: Vec<String> = Vec::new();
        let mut added = Added::Subscribed;
        for prepared in prepared.with_retries().into_iter().rev() {
            let name = prepared.spec.name.clone();
            let answer = match self.begin(prepared).await {
                Ok(answer) => Self::answered(answer).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => added = answer,
                Err(error) => {
                    for name in started {
                        // It may have ended by itself.
                        let _ = self.control.stop_handler(&name).await;
                    }
                    return Err(error);
                }
            }
            started.push(name);
        }
        Ok(added)
    }

    /// Adds every handler of a set, side by side, each behind its retry topics, and returns what became of each of them, with
    /// its name. One that cannot be started does not keep the others from it.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled the handlers may start, even if the future is dropped.
    pub async fn merge(&self, handlers: Handlers<S>) -> Vec<(String, Result<Added, RunError>)>
    where
        S: Clone + Send + 'static,
        L: Layer<BoxedService> + Send + Sync + 'static,
        L::Service: MessageService,
    {
        let prepared = handlers.prepare(&self.state, &self.layers, &self.chain);
        let starting = prepared.map(|prepared| async move {
            let name = prepared.spec.name.clone();
            (name, self.start(prepared).await)
        });
        join_all(starting).await
    }

    /// Hands a handler to the supervisor, which answers in its time.
    async fn begin(
        &self,
        prepared: Prepared,
    ) -> Result<oneshot::Receiver<Result<Added, RunError>>, RunError> {
        let (answer, answered) = oneshot::channel();
        match self.additions.send(Addition { prepared, answer }).await {
            Ok(()) => Ok(answered),
            Err(_) => Err(RunError::not_running()),
        }
    }

    async fn answered(answer: oneshot::Receiver<Result<Added, RunError>>) -> Result<Added, RunError> {
        answer.await.unwrap_or_else(|_| Err(RunError::not_running()))
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
