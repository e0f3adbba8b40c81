//! Retention: deleting what everybody has read.
//!
//! A delete is a write like any other: on PostgreSQL it holds the lock by which readers know that rows may
//! still come. So it is done in small transactions, each of which looks at a bounded number of rows.

mod config;
mod dialect;
mod error;
mod plugin;
mod run;

pub use config::SqlRetentionConfig;
pub(crate) use dialect::RetentionDialect;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) use dialect::{Expired, Expiry};
pub use error::{RetentionError, RetentionErrorKind};
pub use run::{RetentionReport, SqlRetention};
