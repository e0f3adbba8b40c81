//! [`Context`]: what librdkafka calls back for, on the thread that serves the client.

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
    ClientContext, Statistics,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    topic_partition_list::{Offset, TopicPartitionList},
    types::RDKafkaRespErr,
};
use watermill_core::{
    backend::{Failure, Trouble},
    delivery::Origin,
    error::SettleError,
};

use crate::{
    assigned::{Back, scope},
    error,
    lag::Measured,
    ledger::Ledger,
    log::Log,
    queue::{ClientHandle, Queue},
    settle::Shared,
    silence::Silence,
    topics::Prepared,
    transactions::Owner,
};

/// What the callbacks of a client need.
pub(crate) struct Context {
    registry: Mutex<Registry>,
    /// The client that calls, which owns this.
    client: OnceLock<Weak<ClientHandle>>,
    /// Whether a callback was called: an event that librdkafka handles looks like none from outside.
    handled: AtomicBool,
    /// Whether the group has answered to the topics that this member has told it last.
    settled: AtomicBool,
    /// How many scopes there were so far.
    scopes: AtomicU32,
    request_timeout: Duration,
    pub(crate) silence: Silence,
    pub(crate) log: Log,
    /// The transactions that positions are committed in, if any.
    owner: Option<Arc<Owner>>,
}

#[derive(Default)]
struct Registry {
    /// By topic.
    subscribed: HashMap<String, Subscribed>,
    /// By topic and partition.
    queues: HashMap<(String, i32), Arc<Queue>>,
    measured: HashMap<(String, i32), Measured>,
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

impl Context {
    pub(crate) fn new(request_timeout: Duration, session: Duration, owner: Option<Arc<Owner>>) -> Self {
        Self {
            registry: Mutex::default(),
            client: OnceLock::new(),
            handled: AtomicBool::new(false),
            settled: AtomicBool::new(true),
            scopes: AtomicU32::new(0),
            request_timeout,
            silence: Silence::new(session),
            log: Log::default(),
            owner,
        }
    }

    pub(crate) fn belongs_to(&self, client: &Arc<ClientHandle>) {
        let _ = self.client.set(Arc::downgrade(client));
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a callback was called since the last time.
    pub(crate) fn take_handled(&self) -> bool {
        self.handled.swap(false, Ordering::Relaxed)
    }

    /// The member tells the group its topics, and is to wait for its answer.
    pub(crate) fn unsettle(&self) {
        self.settled.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    fn handled(&self) {
        self.handled.store(true, Ordering::Relaxed);
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

    pub(crate) fn measured(&self, topic: &str, partition: i32) -> Option<Measured> {
        self.lock().measured.get(&(topic.to_owned(), partition)).copied()
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

    /// A queue whose records go the client's way all the same: the topic was made anew.
    fn forget_queue(&self, topic: &str, partition: i32) {
        let forgotten = self.lock().queues.remove(&(topic.to_owned(), partition));
        drop(forgotten);
    }

    /// Commits what is done of these subscriptions with one request, and waits for that: the client tells
    /// nobody how a commit went that was not waited for.
    pub(crate) fn commit<'a>(
        &self,
        consumer: &BaseConsumer<Self>,
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

    /// The log of a partition has gone back: its topic was deleted and made again, or brokers have lost the end
    /// of it. What comes now is read as another log; of what was in hand no word counts any more.
    #[cold]
    pub(crate) fn begin_anew(&self, shared: &Shared, origin: &Origin, partition: i32) {
        let mut begun = None;
        origin.revoke(|| {
            begun = shared.begin_anew(partition, self.next_scope(partition));
            begun.as_ref().map(|back| back.ledger.tokens(back.scope)).unwrap_or_default()
        });
        // Revoked in between.
        let Some(Back { ledger, to, .. }) = begun else { return };
        went_back(shared, partition, &ledger, to);
        ledger.lose(SettleError::lost);
    }

    /// The same where the client has noticed: what was known of the partition is over.
    pub(crate) fn forget(&self, topic: &str, partition: i32, next: i64) {
        self.forget_queue(topic, partition);
        let Some(subscribed) = self.subscribed_to(topic) else { return };
        let Some(ledger) = subscribed.revoke(|shared| shared.revoke(partition)) else { return };
        if ledger.expects().is_some_and(|expected| next < expected) {
            went_back(&subscribed.shared, partition, &ledger, next);
        }
        ledger.lose(SettleError::lost);
    }

    /// Takes partitions from their subscriptions: from here on no word on their deliveries counts. What is
    /// done of them is committed first, unless others have them already.
    pub(crate) fn give_up(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
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
                && self.pair().is_none()
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
    pub(crate) fn give_up_all(&self, consumer: &BaseConsumer<Self>, subscribed: &Subscribed) {
        let mut partitions = TopicPartitionList::new();
        for (partition, _) in subscribed.shared.watermarks() {
            partitions.add_partition(&subscribed.shared.topic, partition);
        }
        self.give_up(consumer, &partitions);
    }

    /// Says where to begin in partitions of which the group has committed nothing.
    fn set_starts(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) {
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

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        why: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        self.handled();
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = if why == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.settled.store(true, Ordering::Relaxed);
            self.set_starts(consumer, partitions);
            self.take_over(
                partitions,
                |_| Ledger::default(),
                || {
                    if cooperative {
                        consumer.incremental_assign(partitions)
                    } else {
                        consumer.assign(partitions)
                    }
                },
            )
        } else {
            self.give_up(consumer, partitions);
            if cooperative { consumer.incremental_unassign(partitions) } else { consumer.unassign() }
        };
        if let Err(error) = done {
            tracing::error!(%error, "a rebalance could not be followed");
            for Subscribed { shared, .. } in self.subscribed() {
                let failure = error::while_reading(error.clone());
                shared.report(failure.explained("a rebalance could not be followed"));
            }
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.handled();
        self.log.line(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.handled();
        self.silence.note(&statistics.brokers);
        let measured = statistics.topics.values().flat_map(|topic| {
            topic.partitions.values().map(|partition| {
                let measured = Measured {
                    oldest: partition.lo_offset,
                    end: partition.ls_offset,
                    committed: partition.committed_offset,
                };
                ((topic.topic.clone(), partition.partition), measured)
            })
        });
        let measured = measured.collect();
        self.lock().measured = measured;
    }

    /// The client's poll returns it too, and subscriptions tell it.
    fn error(&self, error: KafkaError, reason: &str) {
        self.handled();
        self.log.error(&error, reason);
    }
}

fn went_back(shared: &Shared, partition: i32, ledger: &Ledger, to: i64) {
    let (topic, from) = (&*shared.topic, ledger.expects().unwrap_or_default());
    tracing::error!(topic, partition, from, to, "the log of a partition has gone back");
    let detail = format!(
        "partition {partition} has gone back from offset {from} to {to}: its topic was made anew, or brokers have lost \
         the end of it; reading goes on there, and what was in hand is lost"
    );
    shared.report(Failure::because(Trouble::Unavailable, detail));
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
