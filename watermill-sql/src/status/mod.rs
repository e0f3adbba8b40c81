//! Status without a subscriber: what a command line, a dashboard or an alarm asks.

mod dialect;
mod replay;
mod report;
mod sql_status;

pub(crate) use dialect::StatusDialect;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) use dialect::{Backlog, COUNTED_MAX, GroupRow, PEEKED_BYTES_MAX, Peeked, QueueCounts};
pub use report::{Count, GroupStatus, LogStatus, OwnerStatus, PeekedMessage, QueueStatus, WriterStatus};
pub use sql_status::SqlStatus;
