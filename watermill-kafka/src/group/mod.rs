//! [`Group`]: a client's part in its group. It takes partitions over, gives them up, and commits what is done.

mod back;
mod positions;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    consumer::{BaseConsumer, CommitMode, Consumer as _, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    topic_partition_list::{Offset, TopicPartitionList},
};
use watermill_core::{delivery::Origin, error::SettleError};

use crate::{
    assigned::scope,
    context::{Context, Member},
    error,
    ledger::Ledger,
    queue::{ClientHandle, Queue},
    settle::{Shared, Together},
    topics::Prepared,
};

/// A client's part in its group, and its subscriptions.
pub(crate) struct Group {
    registry: Mutex<Registry>,
    /// The client itself.
    client: OnceLock<Weak<ClientHandle>>,
    /// Whether the group has answered to the topics that this member has told it last.
    settled: AtomicBool,
    /// How many scopes there were so far.
    scopes: AtomicU32,
    request_timeout: Duration,
    /// The transactions that positions are committed in, if any.
    together: Option<Arc<dyn Together>>,
}

#[derive(Default)]
struct Registry {
    /// By topic.
    subscribed: HashMap<String, Subscribed>,
    /// By topic and partition.
    queues: HashMap<(String, i32), Arc<Queue>>,
}

/// A subscription, as its client knows it.
#[derive(Clone)]
pub(crate) struct Subscribed {
    pub(crate) shared: Arc<Shared>,
    pub(crate) origin: Origin,
    pub(crate) prepared: Prepared,
}

impl Subscribed {
    /// Takes a partition from the subscription, and tells whoever works for what was out of it.
    pub(crate) fn revoke(&self, take: impl FnOnce(&Shared) -> Option<(u64, Ledger)>) -> Option<Ledger> {
        let mut revoked = None;
        self.origin.revoke(|| {
            let Some((scope, ledger)) = take(&self.shared) else { return Vec::new() };
            let out = ledger.tokens(scope);
            revoked = Some(ledger);
            out
        });
        revoked
    }
}

impl Group {
    pub(crate) fn new(request_timeout: Duration, together: Option<Arc<dyn Together>>) -> Self {
        Self {
            registry: Mutex::default(),
            client: OnceLock::new(),
            settled: AtomicBool::new(true),
            scopes: AtomicU32::new(0),
            request_timeout,
            together,
        }
    }

    pub(crate) fn belongs_to(&self, client: &Arc<ClientHandle>) {
        let _ = self.client.set(Arc::downgrade(client));
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The member tells the group its topics, and is to wait for its answer.
    pub(crate) fn unsettle(&self) {
        self.settled.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    pub(crate) fn insert(&self, subscribed: Subscribed) {
        self.lock().subscribed.insert(subscribed.shared.topic.clone(), subscribed);
    }

    pub(crate) fn remove(&self, topic: &str) -> Option<Subscribed> {
        self.lock().subscribed.remove(topic)
    }

    pub(crate) fn subscribed(&self) -> Vec<Subscribed> {
        self.lock().subscribed.values().cloned().collect()
    }

    fn subscribed_to(&self, topic: &str) -> Option<Subscribed> {
        self.lock().subscribed.get(topic).cloned()
    }

    /// Lets go of the queues, and so of the client.
    pub(crate) fn clear(&self) {
        let queues = std::mem::take(&mut self.lock().queues);
        queues.values().for_each(|queue| queue.wakes(None));
    }

    /// The queue of a partition: the one that it had before, or a new one.
    fn queue(&self, topic: &str, partition: i32) -> Option<Arc<Queue>> {
        let client = self.client.get()?.upgrade()?;
        let mut registry = self.lock();
        let key = (topic.to_owned(), partition);
        if let Some(queue) = registry.queues.get(&key) {
            return Some(queue.clone());
        }
        let queue = Queue::split(&client, topic, partition)?;
        registry.queues.insert(key, queue.clone());
        Some(queue)
    }

    /// Commits what is done of these subscriptions with one request, and waits for that: the client tells
    /// nobody how a commit went that was not waited for.
    pub(crate) fn commit<'a>(
        &self,
        consumer: &BaseConsumer<Context>,
        subscriptions: impl IntoIterator<Item = &'a Shared>,
    ) -> KafkaResult<()> {
        let offsets = uncommitted(subscriptions);
        if offsets.count() == 0 {
            return Ok(());
        }
        consumer.commit(&offsets, CommitMode::Sync)?;
        self.recorded(&offsets);
        Ok(())
    }

    /// Tells the subscriptions what is committed.
    pub(crate) fn recorded(&self, offsets: &TopicPartitionList) {
        for element in offsets.elements() {
            let Offset::Offset(offset) = element.offset() else { continue };
            if let Some(subscribed) = self.subscribed_to(element.topic()) {
                subscribed.shared.committed(element.partition(), offset);
                subscribed.shared.recovered();
            }
        }
    }

    /// Hands partitions to their subscriptions, each with its ledger; `assign` makes them the client's between
    /// the two halves.
    pub(crate) fn take_over(
        &self,
        partitions: &TopicPartitionList,
        mut ledger: impl FnMut(i32) -> Ledger,
        assign: impl FnOnce() -> KafkaResult<()>,
    ) -> KafkaResult<()> {
        let mut ours = Vec::new();
        for element in partitions.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let Some(subscribed) = self.subscribed_to(topic) else { continue };
            match self.queue(topic, partition) {
                Some(queue) => ours.push((subscribed, partition, queue)),
                None => tracing::error!(topic, partition, "the partition has no queue of its own"),
            }
        }
        assign()?;
        for (subscribed, partition, queue) in ours {
            let scope = self.next_scope(partition);
            tracing::debug!(topic = subscribed.shared.topic, partition, "assigned");
            subscribed.shared.assign(partition, scope, queue, ledger(partition));
            subscribed.shared.recovered();
        }
        Ok(())
    }

