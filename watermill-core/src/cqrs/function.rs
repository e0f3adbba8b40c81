//! [`PayloadFn`]: handler functions whose first argument is the command or the event.

use std::future::Future;

use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use crate::{
    Message, Outputs,
    error::BoxError,
    router::{Asynchronous, Extract, ExtractOwned, Function, IntoOutputs, Required},
};

/// An async function that handles commands or events: its first argument is the value, the others are what any
/// [handler](crate::router::HandlerFn) may take, up to eight in all, and so is what it returns.
///
/// ```
/// use watermill_core::{State, cqrs::Named, error::BoxError, MessageId};
///
/// #[derive(serde::Deserialize)]
/// struct BookRoom {
///     room: u32,
/// }
/// # impl Named for BookRoom { const NAME: &'static str = "BookRoom"; }
///
/// async fn book_room(command: BookRoom, State(rooms): State<u32>, id: MessageId) -> Result<(), BoxError> {
///     println!("{id}: room {} of {rooms}", command.room);
///     Ok(())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function that handles commands or events",
    label = "not a handler of commands or events",
    note = "it is an `async fn` whose first argument is the command or event itself, followed by up to seven extractors"
)]
pub trait PayloadFn<Args, S>: Clone + Send + 'static {
    /// The command or the event.
    type Payload;

    /// What it returns, as of [`HandlerFn`](crate::router::HandlerFn::Kind).
    type Kind;

    /// The running handler.
    type Future: Future<Output = Result<Outputs, BoxError>> + Send + 'static;

    /// Reads the other arguments and calls the function.
    ///
    /// # Errors
    ///
    /// When an argument cannot be read.
    fn call(&self, payload: Self::Payload, message: Message, state: &S) -> Result<Self::Future, BoxError>;

    /// What the arguments [require](Extract::required) of layers.
    fn required() -> Vec<Required> {
        Vec::new()
    }
}

/// The arguments of a handler of commands or events: the value, and what is extracted. `Via` is that of the last one; it
/// is inferred.
pub trait PayloadArguments<S, Via>: Sized {
    /// The first of them.
    type Payload;

    /// Reads the others, in their order.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read.
    fn extract(payload: Self::Payload, message: Message, state: &S) -> Result<Self, BoxError>;

    /// What they need of layers.
    fn required() -> Vec<Required>;
}

macro_rules! arguments {
    ($($argument:ident)*; $last:ident) => {
        #[expect(non_snake_case, reason = "a value is named like its type parameter")]
        impl<S, Via, T, $($argument,)* $last> PayloadArguments<S, Via> for (T, $($argument,)* $last,)
        where
            $($argument: Extract<S>,)*
            $last: ExtractOwned<S, Via>,
        {
            type Payload = T;

            fn extract(payload: T, message: Message, state: &S) -> Result<Self, BoxError> {
                $(let $argument = $argument::extract(&message, state).map_err(Into::into)?;)*
                let $last = $last::extract_owned(message, state).map_err(Into::into)?;
                Ok((payload, $($argument,)* $last,))
            }

            fn required() -> Vec<Required> {
                [$($argument::required(),)* $last::required()].into_iter().flatten().collect()
            }
        }
    };
}

/// The value alone. `Via` is `()` for it, so that the compiler need not guess.
impl<S, T> PayloadArguments<S, ()> for (T,) {
    type Payload = T;

    fn extract(payload: T, _message: Message, _state: &S) -> Result<Self, BoxError> {
        Ok((payload,))
    }

    fn required() -> Vec<Required> {
        Vec::new()
    }
}

arguments!(; A);
arguments!(A; B);
arguments!(A B; C);
arguments!(A B C; D);
arguments!(A B C D; E);
arguments!(A B C D E; F);
arguments!(A B C D E F; G);

impl<F, Args, S, Via> PayloadFn<(Via, Args), S> for F
where
    F: Function<Args> + Clone + Send + 'static,
    F::Returned: Asynchronous<Returned: IntoOutputs> + Send + 'static,
    Args: PayloadArguments<S, Via>,
{
    type Payload = Args::Payload;
    type Kind = <<F::Returned as Asynchronous>::Returned as IntoOutputs>::Kind;
    type Future = PayloadFuture<F::Returned>;

    fn call(&self, payload: Args::Payload, message: Message, state: &S) -> Result<Self::Future, BoxError> {
        let args = Args::extract(payload, message, state)?;
        Ok(PayloadFuture { future: Function::call(self, args) })
    }

    fn required() -> Vec<Required> {
        Args::required()
    }
}

pin_project! {
    /// A running handler function.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct PayloadFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future<Output: IntoOutputs>> Future for PayloadFuture<F> {
    type Output = Result<Outputs, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(self.project().future.poll(cx)).into_outputs())
    }
}
