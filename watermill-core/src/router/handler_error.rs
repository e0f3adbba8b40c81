//! [`HandlerError`]: what may go wrong in a handler.

use crate::error::BoxError;

/// The error of a handler, or of a service that a layer makes: whatever is `Into<BoxError>`.
///
/// Those are the types that implement [`std::error::Error`] and can be sent to other threads,
/// [`BoxError`] itself, and text.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a handler",
    label = "not `Into<BoxError>`",
    note = "implement `std::error::Error` for it, and let it be `Send`, `Sync` and `'static`",
    note = "where any error will do, return `watermill_core::error::BoxError`: unlike `Box<dyn Error>`, it is `Send` and `Sync`"
)]
pub trait HandlerError: Into<BoxError> {}

#[diagnostic::do_not_recommend]
impl<E: Into<BoxError>> HandlerError for E {}
