//! [`HandlerFn`]: async functions with extractors, as services.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use super::{Extract, ExtractOwned, IntoOutputs, Outputs};
use crate::{Message, error::BoxError};

/// An async function that handles messages. Implemented for functions of up to eight arguments.
///
/// `Args` are the argument types and `S` the router's state; both are inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "a handler is an async function (or a closure that returns a future) that is `Clone + Send + 'static`",
    note = "its arguments implement `Extract`, the last one may be `Message`; `State<T>` needs `Router::with_state`",
    note = "it returns `()`, `Message`, `Json<T>`, `To(topic, message)`, an `Option` or `Vec` of those, or a `Result` of any of them"
)]
pub trait HandlerFn<Args, S>: Clone + Send + 'static {
    /// What it returns: [`Nothing`](super::types::Nothing), [`Messages`](super::types::Messages) or
    /// [`Addressed`](super::types::Addressed).
    type Kind;

    /// The running handler.
    type Future: Future<Output = Result<Outputs, BoxError>> + Send + 'static;

    /// Reads the arguments and calls the function.
    fn call(&self, message: Message, state: &S) -> Self::Future;
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

/// Reads one argument, or returns the rejection from the surrounding function.
macro_rules! argument {
    ($extracted:expr) => {
        match $extracted {
            Ok(value) => value,
            Err(error) => return HandlerFuture::Rejected { error: Some(error.into()) },
        }
    };
}

macro_rules! handler_fn {
    ($($argument:ident)*; $last:ident) => {
        #[expect(non_snake_case, reason = "a value is named like its type parameter")]
        impl<Func, Fut, S, Via, $($argument,)* $last> HandlerFn<(Via, $($argument,)* $last,), S> for Func
        where
            Func: Fn($($argument,)* $last) -> Fut + Clone + Send + 'static,
            Fut: Future<Output: IntoOutputs> + Send + 'static,
            $($argument: Extract<S>,)*
            $last: ExtractOwned<S, Via>,
        {
            type Kind = <Fut::Output as IntoOutputs>::Kind;
            type Future = HandlerFuture<Fut>;

            fn call(&self, message: Message, state: &S) -> Self::Future {
                $(let $argument = argument!($argument::extract(&message, state));)*
                let $last = argument!($last::extract_owned(message, state));
                HandlerFuture::Running { future: self($($argument,)* $last) }
            }
        }
    };
}

impl<Func, Fut, S> HandlerFn<((),), S> for Func
where
    Func: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output: IntoOutputs> + Send + 'static,
{
    type Kind = <Fut::Output as IntoOutputs>::Kind;
    type Future = HandlerFuture<Fut>;

    fn call(&self, _message: Message, _state: &S) -> Self::Future {
        HandlerFuture::Running { future: self() }
    }
}

handler_fn!(; A);
handler_fn!(A; B);
handler_fn!(A B; C);
handler_fn!(A B C; D);
handler_fn!(A B C D; E);
handler_fn!(A B C D E; F);
handler_fn!(A B C D E F; G);
handler_fn!(A B C D E F G; H);

/// A handler function with its state: the innermost service of a handler.
pub struct HandlerService<F, Args, S> {
    function: F,
    state: S,
    args: PhantomData<fn() -> Args>,
}

impl<F, Args, S> HandlerService<F, Args, S> {
    /// Joins a function and its state.
    pub fn new(function: F, state: S) -> Self {
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
        Self::new(self.function.clone(), self.state.clone())
    }
}

impl<F, Args, S> fmt::Debug for HandlerService<F, Args, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerService")
            .field("function", &std::any::type_name::<F>())
            .finish_non_exhaustive()
    }
}
