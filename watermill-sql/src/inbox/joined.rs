//! The ack of a queue's message in the transaction of its step: then no mark is needed, for the row of the message is the
//! mark.

use std::sync::Arc;

use watermill_core::{
    DeliveryInfo,
    backend::{Settler, Shared},
    delivery::Token,
};

use super::{InboxError, InboxErrorKind, open::Open};
use crate::{
    SqlDatabase,
    connection::within,
    error::classify,
    queue::{Claim, Claims, Queue},
};

/// What has claimed the messages of a queue.
type Source = Shared<Claims>;

/// An ack that is part of a transaction.
pub(super) struct Joined {
    source: Arc<Source>,
    token: Token,
    queue: Arc<Queue>,
    claim: Claim,
}

impl Joined {
    /// The claim of a delivery.
    ///
    /// # Errors
    ///
    /// For one that is not of a queue whose rows can be acked one by one.
    fn of(delivery: &DeliveryInfo) -> Result<Self, InboxError> {
        let settler = delivery.origin().settler::<Settler<Source>>().ok_or_else(|| {
            let why =
                "joins_ack: the message does not come from an SqlQueueSubscriber; without it a mark is kept";
            InboxError::because(InboxErrorKind::Config, why)
        })?;
        let (source, token) = (settler.source().clone(), delivery.token());
        let claimed = source.lock().ledger.joinable(token);
        let (queue, claim) = claimed.map_err(|why| match why {
            Some(why) => InboxError::because(InboxErrorKind::Config, why),
            None => InboxError::because(InboxErrorKind::Lost, "another owner handles the message"),
        })?;
        Ok(Self { source, token, queue, claim })
    }

    /// It is committed: what the router acks next is acked already.
    pub(super) fn committed(self) {
        self.source.lock().ledger.joined(self.token);
    }
}

impl<D: SqlDatabase> Open<D> {
    /// Acks these deliveries: their rows are deleted or marked, if they are still theirs.
    pub(super) async fn ack(&mut self, deliveries: &[DeliveryInfo]) -> Result<Vec<Joined>, InboxError> {
        if deliveries.is_empty() {
            let why = "joins_ack: the message does not come from a subscription; without it a mark is kept";
            return Err(InboxError::because(InboxErrorKind::Config, why));
        }
        let joined = deliveries.iter().map(Joined::of).collect::<Result<Vec<_>, _>>()?;
        let limit = self.shared.config.timeout;
        // All of a batch are of one subscription.
        let claims: Vec<Claim> = joined.iter().map(|joined| joined.claim).collect();
        let queue = joined[0].queue.clone();
        let ours = within(limit, async {
            D::finish_rows(self.connection(), &queue, &claims).await.map_err(classify::<D>)
        });
        let ours = ours.await.map_err(InboxError::around)?;
        match claims.iter().all(|claim| ours.contains(&claim.offset)) {
            true => Ok(joined),
            false => Err(InboxError::because(InboxErrorKind::Lost, "another owner handles the message")),
        }
    }
}
