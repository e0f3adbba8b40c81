//! Exchanges, queues and bindings, made on a channel.

use std::time::Duration;

use lapin::{
    Channel,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use watermill_core::backend::Trouble;

use crate::{
    Argument, Exchange, ExchangeKind, Queue, Topology,
    error::Fault,
    marshaler::NAME_MAX,
    topology::{QUEUE_TYPE, QUORUM, millis},
};

/// What a queue for delays has in its name, between the queue's name and the milliseconds.
const DELAY: &str = "_delay_";
/// How long such a queue is kept after it was used last, beyond its delay.
const DELAY_QUEUE_UNUSED: Duration = Duration::from_secs(60);
/// The longest delay. The server knows times up to 2^32 ms, less than 50 days, and refuses longer ones.
const DELAY_MAX: Duration = Duration::from_secs(49 * 24 * 60 * 60);

/// A name as the server takes it. Those that begin with `amq.` are the server's: it has some, and refuses to make others.
pub(crate) fn name(text: &str, of: &str) -> Result<ShortString, Fault> {
    match ShortString::try_new(text) {
        Ok(name) if text.len() <= NAME_MAX => Ok(name),
        _ => {
            let why = format!("the name of the {of} has {} bytes, more than {NAME_MAX}", text.len());
            Err(Fault::Found(Trouble::Topic, why))
        }
    }
}

/// Makes an exchange, or looks whether it is there.
pub(crate) async fn exchange(channel: &Channel, exchange: &Exchange, make: bool) -> Result<(), Fault> {
    if exchange.is_default() {
        return Ok(());
    }
    let options = ExchangeDeclareOptions {
        passive: !make,
        durable: exchange.durable,
        auto_delete: exchange.auto_delete,
        ..Default::default()
    };
    let kind = match &exchange.kind {
        ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
        ExchangeKind::Direct => lapin::ExchangeKind::Direct,
        ExchangeKind::Topic => lapin::ExchangeKind::Topic,
        ExchangeKind::Custom(name) => lapin::ExchangeKind::Custom(name.clone()),
    };
    Ok(channel
        .exchange_declare(name(&exchange.name, "exchange")?, kind, options, FieldTable::default())
        .await?)
}

/// Makes the queue of a topic and a group, with all that it needs, and returns its name.
pub(crate) async fn subscription(
    channel: &Channel,
    topology: &Topology,
    topic: &str,
    group: Option<&str>,
) -> Result<ShortString, Fault> {
    let queue_name = name(&topology.queue_for(topic, group).name, "queue")?;
    if let Some(dead) = topology.dead_letters_of(topic, group)
        && topology.declares
    {
        bound(channel, topology, &dead, topology.queue_for(&dead, group)).await?;
    }
    bound(channel, topology, topic, topology.queue_for(topic, group)).await?;
    Ok(queue_name)
}

async fn bound(channel: &Channel, topology: &Topology, topic: &str, of: Queue) -> Result<(), Fault> {
    let from = topology.exchange_of(topic);
    exchange(channel, &from, topology.declares).await?;
    let queue_name = name(&of.name, "queue")?;
    queue(channel, of, topology.declares).await?;
    if topology.declares && !from.is_default() {
        for key in topology.binding_keys_of(topic) {
            let (exchange, key) = (name(&from.name, "exchange")?, name(&key, "binding")?);
            let options = QueueBindOptions::default();
            channel.queue_bind(queue_name.clone(), exchange, key, options, FieldTable::default()).await?;
        }
    }
    Ok(())
}

/// Makes the queue in which messages wait for so long before they come back to a queue, of the same type, and returns
/// its name. It is used anew by each call, so that it goes only when it is empty.
pub(crate) async fn delay_queue(
    channel: &Channel,
    back_to: &Queue,
    delay: Duration,
) -> Result<ShortString, Fault> {
    let mut wait = Queue::new(format!("{}{DELAY}{}", back_to.name, delay.as_millis()))
        .message_ttl(delay)
        .argument("x-expires", millis(delay + DELAY_QUEUE_UNUSED))
        .argument("x-dead-letter-exchange", Argument::Text(String::new()))
        .argument("x-dead-letter-routing-key", Argument::Text(back_to.name.clone()));
    if back_to.is_quorum() {
        // As safe as where it came from: replicated, and kept until the other queue has it, for which the server wants
        // the overflow to be refused.
        wait = wait
            .argument(QUEUE_TYPE, Argument::Text(QUORUM.to_owned()))
            .argument("x-dead-letter-strategy", Argument::Text("at-least-once".to_owned()))
            .argument("x-overflow", Argument::Text("reject-publish".to_owned()));
    }
    let wait_name = name(&wait.name, "queue")?;
    queue(channel, wait, true).await?;
    Ok(wait_name)
}

async fn queue(channel: &Channel, queue: Queue, make: bool) -> Result<(), Fault> {
    let Queue { durable, exclusive, auto_delete, .. } = queue;
    let options = QueueDeclareOptions { passive: !make, durable, exclusive, auto_delete, nowait: false };
    let mut arguments = FieldTable::default();
    for (argument, value) in queue.arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(text.into()),
            Argument::Number(number) => AMQPValue::LongLongInt(number),
            Argument::Flag(flag) => AMQPValue::Boolean(flag),
        };
        arguments.insert(name(&argument, "argument")?, value);
    }
    channel.queue_declare(name(&queue.name, "queue")?, options, arguments).await?;
    Ok(())
}

/// A delay, rounded up, so that there are not as many queues as there are delays.
pub(crate) fn rounded_up(delay: Duration) -> Duration {
    let delay = delay.min(DELAY_MAX);
    let step = match delay.as_secs() {
        0 => 100,
        1..60 => 1_000,
        60..3_600 => 60_000,
        _ => 3_600_000,
    };
    let millis = u64::try_from(delay.as_millis()).unwrap_or_default();
    Duration::from_millis(millis.div_ceil(step) * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_rounded_up_to_few() {
        let rounded = |millis| rounded_up(Duration::from_millis(millis)).as_millis();
        assert_eq!((rounded(1), rounded(100), rounded(101)), (100, 100, 200));
        assert_eq!((rounded(1_001), rounded(59_001), rounded(60_001)), (2_000, 60_000, 120_000));
        assert_eq!(rounded(3_600_001), 7_200_000);
    }

    #[test]
    fn a_delay_of_any_length_is_one_that_the_server_knows() {
        let longest = rounded_up(Duration::MAX) + DELAY_QUEUE_UNUSED;
        assert!(longest.as_millis() <= u32::MAX.into(), "{longest:?}");
    }

    #[test]
    fn names_that_the_server_cannot_hold_are_refused() {
        assert!(name("orders", "queue").is_ok());
        assert!(name("", "exchange").is_ok());
        assert!(name("amq.topic", "exchange").is_ok(), "it is there");
        assert!(matches!(name(&"x".repeat(256), "queue"), Err(Fault::Found(Trouble::Topic, _))));
    }
}
