//! [`Receipts`]: those who wait for the same record.

use crate::{delivery::Receipt, error::SettleError};

/// Receipts that are completed together, once what they stand for is recorded or cannot be. Dropped, they say
/// that nobody knows.
#[derive(Debug, Default)]
pub struct Receipts(Vec<Receipt>);

impl Receipts {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// It is recorded.
    pub fn recorded(self) {
        self.complete(|| Ok(()));
    }

    /// It is not, and will not be.
    pub fn fail(self, why: impl Fn() -> SettleError) {
        self.complete(|| Err(why()));
    }

    fn complete(self, result: impl Fn() -> Result<(), SettleError>) {
        self.0.into_iter().for_each(|receipt| receipt.complete(result()));
    }
}

impl Extend<Receipt> for Receipts {
    fn extend<T: IntoIterator<Item = Receipt>>(&mut self, receipts: T) {
        self.0.extend(receipts);
    }
}

impl IntoIterator for Receipts {
    type Item = Receipt;
    type IntoIter = std::vec::IntoIter<Receipt>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
