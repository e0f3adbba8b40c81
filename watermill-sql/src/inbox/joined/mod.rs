//! The ack of a message in the transaction of its step: then no mark is needed. Of a [queue](queue), the row of the message
//! goes; of a [log](log), the group's position moves.

mod log;
mod queue;

use std::time::Duration;

use watermill_core::DeliveryInfo;

use self::{log::LogAck, queue::QueueAck};
use super::{InboxError, InboxErrorKind, Isolation, SqlInboxConfig};
use crate::SqlDatabase;

/// The ack of the deliveries of a step. Dropped, it is none: nothing was recorded, or nobody knows.
pub(super) enum Ack {
    Queue(QueueAck),
    Log(LogAck),
}

impl Ack {
    /// The ack of these deliveries, which are of one subscription.
    ///
    /// # Errors
    ///
    /// For deliveries of a source whose acks cannot be part of a transaction, and for those that are not ours any more.
    pub(super) fn of<D: SqlDatabase>(
        deliveries: &[DeliveryInfo],
        config: &SqlInboxConfig,
    ) -> Result<Self, InboxError> {
        if let Some(ack) = LogAck::of::<D>(deliveries, config.isolation)? {
            return Ok(Self::Log(ack));
        }
        match QueueAck::of(deliveries)? {
            Some(ack) => Ok(Self::Queue(ack)),
            None => {
                let why = "joins_ack: the message does not come from an SqlSubscriber or an SqlQueueSubscriber; without \
                           it a mark is kept";
                Err(InboxError::because(InboxErrorKind::Config, why))
            }
        }
    }

    /// That of its transaction: the position of a log is moved at read committed, whatever the session has.
    pub(super) fn isolation(&self, configured: Isolation) -> Isolation {
        match (self, configured) {
            (Self::Log(_), Isolation::Session) => Isolation::ReadCommitted,
            (_, configured) => configured,
        }
    }

    /// Waits until it may be written, and says for how long the transaction may be silent then, if that is to be bounded.
    ///
    /// # Errors
    ///
    /// Where the deliveries are not ours any more, and where that takes too long.
    pub(super) async fn ready(&mut self, limit: Duration) -> Result<Option<Duration>, InboxError> {
        match self {
            Self::Queue(_) => Ok(None),
            Self::Log(ack) => {
                ack.hold(limit).await?;
                Ok(ack.silence())
            }
        }
    }

    /// What was waited for may be had by others: its transaction was not begun.
    pub(super) fn let_go(&mut self) {
        if let Self::Log(ack) = self {
            ack.let_go();
        }
    }

    /// Writes it into the transaction.
    ///
    /// # Errors
    ///
    /// Where one of the deliveries is not ours any more, and what the database says.
    pub(super) async fn write<D: SqlDatabase>(
        &mut self,
        connection: &mut D::Connection,
        limit: Duration,
    ) -> Result<(), InboxError> {
        match self {
            Self::Queue(ack) => ack.write::<D>(connection, limit).await,
            Self::Log(ack) => ack.write::<D>(connection, limit).await,
        }
    }

    /// The commit is on its way. Dropped now, nobody knows.
    pub(super) fn committing(&mut self) {
        if let Self::Log(ack) = self {
            ack.committing();
        }
    }

    /// It is committed: what the router acks next is acked already.
    pub(super) fn committed(self) {
        match self {
            Self::Queue(ack) => ack.committed(),
            Self::Log(ack) => ack.committed(),
        }
    }

    /// The database has said that the commit was not done.
    pub(super) fn rolled_back(self) {
        if let Self::Log(ack) = self {
            ack.rolled_back();
        }
    }
}

fn lost() -> InboxError {
    let why = "another owner handles the message, or its table is in another database than the inbox's";
    InboxError::because(InboxErrorKind::Lost, why)
}
