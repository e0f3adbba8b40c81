//! Publishing with this crate.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use watermill_core::{Message, Publisher as _};
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig};
use watermill_testkit::workload;

use crate::{CALL, Load};

pub(crate) struct Ours {
    publisher: KafkaPublisher,
    topic: String,
}

impl Ours {
    pub(crate) fn new(brokers: &str, topic: &str) -> Self {
        let publisher = KafkaPublisher::new(KafkaPublisherConfig::new(brokers)).expect("a valid config");
        Self { publisher, topic: topic.to_owned() }
    }

    pub(crate) async fn publish(&self, load: &Load) -> Duration {
        let share = load.messages / load.callers;
        let calls: Vec<Vec<Vec<Message>>> =
            (0..load.callers).map(|_| workload::calls(share, CALL).collect()).collect();
        let started = Instant::now();
        let callers = calls.into_iter().map(|calls| {
            let (publisher, topic) = (self.publisher.clone(), self.topic.clone());
            tokio::spawn(async move {
                for messages in calls {
                    publisher.publish(&topic, messages).await.expect("it is accepted");
                }
            })
        });
        join_all(callers).await.into_iter().for_each(|ended| ended.expect("no panic"));
        started.elapsed()
    }
}
