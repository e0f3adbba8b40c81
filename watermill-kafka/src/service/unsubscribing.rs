//! Subscriptions on their way out.

use std::mem;

use rdkafka::{consumer::Consumer as _, error::KafkaResult, topic_partition_list::TopicPartitionList};
use tokio::time::Instant;

use super::{
    Service,
    pending::{Left, Unsubscribing},
};

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
