//! The prize service: hears of a draw, looks the winner up, and sends the prize.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
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
pub(crate) async fn service(
    broker: &Broker,
    database: Arc<dyn Database>,
) -> Result<Router<Arc<dyn Database>>, BoxError> {
    broker.prizes.initialize(TOPIC).await?;
    // In any order: an event whose winner cannot be found keeps no other winner waiting.
    let handler = Handler::new("prizes", send_prize).from(broker.prizes.clone(), TOPIC).concurrency(4);
    Ok(Router::new().with_state(database).add(handler))
}

/// Sends the prize. An event may come twice, and is handled as if it came once.
async fn send_prize(
    Json(event): Json<LotteryConcluded>,
    State(database): State<Arc<dyn Database>>,
) -> Result<(), BoxError> {
    database.note_announcement(event.lottery).await?;
    if !database.send_prize(event.lottery).await? {
        // Perhaps the event was faster than the row. It comes again, after a while that grows.
        return Err(format!("find the winner of lottery {}", event.lottery).into());
    }
    Ok(())
}
