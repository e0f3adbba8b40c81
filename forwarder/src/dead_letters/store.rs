//! [`LetterStore`]: where dead letters are.

use async_trait::async_trait;
use watermill_core::{Message, error::BoxError};

use super::Letter;

/// What went wrong with a store.
pub type StoreError = BoxError;

/// A place that holds dead letters.
#[async_trait]
pub trait LetterStore: Send + Sync {
    /// The letters behind a place, the oldest first, at most `limit`. None are left when there are none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot be read.
    async fn look(&self, after: Option<i64>, limit: usize) -> Result<Vec<Letter>, StoreError>;

    /// The place of the newest letter there is.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot be read.
    async fn newest(&self) -> Result<Option<i64>, StoreError>;

    /// Removes letters, and publishes to `topic` what is given for them, so that neither is lost. Says how many were
    /// still there; of one that was not, nothing is published.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it was not done, or may not have been.
    async fn take(&self, takes: Vec<Take>, topic: &str) -> Result<u64, StoreError>;
}

/// A letter that is to be removed.
#[derive(Clone, Debug)]
pub struct Take {
    /// Where it is.
    pub place: i64,
    /// What is to be published for it, if anything.
    pub publish: Option<Message>,
}
