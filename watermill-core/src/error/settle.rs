//! [`SettleError`].

use std::{error::Error, fmt};

use super::BoxError;

/// The backend did not confirm that a delivery was settled.
#[derive(Debug)]
pub struct SettleError {
    kind: SettleErrorKind,
    source: Option<BoxError>,
}

/// What became of the delivery instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettleErrorKind {
    /// The subscription did not own the delivery any more (a lost lease, a revoked partition). The
    /// ack was not recorded: the message is or will be delivered to another owner.
    Lost,
    /// The subscription ended before the backend answered. The message may be delivered again.
    Unknown,
    /// The backend could not record it. The message will be delivered again.
    Failed,
}

impl SettleError {
    /// The ownership of the delivery was lost.
    pub fn lost() -> Self {
        Self { kind: SettleErrorKind::Lost, source: None }
    }

    /// The backend never answered.
    pub fn unknown() -> Self {
        Self { kind: SettleErrorKind::Unknown, source: None }
    }

    /// The backend could not record the outcome, because of `source`.
    pub fn failed(source: impl Into<BoxError>) -> Self {
        Self { kind: SettleErrorKind::Failed, source: Some(source.into()) }
    }

    /// What became of the delivery.
    pub fn kind(&self) -> SettleErrorKind {
        self.kind
    }
}

impl fmt::Display for SettleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            SettleErrorKind::Lost => "settle: the delivery is not ours any more, another owner gets it",
            SettleErrorKind::Unknown => "settle: no confirmation, the message may be delivered again",
            SettleErrorKind::Failed => "settle: not recorded, the message will be delivered again",
        })
    }
}

impl Error for SettleError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
