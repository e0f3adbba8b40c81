//! Subscriptions on their way out.

use std::{mem, sync::Arc};

use rdkafka::{consumer::Consumer as _, error::KafkaResult, topic_partition_list::TopicPartitionList};
use tokio::{sync::oneshot, time::Instant};

use super::Service;
use watermill_core::backend::Failure;

use crate::settle::Shared;

/// A subscription on its way out.
pub(super) struct Unsubscribing {
    pub(super) shared: Arc<Shared>,
    pub(super) done: oneshot::Sender<Result<(), Failure>>,
    /// After this it is not waited for any longer.
    pub(super) deadline: Instant,
    /// How the last commit went; `None` while dead letters are waited for.
    pub(super) committed: Option<Result<(), Failure>>,
}

/// A subscription that has left.
pub(super) struct Left {
    done: oneshot::Sender<Result<(), Failure>>,
    committed: Result<(), Failure>,
    /// After this it is told, gone or not.
    pub(super) deadline: Instant,
}

impl Left {
    pub(super) fn tell(self) {
        // Nobody waits when the subscription was dropped.
        let _ = self.done.send(self.committed);
    }
}

impl Service {
    /// Sees those off who leave, as far as they are: first their dead letters are waited for, then what is
    /// done is committed and the topic left, and when its partitions are given up they are gone.
    pub(super) fn let_go(&mut self) -> Vec<Left> {
        let (now, settled) = (Instant::now(), self.is_settled());
        let mut left_topics = false;
        for leaving in &mut self.unsubscribing {
            let waits = !settled || leaving.shared.rejected() > 0 || !self.retry_commit.is_due(now);
            if leaving.committed.is_some() || waits && now < leaving.deadline {
                continue;
            }
            match self.group.commit_last(self.handle.consumer(), &leaving.shared) {
                // A rebalance that is going on, for one, is over soon.
                Err(_) if self.dead.get().is_none() && Instant::now() < leaving.deadline => {
                    self.retry_commit.failed()
                }
                committed => {
                    leaving.committed = Some(committed);
                    left_topics = true;
                }
            }
        }
        if left_topics && let Err(error) = self.leave() {
            self.report(error);
        }
        let mut left = Vec::new();
        for leaving in mem::take(&mut self.unsubscribing) {
            let gone = leaving.shared.is_empty() || now >= leaving.deadline;
            match leaving.committed {
                Some(committed) if gone => {
                    let Unsubscribing { shared, done, deadline, .. } = leaving;
                    self.group.remove(&shared.topic);
                    self.client.release(&shared.topic);
                    shared.left.cancel();
                    left.push(Left { done, committed, deadline });
                }
                _ => self.unsubscribing.push(leaving),
            }
        }
        left
    }

    /// Leaves the topics whose last commit is made.
    fn leave(&mut self) -> KafkaResult<()> {
        if self.grouped {
            self.topics_changed = true;
            return Ok(());
        }
        let mut partitions = TopicPartitionList::new();
        for leaving in self.unsubscribing.iter().filter(|leaving| leaving.committed.is_some()) {
            for (partition, _) in leaving.shared.watermarks() {
                partitions.add_partition(&leaving.shared.topic, partition);
            }
        }
        self.group.give_up(self.consumer(), &partitions);
        self.consumer().incremental_unassign(&partitions)
    }
}
