//! The table as a queue: every relay claims rows that no other has, publishes and deletes them, in one transaction.

use sqlx::Connection as _;
use tokio::time::sleep;

use super::{BATCH, Destination, IDLE, Published, ids};
use crate::{
    Result,
    database::{ConnectionOf, Database},
};

/// A row that has failed as often is set aside.
const ATTEMPTS: u32 = 5;

pub(super) async fn relay<D: Database>(mut connection: ConnectionOf<D>, destination: &Destination) -> Result {
    D::execute(&mut connection, D::BEFORE_CLAIMING.to_owned()).await?;
    loop {
        let mut tx = connection.begin().await?;
        let claim = format!(
            "select id, k, payload from outbox where attempts < {ATTEMPTS} order by id limit {BATCH} \
             for update skip locked"
        );
        let rows = D::records(&mut tx, claim).await?;
        if rows.is_empty() {
            tx.rollback().await?;
            sleep(IDLE).await;
            continue;
        }
        let published = destination.publish(&rows).await;
        let accepted: Vec<String> = ids(&rows, &published, Published::Accepted).collect();
        if !accepted.is_empty() {
            D::execute(&mut tx, format!("delete from outbox where id in ({})", accepted.join(", "))).await?;
        }
        let refused: Vec<String> = ids(&rows, &published, Published::Refused).collect();
        if !refused.is_empty() {
            let refused = refused.join(", ");
            D::execute(&mut tx, format!("update outbox set attempts = attempts + 1 where id in ({refused})"))
                .await?;
        }
        tx.commit().await?;
    }
}
