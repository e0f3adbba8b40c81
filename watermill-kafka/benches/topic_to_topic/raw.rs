//! The floor: librdkafka's stream and futures, a thousand of which are awaited in order.

use std::{collections::VecDeque, time::Duration};

use futures::StreamExt;
use rdkafka::{
    ClientConfig, Message as _,
    consumer::{Consumer as _, StreamConsumer},
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
    types::RDKafkaErrorCode as Code,
};
use tokio::time::{Instant, sleep};
use watermill_testkit::unique;

use crate::{IN_FLIGHT, MESSAGES, Way};

pub(crate) async fn move_all(way: &Way) -> Duration {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", &way.brokers)
        .set("group.id", unique("raw"))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.offset.store", "false")
        // As ours: with librdkafka's 1,000 it is chance what a long read shows.
        .set("fetch.queue.backoff.ms", "10")
        .create()
        .expect("a consumer");
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &way.brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .create()
        .expect("a producer");
    consumer.subscribe(&[&way.from]).expect("it subscribes");
    let mut stream = consumer.stream();
    let mut on_their_way = VecDeque::with_capacity(IN_FLIGHT);
    let mut started = None;
    for _ in 0..MESSAGES {
        let record = stream.next().await.expect("the stream goes on").expect("no error");
        started.get_or_insert_with(Instant::now);
        if on_their_way.len() == IN_FLIGHT {
            settle(&consumer, &way.from, on_their_way.pop_front().expect("it is full")).await;
        }
        let mut outgoing = FutureRecord::<[u8], [u8]>::to(&way.to)
            .payload(record.payload().unwrap_or_default())
            .key(record.key().unwrap_or_default())
            .headers(record.headers().expect("it has headers").detach());
        let report = loop {
            match producer.send_result(outgoing) {
                Ok(report) => break report,
                Err((KafkaError::MessageProduction(Code::QueueFull), again)) => {
                    outgoing = again;
                    sleep(Duration::from_millis(1)).await;
                }
                Err((error, _)) => panic!("{error}"),
            }
        };
        on_their_way.push_back((record.partition(), record.offset(), report));
    }
    for sent in on_their_way {
        settle(&consumer, &way.from, sent).await;
    }
    started.expect("there are messages").elapsed()
}

/// The next one in order: its report, and then its offset.
async fn settle(
    consumer: &StreamConsumer,
    topic: &str,
    (partition, offset, report): (i32, i64, rdkafka::producer::DeliveryFuture),
) {
    report.await.expect("the producer lives").map_err(|(error, _)| error).expect("it is accepted");
    consumer.store_offset(topic, partition, offset).expect("it is ours");
}
