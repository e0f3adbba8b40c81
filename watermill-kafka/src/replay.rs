//! A part of each partition can be replayed.

use std::{
    ops::Range,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use watermill_core::{
    backend::{Failure, Trouble},
    components::{ReplayLog, ReplayMessage, ReplayPart, ReplayPlace, ReplayRange},
    error::SubscribeError,
};

use crate::{
    BACKEND, KafkaStatus,
    config::check_topic,
    peek,
    topics::{self, Scout},
};

/// Partitions are read by assignment, without a group. Each thousand messages of a partition cost what a
/// [look](KafkaStatus::peek) costs: a client and two small requests beside the fetch.
#[async_trait]
impl ReplayLog for KafkaStatus {
    fn backend(&self) -> &'static str {
        BACKEND
    }

    async fn locate(&self, topic: &str, range: &ReplayRange) -> Result<Vec<ReplayPart>, SubscribeError> {
        self.parts(topic, range).await.map_err(|failure| failure.subscribing(topic))
    }

    async fn read(
        &self,
        topic: &str,
        part: &ReplayPart,
        limit: usize,
    ) -> Result<Vec<ReplayMessage>, SubscribeError> {
        let partition = i32::try_from(part.partition).unwrap_or(i32::MAX);
        let from = i64::try_from(part.from).unwrap_or(i64::MAX);
        let peeked = self.peek(topic, partition, from, limit).await?;
        Ok(peeked
            .into_iter()
            .map(|peeked| ReplayMessage {
                offset: peeked.offset.unsigned_abs(),
                published_at: peeked.published_at,
                message: Ok(peeked.message),
            })
            .collect())
    }
}

impl KafkaStatus {
    async fn parts(&self, topic: &str, range: &ReplayRange) -> Result<Vec<ReplayPart>, Failure> {
        check_topic(topic).map_err(|problem| Failure::because(Trouble::Topic, problem))?;
        let scout = Scout::new(&self.config, peek::GROUP)?;
        let partitions = scout.partitions(topic).await?.ok_or_else(|| topics::missing(topic))?;
        let watermarks = scout.watermarks(topic, partitions).await?;
        let logs: Vec<Range<i64>> = watermarks.into_iter().map(|(oldest, end)| oldest..end).collect();
        let from = match range.from {
            Some(place) => places(&scout, topic, &logs, place).await?,
            None => logs.iter().map(|log| log.start).collect(),
        };
        let until = match range.until {
            Some(place) => places(&scout, topic, &logs, place).await?,
            None => logs.iter().map(|log| log.end).collect(),
        };
        let part = |(partition, (from, until)): (u32, (i64, i64))| {
            let (from, until) = (from.unsigned_abs(), until.unsigned_abs());
            ReplayPart { partition, from, until }
        };
        Ok((0..).zip(from.into_iter().zip(until)).map(part).collect())
    }
}

/// Where a place is in each partition, between its beginning and its end.
async fn places(
    scout: &Scout,
    topic: &str,
    logs: &[Range<i64>],
    place: ReplayPlace,
) -> Result<Vec<i64>, Failure> {
    let within = |log: &Range<i64>, offset: i64| offset.clamp(log.start, log.end);
    match place {
        ReplayPlace::Offset(offset) => {
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            Ok(logs.iter().map(|log| within(log, offset)).collect())
        }
        ReplayPlace::Time(time) => {
            let partitions = i32::try_from(logs.len()).unwrap_or(i32::MAX);
            let found = scout.offsets_at(topic, partitions, millis(time)).await?;
            Ok(logs.iter().zip(found).map(|(log, at)| at.map_or(log.end, |at| within(log, at))).collect())
        }
    }
}

/// Milliseconds since the Unix epoch, as exact as Kafka's times are.
fn millis(time: SystemTime) -> i64 {
    let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(millis).unwrap_or(i64::MAX)
}
