//! Bounds without a body, one for each part of a handler: what `debug_handler` and `debug_batch_handler` call
//! with the parts of a function. Not for other use: names may change with any version.

use super::{
    Extract, ExtractOwned, IntoOutcomes, IntoOutputs,
    batch_fn::BatchArguments,
    handler_fn::{Asynchronous, Function},
};
use crate::Message;

/// An argument that is not the last.
pub fn argument<S, T: Extract<S>>() {}

/// The last argument.
pub fn last_argument<S, T: ExtractOwned<S, Via>, Via>() {}

/// The first argument of a batch handler.
pub fn batch<S, T, Via>()
where
    (T,): BatchArguments<S, Via>,
{
}

/// The second argument of a batch handler.
pub fn batch_state<S, T>()
where
    (Vec<Message>, T): BatchArguments<S, super::types::ByValue>,
{
}

/// What a handler returns.
pub fn returned<T: IntoOutputs>() {}

/// What a batch handler returns.
pub fn batch_returned<T: IntoOutcomes>() {}

/// The running handler.
pub fn future<F, Args>(_function: F)
where
    F: Function<Args>,
    F::Returned: Asynchronous + Send + 'static,
{
}
