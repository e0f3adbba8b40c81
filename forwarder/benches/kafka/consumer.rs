//! [`Consumer`]: reads what is committed, and says when it came.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};
use tokio::{
    sync::mpsc::{Receiver, channel},
    time::Instant,
};
use watermill_core::metadata_keys::MESSAGE_UUID;

use crate::servers::PARTITIONS;

/// More than ever come before somebody looks: times are noted before they wait here.
const RECEIVED_MAX: usize = 100_000;

/// A thread of its own, so that nothing but a message's arrival decides when it is noted.
pub(crate) struct Consumer {
    received: Receiver<(usize, Instant)>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    /// One that reads all of a topic from the begin.
    pub(crate) fn start(brokers: &str, topic: &str) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "nobody")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            // With the usual second, what does not fit waits for so long.
            .set("fetch.queue.backoff.ms", "2")
            .create()
            .expect("a consumer");
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            partitions.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&partitions).expect("partitions of a topic");
        let (tell, received) = channel(RECEIVED_MAX);
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let over = over.clone();
            move || {
                while !over.load(Ordering::Relaxed) {
                    let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) else { continue };
                    let now = Instant::now();
                    let headers = record.headers().expect("headers of ours");
                    let id = headers.iter().find(|header| header.key == MESSAGE_UUID).and_then(|it| it.value);
                    let number =
                        id.and_then(|id| std::str::from_utf8(id).ok()?.parse().ok()).expect("a number");
                    if tell.blocking_send((number, now)).is_err() {
                        break;
                    }
                }
            }
        });
        Self { received, over, thread: Some(thread) }
    }

    /// The number of the next message, and when it came.
    pub(crate) async fn next(&mut self) -> (usize, Instant) {
        self.received.recv().await.expect("the thread goes on")
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
