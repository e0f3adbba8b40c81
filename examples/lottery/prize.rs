//! The prize service: hears of a draw, looks the winner up, and sends the prize.

use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use watermill_core::{Handler, Json, Router, State, Subscriber, error::BoxError};

use crate::{broker::Broker, database::Database};

/// Where draws are announced.
pub(crate) const TOPIC: &str = "lottery.concluded";

/// A winner was drawn.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct LotteryConcluded {
    /// Which lottery it was.
    pub(crate) lottery: i64,
}

/// A router with the handler of this service; it takes note of all announcements from now on.
pub(crate) async fn service(broker: &Broker, database: &Database) -> Result<Router<SqlitePool>, BoxError> {
    broker.prizes.initialize(TOPIC).await?;
    // In any order: an event whose winner cannot be found keeps no other winner waiting.
    let handler = Handler::new("prizes", send_prize).from(broker.prizes.clone(), TOPIC).concurrency(4);
    Ok(Router::new().with_state(database.pool.clone()).add(handler))
}

/// Sends the prize. An event may come twice, and is handled as if it came once.
async fn send_prize(
    Json(event): Json<LotteryConcluded>,
    State(database): State<SqlitePool>,
) -> Result<(), BoxError> {
    sqlx::query("insert into announcements (lottery) values (?) on conflict do nothing")
        .bind(event.lottery)
        .execute(&database)
        .await?;
    let prizes = sqlx::query(
        "insert into prizes (lottery, winner) select lottery, winner from winners where lottery = ?
         on conflict do update set winner = excluded.winner",
    )
    .bind(event.lottery)
    .execute(&database)
    .await?;
    if prizes.rows_affected() == 0 {
        // Perhaps the event was faster than the row. It comes again, after a while that grows.
        return Err(format!("find the winner of lottery {}", event.lottery).into());
    }
    Ok(())
}
