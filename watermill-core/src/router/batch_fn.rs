//! [`BatchFn`]: async functions that handle a batch, and what they may take and return.

use futures::future::BoxFuture;

use super::{
    ExtractOwned, FromRef, HandlerError, IntoOutputs, Outputs, Required, State,
    batch::{BatchInterrupted, Outcomes},
    handler_fn::{Asynchronous, Function},
    outputs::Nothing,
    shared_error::SharedError,
};
use crate::{
    Message,
    error::{BoxError, Permanent},
};

/// An async function that handles a batch: its first argument is a `Vec` of anything a handler may
/// have as its last argument, its second, if any, is [`State`]. What it returns implements
/// [`IntoOutcomes`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function with one or two arguments",
    label = "not a batch handler",
    note = "a batch handler is `async fn(Vec<T>)` or `async fn(Vec<T>, State<S>)`"
)]
pub trait BatchFn<Args, S>: Clone + Send + 'static {
    /// [`Nothing`], [`Messages`](super::types::Messages) or [`Addressed`](super::types::Addressed).
    type Kind;

    /// Reads the messages and calls the function. The result has an outcome for each message.
    fn call(&self, messages: Vec<Message>, state: &S) -> BoxFuture<'static, Vec<Result<Outputs, BoxError>>>;

    /// Called when the service is made: what a function does around another one, a transaction for the batch for
    /// instance, it [promises](super::Promise) here as a layer would.
    fn promise(&self) {}

    /// What the arguments [require](super::Extract::required) of layers.
    fn required() -> Vec<Required> {
        Vec::new()
    }
}

/// What a batch handler may return: `()`, `Result<(), E>` for all messages alike, or a
/// `Vec<Result<O, E>>` with an outcome for each, where `O` is what a handler of single messages may
/// return.
#[diagnostic::on_unimplemented(
    message = "a batch handler cannot return `{Self}`",
    note = "it returns `()`, `Result<(), E>` for all messages alike, or `Vec<Result<O, E>>` with an outcome for each",
    note = "where `O` is what a handler of single messages may return"
)]
pub trait IntoOutcomes {
    /// [`Nothing`], [`Messages`](super::types::Messages) or [`Addressed`](super::types::Addressed).
    type Kind;

    /// An outcome for each of `len` messages.
    fn into_outcomes(self, len: usize) -> Vec<Result<Outputs, BoxError>>;
}

/// The arguments of a batch handler.
#[diagnostic::on_unimplemented(
    message = "a batch handler cannot have the arguments `{Self}`",
    note = "it takes `Vec<T>`, or `Vec<T>` and `State<S>`, where `T` is what a handler may have as its last argument"
)]
pub trait BatchArguments<S, Via>: Sized {
    /// Reads them.
    fn extract(messages: Vec<Message>, state: &S) -> Extracted<Self>;

    /// What they need of layers.
    fn required() -> Vec<Required>;
}

/// What was read of a batch.
pub struct Extracted<Args> {
    /// The arguments, and of how many messages they are. `None` if no message could be read.
    args: Option<(Args, usize)>,
    /// For each message of the batch the reason why it could not be read, if it could not.
    rejections: Vec<Option<BoxError>>,
}

impl<F, Args, S, Via> BatchFn<(Via, Args), S> for F
where
    F: Function<Args> + Clone + Send + 'static,
    F::Returned: Asynchronous<Returned: IntoOutcomes> + Send + 'static,
    Args: BatchArguments<S, Via>,
{
    type Kind = <<F::Returned as Asynchronous>::Returned as IntoOutcomes>::Kind;

    fn call(&self, messages: Vec<Message>, state: &S) -> BoxFuture<'static, Outcomes> {
        let Extracted { args, rejections } = Args::extract(messages, state);
        let Some((args, len)) = args else {
            return Box::pin(async move { merge(rejections, Vec::new()) });
        };
        let future = Function::call(self, args);
        Box::pin(async move { merge(rejections, future.await.into_outcomes(len)) })
    }

    fn required() -> Vec<Required> {
        Args::required()
    }
}

impl<S, Via, T> BatchArguments<S, Via> for (Vec<T>,)
where
    T: ExtractOwned<S, Via>,
{
    fn extract(messages: Vec<Message>, state: &S) -> Extracted<Self> {
        Extracted::read(messages, state, |arguments| (arguments,))
    }

    fn required() -> Vec<Required> {
        T::required().into_iter().collect()
    }
}

impl<S, Via, T, P> BatchArguments<S, Via> for (Vec<T>, State<P>)
where
    T: ExtractOwned<S, Via>,
    P: FromRef<S>,
{
    fn extract(messages: Vec<Message>, state: &S) -> Extracted<Self> {
        Extracted::read(messages, state, |arguments| (arguments, State(P::from_ref(state))))
    }

    fn required() -> Vec<Required> {
        T::required().into_iter().collect()
    }
}

impl<Args> Extracted<Args> {
    fn read<T, S, Via>(messages: Vec<Message>, state: &S, args: impl FnOnce(Vec<T>) -> Args) -> Self
    where
        T: ExtractOwned<S, Via>,
    {
        let mut arguments = Vec::with_capacity(messages.len());
        let rejections = messages.into_iter().map(|message| match T::extract_owned(message, state) {
            Ok(argument) => {
                arguments.push(argument);
                None
            }
            Err(rejection) => Some(rejection.into()),
        });
        let rejections = rejections.collect();
        let len = arguments.len();
        Self { args: (len > 0).then(|| (args(arguments), len)), rejections }
    }
}

/// Puts the outcomes of what was handled between the rejections.
fn merge(rejections: Vec<Option<BoxError>>, handled: Outcomes) -> Outcomes {
    let mut handled = handled.into_iter();
    let outcome = |rejection: Option<BoxError>| match rejection {
        Some(error) => Err(error),
        None => handled.next().unwrap_or_else(|| Err(BatchInterrupted(()).into())),
    };
    rejections.into_iter().map(outcome).collect()
}

impl IntoOutcomes for () {
    type Kind = Nothing;

    fn into_outcomes(self, len: usize) -> Outcomes {
        (0..len).map(|_| Ok(Outputs::none())).collect()
    }
}

impl<E: HandlerError> IntoOutcomes for Result<(), E> {
    type Kind = Nothing;

    fn into_outcomes(self, len: usize) -> Outcomes {
        match self {
            Ok(()) => ().into_outcomes(len),
            Err(error) => {
                let error = SharedError::new("handle the batch", error);
                (0..len).map(|_| Err(error.clone().into())).collect()
            }
        }
    }
}

impl<O: IntoOutputs, E: HandlerError> IntoOutcomes for Vec<Result<O, E>> {
    type Kind = O::Kind;

    fn into_outcomes(self, len: usize) -> Outcomes {
        if self.len() != len {
            let reason = format!("match outcomes to messages: the handler returned {} for {len}", self.len());
            let error = SharedError::new("handle the batch", Permanent::new(reason));
            return (0..len).map(|_| Err(error.clone().into())).collect();
        }
        self.into_iter().map(IntoOutputs::into_outputs).collect()
    }
}
