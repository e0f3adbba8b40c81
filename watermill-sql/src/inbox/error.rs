//! [`InboxError`]: why a step was not committed.

use std::{error::Error, fmt};

use watermill_core::error::{BoxError, Nack};

use crate::error::{Failure, Trouble};

/// A step that was not committed, for another reason than the handler's own error. What it had written is rolled back.
#[derive(Debug)]
pub struct InboxError {
    kind: InboxErrorKind,
    detail: Option<String>,
    source: Option<BoxError>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InboxErrorKind {
    /// The database could not be reached, was busy, or another transaction has had the same message in hand for too long.
    /// The message is nacked and comes again. Where the commit was not answered it may have been done: then the message is
    /// a duplicate when it comes.
    Unavailable,
    /// The transaction was rolled back by the database, because others were in its way, as often as it was run. The
    /// failure policy decides.
    Conflict,
    /// The delivery was lost: another owner has the message. It is nacked, which is ignored.
    Lost,
    /// The database has refused the step at its commit, a deferred constraint for instance, or a statement of the handler
    /// had failed and the handler went on. The failure policy decides.
    Refused,
    /// The step cannot be taken as it is configured: no name of a consumer, no table of marks and none to be made, no
    /// permission. The message is nacked.
    Config,
}

impl InboxError {
    pub(super) fn because(kind: InboxErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: Some(detail.into()), source: None }
    }

    /// What has failed around the handler, which is no fault of the message.
    pub(super) fn around(failure: Failure) -> Self {
        let kind = if failure.is_passing() { InboxErrorKind::Unavailable } else { InboxErrorKind::Config };
        Self::of(kind, failure)
    }

    /// What has failed to write the ack, which is no fault of the message either; but a transaction that others were in the
    /// way of is run again, and then is the policy's.
    pub(super) fn at_the_ack(failure: Failure) -> Self {
        match failure.trouble() {
            Trouble::Conflict => Self::of(InboxErrorKind::Conflict, failure),
            _ => Self::around(failure),
        }
    }

    /// What has failed at the end, which may be what the handler has written.
    pub(super) fn at_the_end(failure: Failure) -> Self {
        let kind = match failure.trouble() {
            Trouble::Conflict => InboxErrorKind::Conflict,
            trouble if trouble.is_passing() => InboxErrorKind::Unavailable,
            _ => InboxErrorKind::Refused,
        };
        Self::of(kind, failure)
    }

    fn of(kind: InboxErrorKind, failure: Failure) -> Self {
        let (detail, source) = failure.into_parts();
        Self { kind, detail, source }
    }

    /// What is wrong.
    pub fn kind(&self) -> InboxErrorKind {
        self.kind
    }

    /// Whether another try may succeed without anybody having changed anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, InboxErrorKind::Unavailable | InboxErrorKind::Conflict | InboxErrorKind::Lost)
    }

    /// As the error of a handler: what is no fault of the message is marked so.
    pub(super) fn boxed(self) -> BoxError {
        match self.kind {
            InboxErrorKind::Unavailable | InboxErrorKind::Lost | InboxErrorKind::Config => {
                Nack::new(self).into()
            }
            InboxErrorKind::Conflict | InboxErrorKind::Refused => self.into(),
        }
    }
}

impl fmt::Display for InboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("handle the message in one transaction: ")?;
        f.write_str(match self.kind {
            InboxErrorKind::Unavailable => "the database is unavailable",
            InboxErrorKind::Conflict => "other transactions were in its way",
            InboxErrorKind::Lost => "the delivery was lost",
            InboxErrorKind::Refused => "the database refused",
            InboxErrorKind::Config => "it is not set up",
        })?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl Error for InboxError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use watermill_core::error::find;

    use super::*;

    #[test]
    fn an_ack_that_others_were_in_the_way_of_is_the_policys_and_any_other_is_nacked() {
        for (trouble, kind) in [
            (Trouble::Conflict, InboxErrorKind::Conflict),
            (Trouble::Timeout, InboxErrorKind::Unavailable),
            (Trouble::Refused, InboxErrorKind::Config),
        ] {
            let error = InboxError::at_the_ack(Failure::because(trouble, "no"));
            assert_eq!(error.kind(), kind);
            let is_nack = find::<Nack>(&*error.boxed()).is_some();
            assert_eq!(is_nack, kind != InboxErrorKind::Conflict);
        }
    }
}