    fn next_scope(&self, partition: i32) -> u64 {
        scope::new(partition, self.scopes.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
    }

    /// Takes partitions from their subscriptions: from here on no word on their deliveries counts. What is
    /// done of them is committed first, unless others have them already.
    pub(crate) fn give_up(&self, consumer: &BaseConsumer<Context>, partitions: &TopicPartitionList) {
        if !consumer.assignment_lost() {
            self.commit_with_outputs(partitions);
        }
        let (mut offsets, mut ledgers) = (TopicPartitionList::new(), Vec::<Ledger>::new());
        for element in partitions.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let Some(subscribed) = self.subscribed_to(topic) else { continue };
            let Some(ledger) = subscribed.revoke(|shared| shared.revoke(partition)) else { continue };
            tracing::debug!(topic, partition, outstanding = ledger.outstanding(), "revoked");
            if subscribed.shared.commits()
                && self.together.is_none()
                && let Some(offset) = ledger.uncommitted()
            {
                add(&mut offsets, topic, partition, offset);
            }
            ledgers.push(ledger);
        }
        let committed = if offsets.count() == 0 {
            Ok(())
        } else if consumer.assignment_lost() {
            Err(SettleError::lost())
        } else {
            consumer.commit(&offsets, CommitMode::Sync).map_err(|error| {
                tracing::warn!(%error, "what was done of revoked partitions could not be committed and comes again");
                SettleError::failed(error)
            })
        };
        for mut ledger in ledgers {
            if let (Ok(()), Some(offset)) = (&committed, ledger.uncommitted()) {
                ledger.committed(offset);
            }
            ledger.lose(SettleError::lost);
        }
    }

    /// The same for everything that a subscription has.
    pub(crate) fn give_up_all(&self, consumer: &BaseConsumer<Context>, subscribed: &Subscribed) {
        let mut partitions = TopicPartitionList::new();
        for (partition, _) in subscribed.shared.watermarks() {
            partitions.add_partition(&subscribed.shared.topic, partition);
        }
        self.give_up(consumer, &partitions);
    }

    /// Says where to begin in partitions of which the group has committed nothing.
    fn set_starts(&self, consumer: &BaseConsumer<Context>, partitions: &mut TopicPartitionList) {
        let topics =
            self.subscribed().into_iter().filter(|subscribed| !subscribed.prepared.starts.is_empty());
        let starts: HashMap<String, Vec<i64>> =
            topics.map(|subscribed| (subscribed.shared.topic.clone(), subscribed.prepared.starts)).collect();
        if starts.is_empty() || partitions.count() == 0 {
            return;
        }
        let committed = match consumer.committed_offsets(partitions.clone(), self.request_timeout) {
            Ok(committed) => committed,
            Err(error) => {
                // Then librdkafka asks again, and begins with the oldest: too much rather than too little.
                tracing::warn!(%error, "the group's position is unknown");
                return;
            }
        };
        let mut begun = TopicPartitionList::new();
        for element in committed.elements().iter().filter(|element| element.offset() == Offset::Invalid) {
            let (topic, partition) = (element.topic(), element.partition());
            let start = starts.get(topic).zip(usize::try_from(partition).ok());
            let Some(start) = start.and_then(|(starts, at)| starts.get(at)) else { continue };
            let start = Offset::Offset(*start);
            if partitions.set_partition_offset(topic, partition, start).is_ok() {
                let _ = begun.add_partition_offset(topic, partition, start);
            }
        }
        // Noted at once, so that a member that dies before its first ack leaves no gap.
        if begun.count() > 0
            && let Err(error) = consumer.commit(&begun, CommitMode::Async)
        {
            tracing::warn!(%error, "the group's first position could not be noted");
        }
    }
}

impl Member for Group {
    fn assigned(
        &self,
        consumer: &BaseConsumer<Context>,
        partitions: &mut TopicPartitionList,
    ) -> KafkaResult<()> {
        self.settled.store(true, Ordering::Relaxed);
        self.set_starts(consumer, partitions);
        let assign = || {
            if is_cooperative(consumer) {
                consumer.incremental_assign(partitions)
            } else {
                consumer.assign(partitions)
            }
        };
        self.take_over(partitions, |_| Ledger::default(), assign)
    }

    fn revoked(&self, consumer: &BaseConsumer<Context>, partitions: &TopicPartitionList) -> KafkaResult<()> {
        self.give_up(consumer, partitions);
        if is_cooperative(consumer) { consumer.incremental_unassign(partitions) } else { consumer.unassign() }
    }

    fn failed(&self, error: &KafkaError) {
        for Subscribed { shared, .. } in self.subscribed() {
            let failure = error::while_reading(error.clone());
            shared.report(failure.explained("a rebalance could not be followed"));
        }
    }
}

fn is_cooperative(consumer: &BaseConsumer<Context>) -> bool {
    matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative)
}

fn uncommitted<'a>(subscriptions: impl IntoIterator<Item = &'a Shared>) -> TopicPartitionList {
    let mut offsets = TopicPartitionList::new();
    for shared in subscriptions {
        for (partition, offset) in shared.uncommitted() {
            add(&mut offsets, &shared.topic, partition, offset);
        }
    }
    offsets
}

fn add(offsets: &mut TopicPartitionList, topic: &str, partition: i32, offset: i64) {
    let added = offsets.add_partition_offset(topic, partition, Offset::Offset(offset));
    added.expect("an offset that was read can be committed");
}
