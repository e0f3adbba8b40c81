//! Partitions that are read again, for what was made of their records was not committed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rdkafka::{
    consumer::Consumer as _,
    error::KafkaResult,
    topic_partition_list::{Offset, TopicPartitionList},
};
use tokio::{sync::oneshot, time::Instant};

use super::Service;
use crate::{ledger::Reread, settle::Shared};

/// Partitions of a subscription that are to be read again.
pub(super) struct Rewinding {
    pub(super) shared: Arc<Shared>,
    pub(super) partitions: HashMap<i32, Reread>,
    pub(super) _done: oneshot::Sender<()>,
}

impl Service {
    /// Reads partitions again whose outputs were not committed.
    pub(super) fn rewind(&mut self) {
        if !self.retry_rewind.is_due(Instant::now()) {
            return;
        }
        while let Some(mut again) = self.rewinding.pop() {
            if let Err(error) = self.rewind_partitions(&mut again) {
                self.rewinding.push(again);
                self.retry_rewind.failed();
                return self.report(error);
            }
            self.retry_rewind.worked();
        }
    }

    fn rewind_partitions(&self, again: &mut Rewinding) -> KafkaResult<()> {
        let topic = &*again.shared.topic;
        let assigned = self.consumer().assignment()?;
        let mut partitions = TopicPartitionList::new();
        for partition in again.partitions.keys() {
            // It may have been given up meanwhile, and have come back even.
            if assigned.find_partition(topic, *partition).is_some() && !again.shared.has(*partition) {
                partitions.add_partition(topic, *partition);
            }
        }
        if partitions.count() == 0 {
            return Ok(());
        }
        let committed = self.consumer().committed_offsets(partitions.clone(), self.request_timeout)?;
        // Without the group's word on each they would be read from too far back, and counted twice.
        committed.elements().iter().try_for_each(|element| element.error())?;
        let mut ledgers = HashMap::new();
        let mut starts = Vec::new();
        for element in committed.elements() {
            let Some(read) = again.partitions.remove(&element.partition()) else { continue };
            ledgers.insert(element.partition(), read.ledger);
            let start = match element.offset() {
                Offset::Offset(offset) if read.end.is_none_or(|end| offset <= end) => offset,
                _ => read.start.expect("something of the partition was handed out"),
            };
            starts.push((element.partition(), Offset::Offset(start)));
        }
        let seek = || {
            // What was fetched before is told from what comes now by librdkafka.
            let mut starts = starts.iter();
            starts.try_for_each(|(partition, start)| {
                self.consumer().seek(topic, *partition, *start, Duration::ZERO)
            })
        };
        let ledger = |partition| ledgers.remove(&partition).unwrap_or_default();
        if let Err(error) = self.group.take_over(&partitions, ledger, seek) {
            tracing::warn!(%error, topic, "partitions could not be read again, they are somebody else's now");
        }
        Ok(())
    }
}
