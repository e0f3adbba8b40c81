//! Partitions that are read without a group.

use std::ops::Range;

use rdkafka::{
    consumer::Consumer as _,
    error::KafkaResult,
    topic_partition_list::{Offset, TopicPartitionList},
};
use tokio::time::Instant;

use super::Service;
use crate::{
    group::Subscribed,
    ledger::Ledger,
    topics::{self, Found},
};

/// Partitions of a subscription without a group that are to be read.
pub(super) struct Unread {
    pub(super) subscribed: Subscribed,
    pub(super) partitions: Range<i32>,
}

impl Service {
    /// Reads partitions without a group that are not read yet.
    pub(super) fn read(&mut self) {
        if !self.retry_read.is_due(Instant::now()) {
            return;
        }
        while let Some(unread) = self.unread.pop() {
            if unread.subscribed.shared.has_ended() {
                continue;
            }
            if let Err(error) = self.read_partitions(&unread) {
                self.unread.push(unread);
                self.retry_read.failed();
                return self.report(error);
            }
            self.retry_read.worked();
        }
    }

    fn read_partitions(&self, Unread { subscribed, partitions }: &Unread) -> KafkaResult<()> {
        let topic = &*subscribed.shared.topic;
        let mut assigned = TopicPartitionList::new();
        for partition in partitions.clone() {
            let start = usize::try_from(partition).ok().and_then(|at| subscribed.prepared.starts.get(at));
            let start = start.map_or(Offset::Beginning, |start| Offset::Offset(*start));
            assigned.add_partition_offset(topic, partition, start)?;
        }
        let assign = || self.consumer().incremental_assign(&assigned);
        self.group.take_over(&assigned, |_| Ledger::default(), assign)
    }

    /// Looks for partitions that were added to topics that are read without a group.
    pub(super) fn discover(&mut self) {
        if self.grouped || Instant::now() < self.next_discovery {
            return;
        }
        self.next_discovery = Instant::now() + self.discovery_interval;
        for subscribed in self.group.subscribed() {
            let known = subscribed.prepared.partitions;
            match topics::partitions(self.consumer().client(), &subscribed.shared.topic, self.request_timeout)
            {
                Ok(Found::Ready(partitions)) if partitions > known => {
                    let mut subscribed = subscribed;
                    subscribed.prepared.partitions = partitions;
                    self.group.insert(subscribed.clone());
                    self.unread.push(Unread { subscribed, partitions: known..partitions });
                }
                Ok(_) => {}
                Err(error) => self.report(error),
            }
        }
    }
}
