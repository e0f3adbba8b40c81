//! A part of a log can be replayed.

use async_trait::async_trait;
use watermill_core::{
    backend::{Failure, Trouble},
    components::{ReplayLog, ReplayMessage, ReplayPart, ReplayPlace, ReplayRange},
    error::SubscribeError,
};

use super::{
    PeekedMessage, SqlStatus,
    sql_status::{in_order, layout, peek},
};
use crate::{Layout, SqlDatabase, error::classify, topic::Tables};

/// Rows are read in the order of their offsets, whatever the group of a reader would wait for: one whose transaction is open
/// while the replay passes is not in it. A place by time is found in that order too, with a few dozen rows looked at; where
/// transactions have overlapped it is as exact as they have been. Queues are refused: they have no history.
#[async_trait]
impl<D: SqlDatabase> ReplayLog for SqlStatus<D> {
    fn backend(&self) -> &'static str {
        "sql"
    }

    async fn locate(&self, topic: &str, range: &ReplayRange) -> Result<Vec<ReplayPart>, SubscribeError> {
        let located = self.ask(async |connection: &mut D::Connection| {
            let tables = self.find(connection, topic, in_order).await?;
            if layout::<D>(connection, &tables).await? != Layout::Log {
                let detail = "the topic is a queue, which has no history to replay";
                return Err(Failure::because(Trouble::Unsupported, detail));
            }
            let newest = D::backlog(connection, &tables, 0.into()).await.map_err(classify::<D>)?.newest;
            let end = newest.unwrap_or(0).saturating_add(1);
            let from = match range.from {
                Some(place) => offset_of::<D>(connection, &tables, place, end).await?,
                None => 0,
            };
            let until = match range.until {
                Some(place) => offset_of::<D>(connection, &tables, place, end).await?,
                None => end,
            };
            Ok(vec![ReplayPart { partition: 0, from: from.unsigned_abs(), until: until.unsigned_abs() }])
        });
        located.await.map_err(|failure| failure.subscribing(topic))
    }

    async fn read(
        &self,
        topic: &str,
        part: &ReplayPart,
        limit: usize,
    ) -> Result<Vec<ReplayMessage>, SubscribeError> {
        let after = i64::try_from(part.from).unwrap_or(i64::MAX).saturating_sub(1);
        let peeked = self.peek(topic, after, limit).await?;
        Ok(peeked.into_iter().map(replayed).collect())
    }
}

/// The first offset that is in the place, or behind it; `end` at the most.
async fn offset_of<D: SqlDatabase>(
    connection: &mut D::Connection,
    tables: &Tables,
    place: ReplayPlace,
    end: i64,
) -> Result<i64, Failure> {
    let time = match place {
        ReplayPlace::Offset(offset) => return Ok(i64::try_from(offset).unwrap_or(i64::MAX).min(end)),
        ReplayPlace::Time(time) => time,
    };
    // Everything before `low` was written earlier, and nothing from `high` on.
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low + (high - low) / 2;
        let found = peek::<D>(connection, tables, middle.saturating_sub(1), 1).await?;
        let Some(row) = found.first().filter(|row| row.offset < high) else {
            high = middle;
            continue;
        };
        let Some(written) = row.published_at else {
            let detail =
                "its rows do not say when they were written, so a replay can only begin or end at an offset";
            return Err(Failure::because(Trouble::Unsupported, detail));
        };
        if written < time {
            low = row.offset.saturating_add(1);
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn replayed(peeked: PeekedMessage) -> ReplayMessage {
    let PeekedMessage { offset, published_at, message, unreadable } = peeked;
    let message = match unreadable {
        None => Ok(message),
        Some(why) => Err(why.into()),
    };
    ReplayMessage { offset: offset.unsigned_abs(), published_at, message }
}
