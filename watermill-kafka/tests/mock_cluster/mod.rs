//! librdkafka's mock cluster, in this process.

use std::{
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{BaseProducer, Producer as _},
};
use watermill_kafka::KafkaSubscriberConfig;

/// One cluster for all tests of a binary, as they share a server. It lives as long as the process.
pub(crate) fn brokers() -> &'static str {
    static BROKERS: OnceLock<String> = OnceLock::new();
    BROKERS.get_or_init(|| {
        let (sender, receiver) = mpsc::sync_channel(1);
        // It cannot move to another thread, and ends with the value.
        thread::spawn(move || {
            let cluster = MockCluster::new(1).expect("a mock cluster starts");
            sender.send(cluster.bootstrap_servers()).expect("the brokers are waited for");
            loop {
                thread::park();
            }
        });
        receiver.recv().expect("the mock cluster has started")
    })
}

/// Makes a topic: the cluster does when a producer asks for it.
pub(crate) fn create(topic: &str) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a producer");
    producer.client().fetch_metadata(Some(topic), Duration::from_secs(10)).expect("the mock cluster answers");
}

/// A subscriber's configuration with which members of a group see each other come and go soon.
pub(crate) fn subscriber_config() -> KafkaSubscriberConfig {
    KafkaSubscriberConfig::new(brokers())
        .option("heartbeat.interval.ms", "100")
        .option("session.timeout.ms", "3000")
}
