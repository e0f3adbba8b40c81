//! The history of the memory backend can be replayed.

use async_trait::async_trait;

use super::{ReplayLog, ReplayMessage, ReplayPart, ReplayPlace, ReplayRange};
use crate::{
    MemoryBroker,
    error::{SubscribeError, SubscribeErrorKind},
    memory::{BACKEND, Record},
};

/// What the [history](crate::memory::MemoryConfig::history) has; without one, a replay is refused.
#[async_trait]
impl ReplayLog for MemoryBroker {
    fn backend(&self) -> &'static str {
        BACKEND
    }

    async fn locate(&self, topic: &str, range: &ReplayRange) -> Result<Vec<ReplayPart>, SubscribeError> {
        if !self.has_history() {
            let detail = "the broker has no history; set MemoryConfig::history";
            return Err(SubscribeError::new(SubscribeErrorKind::Unsupported, topic).because(detail));
        }
        let located = self.history(topic, |history, end| {
            let at = |place| match place {
                ReplayPlace::Offset(offset) => offset.min(end),
                ReplayPlace::Time(time) => {
                    let found = history.iter().find(|record| record.published_at >= time);
                    found.map_or(end, |record| record.sequence)
                }
            };
            let from = range.from.map_or(0, at);
            vec![ReplayPart { partition: 0, from, until: range.until.map_or(end, at) }]
        });
        located.ok_or_else(|| missing(topic))
    }

    async fn read(
        &self,
        topic: &str,
        part: &ReplayPart,
        limit: usize,
    ) -> Result<Vec<ReplayMessage>, SubscribeError> {
        let read = self.history(topic, |history, _| {
            let first = history.partition_point(|record| record.sequence < part.from);
            let records = history.range(first..).take_while(|record| record.sequence < part.until);
            // Their payloads are in memory already, and shared.
            records.take(limit).map(replayed).collect()
        });
        read.ok_or_else(|| missing(topic))
    }
}

fn missing(topic: &str) -> SubscribeError {
    let detail = "there is no such topic: nothing was published to it";
    SubscribeError::new(SubscribeErrorKind::Topic, topic).because(detail)
}

fn replayed(record: &Record) -> ReplayMessage {
    ReplayMessage {
        offset: record.sequence,
        published_at: Some(record.published_at),
        message: Ok(record.copy()),
    }
}
