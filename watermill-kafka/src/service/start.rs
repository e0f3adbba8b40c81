//! How a client begins, with the thread that serves it.

use std::{sync::Arc, thread};

use rdkafka::{
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use watermill_core::backend::Failure;

use super::Service;
use crate::{
    client::{Client, Owner},
    config::KafkaSubscriberConfig,
    context::Context,
    error,
    group::Group,
    notifier::Notifier,
    queue::ClientHandle,
    settle::Together,
};

/// A client with a place for `topic`, which ends when the last of its subscriptions has left.
pub(crate) fn start(
    config: &KafkaSubscriberConfig,
    group: &str,
    topic: &str,
    owner: Option<&Arc<dyn Owner>>,
) -> Result<Arc<Client>, Failure> {
    let notifier = Arc::new(Notifier::default());
    let context = Context::new(config.session_timeout());
    let mut consumer: BaseConsumer<Context> =
        config.client(group).create_with_context(context).map_err(error::classify)?;
    consumer.set_nonempty_callback({
        let notifier = notifier.clone();
        move || notifier.notify()
    });
    let context = consumer.context().clone();
    let handle = ClientHandle::new(Arc::new(consumer));
    let together = owner.map(|owner| owner.clone() as Arc<dyn Together>);
    let member = Arc::new(Group::new(config.request_timeout, together));
    member.belongs_to(&handle);
    context.tell(member.clone());
    let client = Arc::new(Client::new(notifier, context, member, topic));
    let service = Service::new(client.clone(), handle, config, owner.is_some());
    // A thread and not a task: a member that does not poll is thrown out of its group, and handlers
    // may keep every worker of the runtime busy for minutes.
    thread::Builder::new()
        .name("kafka-client".to_owned())
        .spawn(move || service.run())
        .map_err(|error| error::classify(KafkaError::ClientCreation(error.to_string())))?;
    if let Some(owner) = owner {
        owner.join(&client);
    }
    Ok(client)
}
