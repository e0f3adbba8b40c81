//! The floor: librdkafka's futures, all of a call enqueued and awaited together, with the same options.

use std::time::Duration;

use futures::future::join_all;
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use tokio::time::Instant;
use watermill_core::{Message, metadata_keys::MESSAGE_UUID};
use watermill_testkit::workload;

use crate::{CALL, Load};

pub(crate) struct Raw {
    producer: FutureProducer,
    topic: String,
}

impl Raw {
    pub(crate) fn new(brokers: &str, topic: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .create()
            .expect("a producer");
        Self { producer, topic: topic.to_owned() }
    }

    pub(crate) async fn publish(&self, load: &Load) -> Duration {
        let share = load.messages / load.callers;
        let calls: Vec<Vec<Vec<Message>>> =
            (0..load.callers).map(|_| workload::calls(share, CALL).collect()).collect();
        let started = Instant::now();
        let callers = calls.into_iter().map(|calls| {
            let (producer, topic) = (self.producer.clone(), self.topic.clone());
            tokio::spawn(async move {
                for messages in calls {
                    call(&producer, &topic, &messages).await;
                }
            })
        });
        join_all(callers).await.into_iter().for_each(|ended| ended.expect("no panic"));
        started.elapsed()
    }
}

async fn call(producer: &FutureProducer, topic: &str, messages: &[Message]) {
    let reports: Vec<_> = messages
        .iter()
        .map(|message| {
            let mut headers = OwnedHeaders::new_with_capacity(4)
                .insert(Header { key: MESSAGE_UUID, value: Some(message.id().as_str()) });
            for (key, value) in message.metadata().iter() {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            let record = FutureRecord::<[u8], [u8]>::to(topic).payload(message.payload()).headers(headers);
            producer.send_result(record).map_err(|(error, _)| error).expect("there is room")
        })
        .collect();
    for report in join_all(reports).await {
        report.expect("the producer lives").map_err(|(error, _)| error).expect("it is accepted");
    }
}
