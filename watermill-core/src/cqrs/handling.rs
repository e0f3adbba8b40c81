//! [`PayloadService`]: reads a command or an event and calls its handler.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use pin_project_lite::pin_project;
use tower::Service;

use super::{Decode, Named, PayloadFn, reader::Reader, unknown::Known};
use crate::{
    Message, Outputs,
    error::BoxError,
    router::{MakeService, require, types::RouterState},
};

/// A handler of commands or events on its way to become a service.
pub struct MakePayload<F, Args, S, T, C> {
    pub(super) function: F,
    pub(super) reader: Reader<T, C>,
    pub(super) known: Arc<Known>,
    pub(super) args: PhantomData<fn() -> (Args, S)>,
}

impl<F, Args, S, R, C> MakeService<R> for MakePayload<F, Args, S, F::Payload, C>
where
    F: PayloadFn<Args, S, Payload: Named>,
    C: Decode<F::Payload>,
    S: Clone + Send + 'static,
    Args: 'static,
    R: RouterState<S>,
{
    type Kind = F::Kind;
    type Service = PayloadService<F, Args, S, F::Payload, C>;

    fn make_service(&mut self, state: R) -> Option<Self::Service> {
        let (function, reader) = (self.function.clone(), self.reader.clone());
        Some(PayloadService::new(function, reader, Some(self.known.clone()), state.into_state()))
    }
}

/// The innermost service of a handler of commands or events: it compares the message's name, reads its value and calls the
/// function.
pub struct PayloadService<F, Args, S, T, C> {
    function: F,
    reader: Reader<T, C>,
    /// Which names it handles; `None` where somebody has looked at the name already.
    known: Option<Arc<Known>>,
    state: S,
    args: PhantomData<fn() -> Args>,
}

impl<F, Args, S, T, C> PayloadService<F, Args, S, T, C>
where
    F: PayloadFn<Args, S, Payload = T>,
{
    pub(super) fn new(function: F, reader: Reader<T, C>, known: Option<Arc<Known>>, state: S) -> Self {
        require(F::required());
        Self { function, reader, known, state, args: PhantomData }
    }
}

impl<F, Args, S, T, C> PayloadService<F, Args, S, T, C>
where
    F: PayloadFn<Args, S, Payload = T>,
    T: Named,
    C: Decode<T>,
    S: Clone + Send + 'static,
    Args: 'static,
{
    /// The running handler, or what came of a message that it does not handle.
    fn begin(&self, message: Message) -> Result<Handling<F::Future>, BoxError> {
        if let Some(known) = &self.known
            && !known.has(&message)
        {
            known.unknown(&message)?;
            return Ok(Handling::Over { result: Some(Ok(Outputs::none())) });
        }
        if let Some(preparing) = self.reader.prepare(&message) {
            return Ok(Handling::Preparing { future: self.prepared(preparing, message) });
        }
        let payload = self.reader.read(&message)?;
        let future = self.function.call(payload, message, &self.state)?;
        Ok(Handling::Running { future })
    }

    /// The handler, once what its message is read with is there.
    #[cold]
    fn prepared(
        &self,
        preparing: BoxFuture<'static, Result<(), BoxError>>,
        message: Message,
    ) -> BoxFuture<'static, Result<Outputs, BoxError>> {
        let (function, reader, state) = (self.function.clone(), self.reader.clone(), self.state.clone());
        Box::pin(async move {
            preparing.await?;
            let payload = reader.read(&message)?;
            let handling = function.call(payload, message, &state)?;
            handling.await
        })
    }
}

impl<F, Args, S, T, C> Service<Message> for PayloadService<F, Args, S, T, C>
where
    F: PayloadFn<Args, S, Payload = T>,
    T: Named,
    C: Decode<T>,
    S: Clone + Send + 'static,
    Args: 'static,
{
    type Response = Outputs;
    type Error = BoxError;
    type Future = Handling<F::Future>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message) -> Self::Future {
        self.begin(message).unwrap_or_else(|error| Handling::Over { result: Some(Err(error)) })
    }
}

pin_project! {
    /// A running handler, or what came of a message that has none.
    #[project = Project]
    #[must_use = "futures do nothing unless polled"]
    pub enum Handling<F> {
        #[doc(hidden)]
        Running { #[pin] future: F },
        #[doc(hidden)]
        Preparing { future: BoxFuture<'static, Result<Outputs, BoxError>> },
        #[doc(hidden)]
        Over { result: Option<Result<Outputs, BoxError>> },
    }
}

impl<F: Future<Output = Result<Outputs, BoxError>>> Future for Handling<F> {
    type Output = Result<Outputs, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Project::Running { future } => future.poll(cx),
            Project::Preparing { future } => future.as_mut().poll(cx),
            Project::Over { result } => Poll::Ready(result.take().expect("polled again after it was ready")),
        }
    }
}

impl<F> fmt::Debug for Handling<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self {
            Self::Running { .. } => "running",
            Self::Preparing { .. } => "preparing",
            Self::Over { .. } => "over",
        };
        f.debug_tuple("Handling").field(&format_args!("{stage}")).finish()
    }
}

impl<F: Clone, Args, S: Clone, T, C: Clone> Clone for PayloadService<F, Args, S, T, C> {
    fn clone(&self) -> Self {
        let (function, reader) = (self.function.clone(), self.reader.clone());
        Self { function, reader, known: self.known.clone(), state: self.state.clone(), args: PhantomData }
    }
}

impl<F, Args, S, T, C> fmt::Debug for PayloadService<F, Args, S, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let function = std::any::type_name::<F>();
        f.debug_struct("PayloadService").field("function", &function).finish_non_exhaustive()
    }
}

impl<F, Args, S, T, C> fmt::Debug for MakePayload<F, Args, S, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MakePayload").field("known", &self.known).finish_non_exhaustive()
    }
}
