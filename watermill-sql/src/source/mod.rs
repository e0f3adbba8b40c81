//! Tables that are not ours, read as a log or worked on as a queue.
//!
//! [`SqlSource`] is what a user says of such a table. At the start it is looked up in the database's catalogue and
//! becomes a [`Mapping`]: the texts that go into statements, and how a row becomes a message. What is ours (positions,
//! leases, claims, dead letters) stays in tables of ours; [`Tables`](crate::topic::Tables) has the names of both.

mod config;
mod dialect;
mod mapping;
mod prepare;

pub use config::{AfterAck, SqlSource};
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) use dialect::{Kind, SourceColumn, SourceRow};
pub(crate) use dialect::{Passed, SourceDialect};
pub(crate) use mapping::{Mapping, Use};
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) use mapping::{PUBLISHED_MS, moment};
#[cfg(feature = "sqlite")]
pub(crate) use prepare::quote;
pub(crate) use prepare::{check_topic, ensure_claims, has_claims, problems, tables_over};
