//! The only mapping from native errors to what they mean, and so to errors of the core. What the databases say has
//! its classes in each one's own `errors.rs`.

pub(crate) use watermill_core::backend::{Failure, Trouble};

use crate::dialect::Dialect;

/// What is said of an error that nobody here knows.
const UNKNOWN: &str = "the database says what is not known here, so it is tried again, with growing waits";

/// What a native error means. What is not known passes, perhaps: whoever takes that for final ends something that
/// could go on, and whoever tries again in vain says so each time.
pub(crate) fn classify<D: Dialect>(error: sqlx::Error) -> Failure {
    let error = match error {
        sqlx::Error::InvalidArgument(why) => return Failure::because(Trouble::Message, why),
        error => error,
    };
    let trouble = match &error {
        sqlx::Error::Database(error) => D::trouble(&**error),
        sqlx::Error::PoolClosed => Some(Trouble::Closed),
        sqlx::Error::Configuration(_) => Some(Trouble::Config),
        sqlx::Error::Encode(_) => Some(Trouble::Message),
        // What comes of a table that somebody alters meanwhile.
        sqlx::Error::TypeNotFound { .. }
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::RowNotFound => Some(Trouble::Unavailable),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed => Some(Trouble::Unavailable),
        _ => None,
    };
    let remedy = error.as_database_error().and_then(D::explain);
    let failure = Failure::new(trouble.unwrap_or(Trouble::Unavailable), error);
    if let Some(remedy) = remedy {
        return failure.explained(remedy.to_owned());
    }
    match trouble {
        Some(Trouble::Conflict) => failure.explained(format!(
            "the transaction cannot go on: roll back and run all of it again{}",
            D::AGAIN
        )),
        Some(_) => failure,
        None => failure.explained(UNKNOWN),
    }
}
