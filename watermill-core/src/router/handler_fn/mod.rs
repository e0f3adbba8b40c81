//! [`HandlerFn`]: async functions with extractors, as services.

mod arguments;
mod asynchronous;
mod function;

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use self::arguments::Arguments;
pub(crate) use self::{asynchronous::Asynchronous, function::Function};
use super::{IntoOutputs, Outputs, Required, promise};
use crate::{Message, error::BoxError};

/// An async function that handles messages. Implemented for functions of up to eight arguments, of
/// which each implements [`Extract`](super::Extract), but for the last, which may take the whole
/// [`Message`]; what they return implements [`IntoOutputs`].
///
/// `Args` are the argument types and `S` the router's state; both are inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function with up to eight arguments",
    label = "not a handler",
    note = "a handler is an `async fn`, or a closure that returns a future; what handlers share belongs into the router's state"
)]
pub trait HandlerFn<Args, S>: Clone + Send + 'static {
    /// What it returns: [`Nothing`](super::types::Nothing), [`Messages`](super::types::Messages) or
    /// [`Addressed`](super::types::Addressed).
    type Kind;

    /// The running handler.
    type Future: Future<Output = Result<Outputs, BoxError>> + Send + 'static;

    /// Reads the arguments and calls the function.
    fn call(&self, message: Message, state: &S) -> Self::Future;

    /// What the arguments [require](super::Extract::required) of layers.
    fn required() -> Vec<Required> {
        Vec::new()
    }
}

pin_project! {
    /// A running handler function, or the rejection of one of its arguments.
    #[project = Project]
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub enum HandlerFuture<F> {
        #[doc(hidden)]
        Running { #[pin] future: F },
        #[doc(hidden)]
        Rejected { error: Option<BoxError> },
    }
}

impl<F: Future<Output: IntoOutputs>> Future for HandlerFuture<F> {
    type Output = Result<Outputs, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project() {
            Project::Running { future } => ready!(future.poll(cx)).into_outputs(),
            Project::Rejected { error } => Err(error.take().expect("polled again after it was ready")),
        })
    }
}

/// The one implementation there is: of several the compiler would only say that none fits, and not what
/// is wrong with the one that was meant.
impl<F, Args, S, Via> HandlerFn<(Via, Args), S> for F
where
    F: Function<Args> + Clone + Send + 'static,
    F::Returned: Asynchronous<Returned: IntoOutputs> + Send + 'static,
    Args: Arguments<S, Via>,
{
    type Kind = <<F::Returned as Asynchronous>::Returned as IntoOutputs>::Kind;
    type Future = HandlerFuture<F::Returned>;

    fn call(&self, message: Message, state: &S) -> Self::Future {
        match Args::extract(message, state) {
            Ok(args) => HandlerFuture::Running { future: Function::call(self, args) },
            Err(error) => HandlerFuture::Rejected { error: Some(error) },
        }
    }

    fn required() -> Vec<Required> {
        Args::required()
    }
}

/// A handler function with its state: the innermost service of a handler.
pub struct HandlerService<F, Args, S> {
    function: F,
    state: S,
    args: PhantomData<fn() -> Args>,
}

impl<F: HandlerFn<Args, S>, Args, S> HandlerService<F, Args, S> {
    /// Joins a function and its state. Where a router makes it, what the function's arguments
    /// [require](super::Extract::required) is compared with what its layers promise.
    pub fn new(function: F, state: S) -> Self {
        promise::require(F::required());
        Self { function, state, args: PhantomData }
    }
}

impl<F, Args, S> Service<Message> for HandlerService<F, Args, S>
where
    F: HandlerFn<Args, S>,
{
    type Response = Outputs;
    type Error = BoxError;
    type Future = F::Future;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message) -> F::Future {
        self.function.call(message, &self.state)
    }
}

impl<F: Clone, Args, S: Clone> Clone for HandlerService<F, Args, S> {
    fn clone(&self) -> Self {
        Self { function: self.function.clone(), state: self.state.clone(), args: PhantomData }
    }
}

impl<F, Args, S> fmt::Debug for HandlerService<F, Args, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerService")
            .field("function", &std::any::type_name::<F>())
            .finish_non_exhaustive()
    }
}
