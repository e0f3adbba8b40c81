//! A broker that stands still for a while: its connections stay, and nobody answers. In a binary of its own, for it
//! looks at the log of the whole process.

use std::{collections::BTreeSet, collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::time;
use tracing::Level;
use watermill_core::{
    Message, Publisher as _, Subscriber as _, Subscription, error::PublishErrorKind, subscription::Health,
};
use watermill_kafka::{
    CreateTopics, KafkaPublisher, KafkaPublisherConfig, KafkaSubscriber, KafkaSubscriberConfig,
};
use watermill_testkit::{LogLines, PrivateServer, Service, patience};

const SESSION: Duration = Duration::from_secs(6);
const LIMIT: Duration = Duration::from_secs(3);

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    time::timeout(patience(), future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

fn messages(range: std::ops::Range<usize>) -> Vec<Message> {
    range.map(|n| Message::with_id(format!("{n:04}"), n.to_string())).collect()
}

fn subscriber(server: &PrivateServer, group: &str) -> KafkaSubscriber {
    let config = KafkaSubscriberConfig::new(server.url())
        .group(group)
        .create_topics(CreateTopics::new(1, 1))
        .request_timeout(LIMIT)
        .option("session.timeout.ms", SESSION.as_millis().to_string())
        .option("heartbeat.interval.ms", "500");
    KafkaSubscriber::new(config).expect("a valid config")
}

/// Acks what comes until `last` has, and returns the ids of all. Trouble that passes may come with it.
async fn take_until(subscription: &mut Subscription, last: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    while !ids.contains(last) {
        match within("a delivery", subscription.next()).await.expect("the stream goes on") {
            Ok(delivery) => {
                ids.insert(delivery.id().to_string());
                delivery.ack();
            }
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
    ids
}

async fn until_health_is(subscription: &Subscription, wanted: impl Fn(&Health) -> bool) {
    while !wanted(&subscription.status().health) {
        time::sleep(Duration::from_millis(20)).await;
    }
}

async fn on_a_thread(server: &Arc<PrivateServer>, act: fn(&PrivateServer)) {
    let server = server.clone();
    tokio::task::spawn_blocking(move || act(&server)).await.expect("it is done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stands_still_is_noticed_bounds_every_call_and_loses_nothing() {
    let server = tokio::task::spawn_blocking(|| PrivateServer::start(Service::KAFKA));
    let server = Arc::new(server.await.expect("the broker starts"));
    let config = KafkaPublisherConfig::new(server.url()).delivery_timeout(LIMIT).request_timeout(LIMIT);
    let publisher = KafkaPublisher::new(config).expect("a valid config");
    let staying = subscriber(&server, "staying");
    let mut subscription = staying.subscribe("orders").await.expect("it subscribes");
    let mut leaving = subscriber(&server, "leaving").subscribe("orders").await.expect("it subscribes");
    publisher.publish("orders", messages(0..10)).await.expect("they are accepted");
    let mut read = take_until(&mut subscription, "0004").await;
    take_until(&mut leaving, "0004").await;
    within("health", until_health_is(&subscription, |health| *health == Health::Healthy)).await;

    let mut lines = LogLines::of_the_process("kafka");
    on_a_thread(&server, PrivateServer::freeze).await;
    // How soon is a matter of a clock that this test does not have; `Silence` says, and its tests.
    let noticing = until_health_is(&subscription, |health| matches!(health, Health::Degraded { .. }));
    let ((), published) =
        tokio::join!(within("trouble is noticed", noticing), publisher.publish("orders", messages(10..20)));
    let refused = published.expect_err("nobody answers");
    assert_eq!(refused.kind(), PublishErrorKind::Timeout, "{refused}");
    assert!(refused.is_retryable(), "{refused}");
    // It was fetched before, and its ack cannot be committed now.
    take_until(&mut leaving, "0005").await;
    let closed = within("closing keeps its promise", leaving.close()).await;
    closed.expect_err("what was acked last may not be committed");
    let mut said: HashMap<String, usize> = HashMap::new();
    for line in lines.take(Level::INFO) {
        assert!(line.level <= Level::WARN, "{line:?}");
        *said.entry(line.text.chars().filter(|c| !c.is_ascii_digit()).collect()).or_default() += 1;
    }
    // Once a minute for each client: of the publisher, of each subscriber, and of its questions.
    assert!(said.values().all(|times| *times <= 4), "{said:#?}");

    on_a_thread(&server, PrivateServer::thaw).await;
    let again = async { while publisher.publish("orders", messages(10..20)).await.is_err() {} };
    within("what was refused is published", again).await;
    read.extend(take_until(&mut subscription, "0019").await);
    assert_eq!(read, (0..20).map(|n| format!("{n:04}")).collect());
    within("health", until_health_is(&subscription, |health| *health == Health::Healthy)).await;
    within("closing", subscription.close()).await.expect("it closes");
    let mut rest = subscriber(&server, "leaving").subscribe("orders").await.expect("it subscribes");
    let rest_read = take_until(&mut rest, "0019").await;
    // Whether the last commit has reached the broker, which had it in its socket, nobody can tell.
    assert!((6..20).all(|n| rest_read.contains(&format!("{n:04}"))), "{rest_read:?}");
    within("closing", rest.close()).await.expect("it closes");
    publisher.close().await.expect("it closes");
}
