//! [`within`]: no statement is waited for without an end.

use std::time::Duration;

use tokio::time::timeout;

use crate::error::{Failure, Trouble};

/// How long it may take to look at the tables of a topic, and to make them. To change one that has rows may take longer.
pub(crate) const PREPARE_MAX: Duration = Duration::from_secs(10);
/// How long a change of a table waits for whoever has it locked, in seconds: everybody else waits behind it.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) const LOCK_SECS_MAX: u32 = 10;

/// Waits for the database for so long at most: a connection may be half open, a table locked. What was asked for
/// may still be done.
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        let why = format!("the database did not answer within {limit:?}");
        Err(Failure::because(Trouble::Timeout, why))
    })
}
