//! The table as a log: one relay at a time, by a lock, reads what is above the last id, publishes it and notes the new
//! last id.

use tokio::time::sleep;

use super::{AFTER_ERROR, BATCH, Destination, IDLE, Published};
use crate::{
    Result,
    database::{ConnectionOf, Database},
};

pub(super) async fn relay<D: Database>(mut connection: ConnectionOf<D>, destination: &Destination) -> Result {
    while !D::take_lock(&mut connection).await? {
        sleep(AFTER_ERROR).await;
    }
    let query = "select last_id from outbox_position where name = 'relay'".to_owned();
    let mut last = D::number(&mut connection, query).await?.unwrap_or_default();
    loop {
        let query = format!("select id, k, payload from outbox where id > {last} order by id limit {BATCH}");
        let mut rows = D::records(&mut connection, query).await?;
        if rows.is_empty() {
            sleep(IDLE).await;
            continue;
        }
        // What failed is published again, with what is behind it.
        while !rows.is_empty() {
            let published = destination.publish(&rows).await;
            let failed = published.iter().position(|one| *one == Published::Failed);
            let done: Vec<_> = rows.drain(..failed.unwrap_or(rows.len())).collect();
            if let Some((id, ..)) = done.last() {
                last = *id;
                let store = format!("update outbox_position set last_id = {last} where name = 'relay'");
                D::execute(&mut connection, store).await?;
            }
            if failed.is_some() {
                sleep(AFTER_ERROR).await;
            }
        }
    }
}
