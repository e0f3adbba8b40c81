//! [`Service`]: the thread that serves a client. It answers librdkafka, commits, joins and leaves topics;
//! records never pass through it.

mod reading;
mod retry;
mod rewind;
mod start;
mod unsubscribing;

use std::{
    cell::OnceCell,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use rdkafka::{
    Message as _,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::BorrowedMessage,
    topic_partition_list::{Offset, TopicPartitionList},
    types::RDKafkaErrorCode as Code,
};
use tokio::time::Instant;

use self::{
    reading::Unread,
    retry::Retry,
    rewind::Rewinding,
    unsubscribing::{Left, Unsubscribing},
};
use watermill_core::backend::{Failure, Trouble};

pub(crate) use self::start::start;

use crate::{
    client::{Client, Command},
    config::KafkaSubscriberConfig,
    context::Context,
    error,
    group::{Group, Subscribed},
    queue::ClientHandle,
    settle::Shared,
};

/// The longest sleep: far below every interval in which librdkafka wants to be polled.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// From how many failed commits in a row on a subscription's health tells of them: a rebalance fails some.
const FAILURES_TOLD: u32 = 3;

/// The longest sleep while a subscription is leaving, whose end is seen by looking.
const SLEEP_LEAVING: Duration = Duration::from_millis(5);

/// How often a client that is kept by records is asked for more before it counts as gone.
const ANSWERS_LEAVING: u32 = 5;

/// How long a client may take to leave its group before it is closed.
const LEAVE_TIME: Duration = Duration::from_secs(3);

pub(crate) struct Service {
    client: Arc<Client>,
    handle: Arc<ClientHandle>,
    group: Arc<Group>,
    grouped: bool,
    commit_interval: Duration,
    discovery_interval: Duration,
    request_timeout: Duration,
    next_commit: Instant,
    /// Nothing is committed before this, be it ever so urgent.
    retry_commit: Retry,
    next_discovery: Instant,
    /// Whether the group is to be told other topics.
    topics_changed: bool,
    retry_topics: Retry,
    /// When the group's answer to the last ones is not waited for any longer.
    settled_by: Instant,
    unsubscribing: Vec<Unsubscribing>,
    rewinding: Vec<Rewinding>,
    /// Nothing is asked for to be read again before this.
    retry_rewind: Retry,
    /// Partitions that are to be read without a group.
    unread: Vec<Unread>,
    retry_read: Retry,
    /// What has ended the client for good.
    dead: OnceCell<KafkaError>,
}

impl Service {
    pub(crate) fn new(
        client: Arc<Client>,
        handle: Arc<ClientHandle>,
        config: &KafkaSubscriberConfig,
        with_outputs: bool,
    ) -> Self {
        let group = client.group.clone();
        let now = Instant::now();
        Self {
            client,
            handle,
            group,
            grouped: config.group.is_some(),
            commit_interval: config.commits_within(with_outputs),
            discovery_interval: config.discovery_interval,
            request_timeout: config.request_timeout,
            next_commit: now,
            retry_commit: Retry::new(now),
            next_discovery: now + config.discovery_interval,
            topics_changed: false,
            retry_topics: Retry::new(now),
            settled_by: now,
            unsubscribing: Vec::new(),
            rewinding: Vec::new(),
            retry_rewind: Retry::new(now),
            unread: Vec::new(),
            retry_read: Retry::new(now),
            dead: OnceCell::new(),
        }
    }

    /// Serves until the last subscription has left.
    pub(crate) fn run(mut self) {
        let _guard = Guard(self.client.clone());
        let mut left = Vec::new();
        loop {
            self.answer();
            self.obey();
            self.rewind();
            self.read();
            self.commit();
            self.discover();
            left.extend(self.let_go());
            self.tell_topics();
            if self.client.close_if_idle() {
                break;
            }
            // Who leaves a client that others use is told at once; who was the last, when it is gone.
            left.drain(..).for_each(Left::tell);
            self.client.notifier.wait(self.sleep());
        }
        self.end(left);
    }

    /// Sees the client off, and tells those who wait for that.
    fn end(self, left: Vec<Left>) {
        self.group.clear();
        if self.handle.is_last() {
            // Closing says goodbye to the group and waits for the answer, which may come behind a rebalance.
            let (gone, going) = mpsc::sync_channel(1);
            let closing = thread::Builder::new().name("kafka-drop".to_owned()).spawn(move || {
                self.handle.release();
                let _ = gone.send(());
            });
            if let (Ok(_), Some(deadline)) = (closing, left.iter().map(|left| left.deadline).max()) {
                let _ = going.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            }
            return left.into_iter().for_each(Left::tell);
        }
        // Records that somebody keeps lie in the client's memory. It leaves the group all the same, as soon
        // as its fetchers have stopped.
        self.consumer().unsubscribe();
        for _ in 0..ANSWERS_LEAVING {
            self.answer();
            self.client.notifier.wait(SLEEP_LEAVING);
        }
        left.into_iter().for_each(Left::tell);
        // A member that is caught in a rebalance has to answer it first, or the group would wait for it; and
        // it is not closed before it has had the time to leave.
        let left_by = Instant::now() + LEAVE_TIME;
        while !self.handle.is_last() || Instant::now() < left_by {
            self.answer();
            self.client.notifier.wait(SLEEP_MAX);
        }
        self.handle.release();
    }

    fn consumer(&self) -> &BaseConsumer<Context> {
        self.handle.consumer()
    }

    fn sleep(&self) -> Duration {
        let longest = match (self.unsubscribing.is_empty(), self.rewinding.is_empty()) {
            (false, _) => SLEEP_LEAVING,
            (true, false) => retry::FIRST,
            (true, true) => SLEEP_MAX,
        };
        let mut next = self.next_commit;
        if self.topics_changed {
            next = next.min(self.retry_topics.at());
        }
        if !self.unread.is_empty() {
            next = next.min(self.retry_read.at());
        }
        next.saturating_duration_since(Instant::now()).min(longest)
    }

    /// Answers everything that librdkafka has to say.
    fn answer(&self) {
        loop {
            match self.consumer().poll(Duration::ZERO) {
                Some(Ok(record)) => self.redirect(&record),
                Some(Err(error)) => self.report(error),
                // A rebalance, for one, was handled, and there may be more.
                None if self.client.context.take_handled() => {}
                None => return,
            }
        }
    }

    /// A record came this way that should lie in its partition's own queue, because the partition that
    /// the queue was split from is another now: the topic was deleted and made again. It is fetched again,
    /// into a queue that is split anew.
    fn redirect(&self, record: &BorrowedMessage<'_>) {
        let (topic, partition) = (record.topic(), record.partition());
        tracing::warn!(topic, partition, offset = record.offset(), "a record came beside its queue");
        let mut ledger = Some(self.group.forget(topic, partition, record.offset()));
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition(topic, partition);
        let offset = Offset::Offset(record.offset());
        let redirected = self.group.take_over(
            &partitions,
            |_| ledger.take().unwrap_or_default(),
            || self.consumer().seek(topic, partition, offset, Duration::ZERO),
        );
        if let Err(error) = redirected {
            self.report(error);
        }
    }

    /// Tells the subscriptions of trouble, and ends them when librdkafka has given up: then the client takes no others.
    fn report(&self, error: KafkaError) {
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        if fatal {
            self.client.retire();
            self.dead.get_or_init(|| error.clone());
        }
        let code = error.rdkafka_error_code();
        // Single connections come and go; the client says so when none is left.
        if matches!(code, Some(Code::BrokerTransportFailure | Code::Resolve | Code::PartitionEOF)) {
            return;
        }
        for Subscribed { shared, .. } in self.group.subscribed() {
            shared.report(error::while_reading(error.clone()));
            if fatal {
                shared.stop_intake();
            }
        }
    }

    fn obey(&mut self) {
        for order in self.client.take_commands() {
            match order {
                // Its command to leave has overtaken it, or is on its way.
                Command::Join(subscribed) if subscribed.shared.has_ended() => {}
                Command::Join(subscribed) => {
                    self.group.insert(subscribed.clone());
                    if let Some(error) = self.dead.get() {
                        // It was on its way when the client died.
                        subscribed.shared.report(error::while_reading(error.clone()));
                        subscribed.shared.stop_intake();
                    } else if self.grouped {
                        self.topics_changed = true;
                    } else {
                        let partitions = 0..subscribed.prepared.partitions;
                        self.unread.push(Unread { subscribed, partitions });
                    }
                }
                Command::Leave(shared, done) => {
                    let deadline = Instant::now() + self.request_timeout;
                    self.unsubscribing.push(Unsubscribing { shared, done, deadline, committed: None });
                }
                Command::Rewind(shared, scopes, done) => {
                    let partitions = self.group.take_back(&shared, &scopes);
                    self.rewinding.push(Rewinding { shared, partitions, _done: done });
                }
            }
        }
    }

    /// Whether the group has answered to the topics that it was told last. While it has not, this member is
    /// told nothing else and does not leave: in the middle of joining librdkafka forgets an id that it was
    /// given, and the group would wait for that member until its session ends.
    fn is_settled(&self) -> bool {
        self.group.is_settled() || Instant::now() >= self.settled_by
    }

    /// Tells the group which topics this member reads, if they have changed.
    fn tell_topics(&mut self) {
        if !self.topics_changed || !self.is_settled() || !self.retry_topics.is_due(Instant::now()) {
            return;
        }
        self.topics_changed = false;
        let leaves = |shared: &Arc<Shared>| {
            self.unsubscribing
                .iter()
                .any(|leaving| leaving.committed.is_some() && Arc::ptr_eq(&leaving.shared, shared))
        };
        let subscribed = self.group.subscribed();
        let topics: Vec<&str> =
            subscribed.iter().filter(|s| !leaves(&s.shared)).map(|s| &*s.shared.topic).collect();
        if topics.is_empty() {
            // It leaves when it ends. To leave twice is once too often for librdkafka: a client that is closed
            // while it is leaving does not say goodbye.
            return subscribed
                .iter()
                .for_each(|subscribed| self.group.give_up_all(self.consumer(), subscribed));
        }
        match self.consumer().subscribe(&topics) {
            Ok(()) => {
                self.settled_by = Instant::now() + self.request_timeout;
                self.group.unsettle();
                self.retry_topics.worked();
            }
            Err(error) => {
                self.topics_changed = self.dead.get().is_none();
                self.retry_topics.failed();
                self.report(error);
            }
        }
    }

    /// Commits when it is time, or when somebody waits for it.
    fn commit(&mut self) {
        let now = Instant::now();
        let subscribed = self.group.subscribed();
        let subscriptions = || subscribed.iter().map(|subscribed| &*subscribed.shared);
        if now < self.next_commit
            && !(self.retry_commit.is_due(now) && subscriptions().any(Shared::is_urgent))
        {
            return;
        }
        self.next_commit = now + self.commit_interval;
        if let Some(together) = self.group.together() {
            if subscriptions().any(Shared::is_uncommitted) {
                together.settled(true);
            }
            // Whoever waits in a hurry has been heard.
            self.retry_commit.pause();
            return;
        }
        if !self.grouped {
            return;
        }
        match self.group.commit(self.consumer(), subscriptions()) {
            Ok(()) => self.retry_commit.worked(),
            // A rebalance that is going on, for one. What is lost by it comes again to the next owner.
            Err(error) => {
                self.client.context.log.error(&error, "what is done could not be committed, trying again");
                self.retry_commit.failed();
                self.next_commit = self.next_commit.min(self.retry_commit.at());
                if self.retry_commit.failures() >= FAILURES_TOLD {
                    let reason =
                        format!("what is done cannot be committed: {}", error::classify(error).text());
                    subscriptions().for_each(|shared| shared.degraded(&reason));
                }
            }
        }
    }
}

/// Sees to it that nobody waits for a thread that has panicked.
struct Guard(Arc<Client>);

impl Drop for Guard {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for order in self.0.close() {
            match order {
                Command::Join(subscribed) => self.0.group.insert(subscribed),
                // Their answer is that there is none.
                Command::Leave(..) | Command::Rewind(..) => {}
            }
        }
        for Subscribed { shared, origin, .. } in self.0.group.subscribed() {
            shared
                .report(Failure::because(Trouble::Refused, "the thread that serves its client has panicked"));
            shared.stop_intake();
            origin.revoke_all();
            shared.left.cancel();
        }
        self.0.group.clear();
    }
}
