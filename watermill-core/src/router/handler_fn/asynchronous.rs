//! [`Asynchronous`]: a future, for whoever forgot the `async` of an `async fn`.

use std::future::Future;

/// What a handler function returns: any future.
///
/// It says what [`Future`] says, with the words of a handler where a function is not async.
#[diagnostic::on_unimplemented(
    message = "a handler is asynchronous, and this function returns `{Self}`",
    label = "not an `async fn`",
    note = "make it an `async fn`, or let it return a future"
)]
pub trait Asynchronous: Future<Output = Self::Returned> {
    /// What the future resolves to.
    type Returned;
}

#[diagnostic::do_not_recommend]
impl<F: Future> Asynchronous for F {
    type Returned = F::Output;
}
