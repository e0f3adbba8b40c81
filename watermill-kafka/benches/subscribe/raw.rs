//! The floor: a loop over librdkafka's stream that copies everything out and stores offsets.

use std::{hint::black_box, time::Duration};

use futures::StreamExt;
use rdkafka::{
    ClientConfig, Message as _,
    consumer::{Consumer as _, StreamConsumer},
    message::Headers as _,
};
use tokio::{runtime::Runtime, time::Instant};
use watermill_testkit::unique;

use crate::Source;

pub(crate) fn copied(runtime: &Runtime, source: &Source) -> Duration {
    runtime.block_on(async {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", &source.brokers)
            .set("group.id", unique("raw"))
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.offset.store", "false")
            // As ours: with librdkafka's 1,000 it is chance what a long read shows.
            .set("fetch.queue.backoff.ms", "10")
            .create()
            .expect("a consumer");
        consumer.subscribe(&[&source.topic]).expect("it subscribes");
        let mut stream = consumer.stream();
        let mut started = None;
        for _ in 0..source.messages {
            let record = stream.next().await.expect("the stream goes on").expect("no error");
            started.get_or_insert_with(Instant::now);
            let payload = record.payload().unwrap_or_default().to_vec();
            let headers: Vec<(String, Vec<u8>)> = record
                .headers()
                .into_iter()
                .flat_map(|headers| headers.iter())
                .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
                .collect();
            black_box((payload, headers));
            consumer.store_offset_from_message(&record).expect("it is ours");
        }
        started.expect("there are messages").elapsed()
    })
}
