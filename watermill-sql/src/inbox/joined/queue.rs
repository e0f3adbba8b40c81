//! [`QueueAck`]: rows of a queue that are deleted, or marked, with the commit.

use std::{sync::Arc, time::Duration};

use watermill_core::{
    DeliveryInfo,
    backend::{Settler, Shared},
    delivery::Token,
};

use super::lost;
use crate::{
    SqlDatabase,
    connection::within,
    error::classify,
    inbox::{InboxError, InboxErrorKind},
    queue::{Claim, Claims, Queue},
};

/// What has claimed the messages of a queue.
type Source = Shared<Claims>;

/// The rows of a step's messages.
pub(in crate::inbox) struct QueueAck {
    queue: Arc<Queue>,
    rows: Vec<Row>,
}

struct Row {
    source: Arc<Source>,
    token: Token,
    claim: Claim,
}

impl QueueAck {
    /// The claims of deliveries; `None` where they are not of a queue.
    pub(super) fn of(deliveries: &[DeliveryInfo]) -> Result<Option<Self>, InboxError> {
        let mut of_queue = None;
        let mut rows = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let Some(settler) = delivery.origin().settler::<Settler<Source>>() else { return Ok(None) };
            let (source, token) = (settler.source().clone(), delivery.token());
            let claimed = source.lock().ledger.joinable(token);
            let (queue, claim) = claimed.map_err(|why| match why {
                Some(why) => InboxError::because(InboxErrorKind::Config, why),
                None => lost(),
            })?;
            of_queue.get_or_insert(queue);
            rows.push(Row { source, token, claim });
        }
        Ok(of_queue.map(|queue| Self { queue, rows }))
    }

    /// Deletes or marks the rows, if they are still theirs.
    pub(super) async fn write<D: SqlDatabase>(
        &self,
        connection: &mut D::Connection,
        limit: Duration,
    ) -> Result<(), InboxError> {
        let claims: Vec<Claim> = self.rows.iter().map(|row| row.claim).collect();
        let finished = within(limit, async {
            D::finish_rows(connection, &self.queue, &claims).await.map_err(classify::<D>)
        });
        let ours = finished.await.map_err(InboxError::at_the_ack)?;
        match claims.iter().all(|claim| ours.contains(&claim.offset)) {
            true => Ok(()),
            false => Err(lost()),
        }
    }

    pub(super) fn committed(self) {
        for Row { source, token, .. } in self.rows {
            source.lock().ledger.joined(token);
        }
    }
}
