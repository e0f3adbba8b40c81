//! [`Client`]: one client of librdkafka, shared by the subscriptions of a group to different topics.

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use rdkafka::{
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use tokio::sync::oneshot;

use watermill_core::backend::Failure;

use crate::{
    config::KafkaSubscriberConfig,
    context::{Context, Subscribed},
    error,
    notifier::Notifier,
    queue::ClientHandle,
    service::Service,
    settle::Shared,
    transactions::Owner,
};

/// How the thread that serves a client is reached. The client ends when the last of its subscriptions
/// has left.
pub(crate) struct Client {
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) context: Arc<Context>,
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

impl Client {
    /// A client with a place for `topic`.
    pub(crate) fn start(
        config: &KafkaSubscriberConfig,
        group: &str,
        topic: &str,
        owner: Option<Arc<Owner>>,
    ) -> Result<Arc<Self>, Failure> {
        let notifier = Arc::new(Notifier::default());
        let context = Context::new(config.request_timeout, config.session_timeout(), owner.clone());
        let mut consumer: BaseConsumer<Context> =
            config.client(group).create_with_context(context).map_err(error::classify)?;
        consumer.set_nonempty_callback({
            let notifier = notifier.clone();
            move || notifier.notify()
        });
        let context = consumer.context().clone();
        let handle = ClientHandle::new(Arc::new(consumer));
        context.belongs_to(&handle);
        let client = Arc::new(Self { notifier, context, counter: Mutex::default() });
        client.lock().topics.insert(topic.to_owned());
        let service = Service::new(client.clone(), handle, config, owner.is_some());
        // A thread and not a task: a member that does not poll is thrown out of its group, and handlers
        // may keep every worker of the runtime busy for minutes.
        thread::Builder::new()
            .name("kafka-client".to_owned())
            .spawn(move || service.run())
            .map_err(|error| error::classify(KafkaError::ClientCreation(error.to_string())))?;
        if let Some(owner) = owner {
            owner.0.join(&client);
        }
        Ok(client)
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
