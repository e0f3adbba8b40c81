//! The only mapping from native errors to what they mean, and so to errors of the core.

pub(crate) use watermill_core::backend::{Failure, Trouble};

use crate::dialect::Dialect;

/// What a native error means.
pub(crate) fn classify<D: Dialect>(error: sqlx::Error) -> Failure {
    let trouble = match &error {
        sqlx::Error::Database(error) => D::trouble(&**error),
        sqlx::Error::PoolClosed => Trouble::Closed,
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed => Trouble::Unavailable,
        _ => Trouble::Refused,
    };
    let failure = Failure::new(trouble, error);
    match trouble {
        Trouble::Conflict => failure.explained(format!(
            "the transaction cannot go on: roll back and run all of it again{}",
            D::AGAIN
        )),
        _ => failure,
    }
}
