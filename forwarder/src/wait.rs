//! Waiting for what may never come.

use tokio::time::{Instant, sleep_until};

/// Waits until then; without a deadline, for ever.
pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
