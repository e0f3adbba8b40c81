//! What a member of the group does, and how one is started.

use std::{env, process::exit, time::Duration};

use watermill_core::{Handler, Message, Router};
use watermill_kafka::{
    KafkaExactlyOncePublisher, KafkaPublisherConfig, KafkaSubscriber, KafkaSubscriberConfig,
};
use watermill_testkit::Service;

use crate::{
    Result,
    processes::{FENCED, Processes},
};

const INPUT: &str = "WATERMILL_PIPELINE_INPUT";
const ID: &str = "WATERMILL_PIPELINE_ID";

/// The topic that goes with an input.
pub(crate) fn output(input: &str) -> String {
    format!("{input}_done")
}

/// Whether this process is a member, and of what it reads.
pub(crate) fn is_one() -> Option<String> {
    env::var(INPUT).ok()
}

pub(crate) fn start(members: &mut Processes, input: &str, id: usize) -> Result {
    members.start(&[(INPUT, input), (ID, &id.to_string())])
}

/// Copies messages until it is killed or fenced.
pub(crate) async fn run(input: &str) -> Result {
    let brokers = Service::KAFKA.url();
    let reading = KafkaSubscriberConfig::new(&brokers)
        .group(input)
        .option("heartbeat.interval.ms", "100")
        .option("session.timeout.ms", "2000");
    let subscriber = KafkaSubscriber::new(reading)?;
    let id = format!("{input}-{}", env::var(ID)?);
    // What is left open by one whose id nobody takes over ends soon.
    let writing = KafkaPublisherConfig::new(&brokers).delivery_timeout(Duration::from_secs(5));
    let publisher = KafkaExactlyOncePublisher::new(writing, id, &subscriber)?;
    let copy = async |message: Message| {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let mut copy = Message::new(message.payload().clone());
        copy.set_key(message.key().cloned());
        copy
    };
    let handler =
        Handler::new("copy", copy).from(subscriber, input).to(publisher, output(input)).ordered_by_key(8);
    match Router::new().add(handler).run_until(std::future::pending::<()>()).await {
        Err(error) if error.to_string().contains("a successor has taken over") => exit(FENCED),
        ended => Ok(ended.map(drop)?),
    }
}
