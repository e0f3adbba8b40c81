//! Tables that are not ours, read as a log or worked on as a queue.
//!
//! [`SqlSource`] is what a user says of such a table. At the start it is looked up in the database's catalogue and
//! becomes a [`Mapping`]: the texts that go into statements, and how a row becomes a message. What is ours (positions,
//! leases, claims, dead letters) stays in tables of ours; [`Tables`](crate::topic::Tables) has the names of both.

mod config;
mod dialect;
mod mapping;

pub use config::{AfterAck, SqlSource};
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) use dialect::{Kind, SourceColumn, SourceRow};
pub(crate) use dialect::{Passed, SourceDialect};
#[cfg(feature = "sqlite")]
pub(crate) use mapping::quote;
pub(crate) use mapping::{Mapping, Use};

use crate::error::{Failure, Trouble};

/// Refuses a topic that the source does not have.
pub(crate) fn check_topic(source: Option<&SqlSource>, topic: &str) -> Result<(), Failure> {
    match source {
        Some(source) if source.topic_name() != topic => Err(Failure::because(
            Trouble::Topic,
            format!("the subscriber's source has one topic, {:?}", source.topic_name()),
        )),
        _ => Ok(()),
    }
}
