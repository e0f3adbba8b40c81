//! [`Client`]: one client of librdkafka, shared by the subscriptions of a group to different topics.

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;
use watermill_core::backend::Failure;

use crate::{
    context::Context,
    group::{Group, Subscribed},
    notifier::Notifier,
    settle::{Shared, Together},
};

/// How the thread that serves a client is reached. The client ends when the last of its subscriptions
/// has left.
pub(crate) struct Client {
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) context: Arc<Context>,
    pub(crate) group: Arc<Group>,
    counter: Mutex<Counter>,
}

#[derive(Default)]
struct Counter {
    /// The topics of the subscriptions that it serves, or that are on their way to it.
    topics: HashSet<String>,
    commands: Vec<Command>,
    closed: bool,
    /// Whether it has failed for good, and only waits for its subscriptions to leave.
    retired: bool,
}

/// What the thread is asked to do.
pub(crate) enum Command {
    Join(Subscribed),
    /// Commit, leave the topic, and say how the commit went.
    Leave(Arc<Shared>, oneshot::Sender<Result<(), Failure>>),
    /// Read these assignments of partitions again, from what is committed.
    Rewind(Arc<Shared>, Vec<u64>, oneshot::Sender<()>),
}

/// The publisher's half of a pair: whose transactions the positions of all clients of a subscriber are committed in.
pub(crate) trait Owner: Together {
    /// The transactions, without a share in the publisher's life.
    fn transactions(&self) -> Arc<dyn Together>;

    /// Takes a client in whose positions are committed. To be called within a runtime.
    fn join(&self, client: &Arc<Client>);

    /// Why there will be no other transaction, if there will not.
    fn over(&self) -> Option<Failure>;
}

impl Client {
    /// A client with a place for `topic`.
    pub(crate) fn new(
        notifier: Arc<Notifier>,
        context: Arc<Context>,
        group: Arc<Group>,
        topic: &str,
    ) -> Self {
        let counter = Counter { topics: HashSet::from([topic.to_owned()]), ..Counter::default() };
        Self { notifier, context, group, counter: Mutex::new(counter) }
    }

    /// Takes a place for a topic, if there is none yet: of two subscriptions of one topic in a group, each
    /// is a member.
    pub(crate) fn reserve(&self, topic: &str) -> bool {
        let mut counter = self.lock();
        !counter.closed && !counter.retired && counter.topics.insert(topic.to_owned())
    }

    /// It takes no other subscriptions.
    pub(crate) fn retire(&self) {
        self.lock().retired = true;
    }

    /// Gives the place of a topic back.
    pub(crate) fn release(&self, topic: &str) {
        self.lock().topics.remove(topic);
    }

    pub(crate) fn command(&self, order: Command) {
        self.lock().commands.push(order);
        self.notifier.notify();
    }

    pub(crate) fn take_commands(&self) -> Vec<Command> {
        mem::take(&mut self.lock().commands)
    }

    /// Closes it if it serves nobody.
    pub(crate) fn close_if_idle(&self) -> bool {
        let mut counter = self.lock();
        counter.closed |= counter.topics.is_empty() && counter.commands.is_empty();
        counter.closed
    }

    /// Closes it, whomever it serves, and returns what it has not been able to do.
    pub(crate) fn close(&self) -> Vec<Command> {
        self.lock().closed = true;
        self.take_commands()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, Counter> {
        self.counter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
