//! From PostgreSQL to Kafka, with the example configuration.

use std::collections::BTreeMap;

use futures::StreamExt;
use watermill_core::{Message, Publisher, Subscriber};
use watermill_forwarder::ForwarderPublisher;
use watermill_kafka::{CreateTopics, KafkaSubscriber, KafkaSubscriberConfig};
use watermill_sql::{SqlPool, SqlPublisherConfig, SqlSubscriberConfig, SqlUrl};
use watermill_testkit::{Service, unique};

use crate::support::{Daemon, Place, text, wait_until};

/// What is to be run exactly as it is documented.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/forwarder.toml");

/// The relay `shop` of the example, with names of a test's own.
struct Shop {
    place: Place,
    outbox: SqlPool,
    topic: String,
    orders: String,
    brokers: String,
    set: Vec<String>,
}

impl Shop {
    /// The example is exactly-once.
    async fn open() -> Self {
        Self::with(&[]).await
    }

    async fn with(more: &[&str]) -> Self {
        let place = Place::with("").await;
        let (topic, orders) = (unique("outbox"), unique("orders"));
        let (url, brokers) = (Service::POSTGRES.url(), Service::KAFKA.url());
        let outbox = SqlUrl::new(&*url).unwrap().connect();
        outbox.subscriber(SqlSubscriberConfig::default()).unwrap().initialize(&topic).await.unwrap();
        std::fs::write(place.path("url"), &url).unwrap();
        std::fs::write(place.path("password"), "not asked for").unwrap();
        let set = [
            "admin.listen=127.0.0.1:0".to_owned(),
            format!("relay.shop.topic={topic}"),
            format!("relay.shop.dead_letter_topic={topic}_dead"),
            format!("relay.shop.source.url={url}"),
            "relay.shop.source.password_file=password".to_owned(),
            format!("relay.shop.destination.url=kafka://{brokers}"),
            "relay.shop.destination.create_topics=true".to_owned(),
            "relay.audit.source.url=sqlite:outbox.db".to_owned(),
            "relay.audit.destination.url=sqlite:events.db".to_owned(),
        ];
        let more = more.iter().map(|set| (*set).to_owned());
        let set = set.into_iter().chain(more).flat_map(|set| ["--set".to_owned(), set]).collect();
        Self { place, outbox, topic, orders, brokers, set }
    }

    fn start(&self, more: &[&str]) -> Daemon {
        let args: Vec<&str> =
            ["--config", EXAMPLE].into_iter().chain(self.set.iter().map(String::as_str)).collect();
        self.place.start_with(&[&args, more].concat(), &[])
    }

    async fn publish(&self, numbers: std::ops::Range<u32>) {
        let publisher = self.outbox.publisher(SqlPublisherConfig::default()).unwrap();
        let publisher = ForwarderPublisher::new(publisher).topic(&*self.topic);
        let messages = numbers.map(|number| {
            Message::with_id(number.to_string(), "{}").with_key(format!("customer-{}", number % 5))
        });
        publisher.publish(&self.orders, messages.collect()).await.unwrap();
    }

    /// Reads until every id below `count` has come; all of it, by key.
    async fn received(&self, count: u32) -> BTreeMap<String, Vec<u32>> {
        let config = KafkaSubscriberConfig::new(&*self.brokers)
            .group(unique("reader"))
            .create_topics(CreateTopics::new(1, 1));
        let mut subscription = KafkaSubscriber::new(config).unwrap().subscribe(&self.orders).await.unwrap();
        let mut missing: std::collections::BTreeSet<u32> = (0..count).collect();
        let mut by_key: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        while !missing.is_empty() {
            let delivery = subscription.next().await.unwrap().unwrap();
            let id = delivery.message().id().parse().unwrap();
            missing.remove(&id);
            let key = text(delivery.message().key().unwrap());
            by_key.entry(key).or_default().push(id);
            delivery.ack();
        }
        by_key
    }
}

#[tokio::test]
async fn with_exactly_once_nothing_is_repeated_though_processes_are_killed() {
    let shop = Shop::open().await;
    let name = format!("relay.shop.name_at_destination={}", shop.topic);
    for kill in 0..2 {
        // Each has something to begin with, however far the one before has come.
        shop.publish(kill * 1_000..(kill + 1) * 1_000).await;
        let daemon = shop.start(&["--set", "relay.shop.batch_size=100", "--set", &name]);
        let forwarded =
            format!("watermill_forwarder_forwarded_total{{relay=\"shop\",destination=\"{}\"}}", shop.orders);
        wait_until(&format!("kill {kill}"), async || daemon.get("/metrics").await.1.contains(&forwarded))
            .await;
        daemon.kill().await;
    }
    let daemon = shop.start(&["--set", &name]);
    let by_key = shop.received(2_000).await;
    let (status, lines) = daemon.stop().await;
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    for (key, ids) in by_key {
        assert_eq!(ids.len(), 400, "{key}");
        assert!(ids.is_sorted_by(|a, b| a < b), "{key}: {ids:?}");
    }
}

#[tokio::test]
async fn what_is_published_once_or_more_arrives_in_order_when_both_ends_answer() {
    let shop = Shop::with(&["relay.shop.delivery=at-least-once"]).await;
    let args = ["check", "--connect", "--config", EXAMPLE].into_iter();
    let args: Vec<&str> = args.chain(shop.set.iter().map(String::as_str)).collect();
    let checked = shop.place.verb(&args);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));

    let daemon = shop.start(&[]);
    shop.publish(0..500).await;
    for (key, ids) in shop.received(500).await {
        assert!(ids.is_sorted_by(|a, b| a < b), "{key}: {ids:?}");
    }
    let (status, lines) = daemon.stop().await;
    assert_eq!(status.code(), Some(0), "{lines:#?}");
}

#[tokio::test]
async fn who_holds_a_relay_back_is_named() {
    let shop = Shop::with(&["relay.shop.delivery=at-least-once"]).await;
    let SqlPool::Postgres(pool) = &shop.outbox else { unreachable!("the source is a PostgreSQL") };
    let daemon = shop.start(&[]);
    let admin = format!("admin.listen={}", daemon.address().await);
    // A writer that has drawn an offset, and does not commit.
    let mut tx = pool.begin().await.unwrap();
    let writer: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *tx).await.unwrap();
    ForwarderPublisher::new(watermill_sql::SqlPublisher::in_transaction(&mut tx))
        .topic(&*shop.topic)
        .publish(&shop.orders, vec![Message::with_id("0", "{}").with_key("k")])
        .await
        .unwrap();
    let args: Vec<&str> = ["status", "--json", "--config", EXAMPLE]
        .into_iter()
        .chain(shop.set.iter().map(String::as_str))
        .chain(["--set", &admin])
        .collect();
    wait_until("the status to name the writer", async || {
        let told = shop.place.verb(&args);
        let status: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        let relays = status["relays"].as_array().unwrap();
        let relay = relays.iter().find(|relay| relay["relay"] == "shop").unwrap();
        let writers = relay["holds"]["writers"].as_array();
        writers.is_some_and(|writers| {
            writers.iter().any(|found| found["pid"] == writer && found["application"] == "watermill")
        })
    })
    .await;
    tx.commit().await.unwrap();
    shop.received(1).await;
    daemon.stop().await;
}

#[tokio::test]
async fn dead_letters_at_the_destination_are_listed_sent_again_and_deleted_one_by_one() {
    let shop =
        Shop::with(&["relay.shop.delivery=at-least-once", "relay.shop.dead_letters=destination"]).await;
    let daemon = shop.start(&[]);
    let raw = shop.outbox.publisher(SqlPublisherConfig::default()).unwrap();
    let odd = ["odd-0", "odd-1", "odd-2"].map(|id| Message::with_id(id, "\"no envelope\""));
    raw.publish(&shop.topic, odd.to_vec()).await.unwrap();
    let given_up = |count| {
        format!("watermill_forwarder_dead_lettered_total{{relay=\"shop\",reason=\"unreadable\"}} {count}\n")
    };
    wait_until("three dead letters", async || daemon.get("/metrics").await.1.contains(&given_up(3))).await;
    daemon.stop().await;

    let letters = |verb: &[&str]| -> serde_json::Value {
        let place = ["--config", EXAMPLE, "--at-destination", "--relay", "shop", "--json"].into_iter();
        let place: Vec<&str> = place.chain(shop.set.iter().map(String::as_str)).collect();
        let told = shop.place.verb(&[&["dead-letters"][..], verb, &place].concat());
        assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
        serde_json::from_slice(&told.stdout).unwrap()
    };
    let ids = || -> Vec<String> {
        let listed = letters(&["list", "--one-by-one"]);
        let mut ids: Vec<_> = listed.as_array().unwrap().iter().map(|letter| letter["id"].clone()).collect();
        ids.sort_by_key(ToString::to_string);
        ids.into_iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    // Kafka keeps a position and no single acks: what stays is there for the next verb all the same.
    assert_eq!(ids(), ["odd-0", "odd-1", "odd-2"]);
    assert_eq!(letters(&["redrive", "--id", "odd-1"])["done"], 1);
    assert_eq!(ids(), ["odd-0", "odd-2"]);
    assert_eq!(letters(&["delete", "--id", "odd-0"])["done"], 1);
    assert_eq!(ids(), ["odd-2"]);

    // It went through the outbox, and is no envelope this time either.
    let daemon = shop.start(&[]);
    wait_until("it to come again", async || daemon.get("/metrics").await.1.contains(&given_up(1))).await;
    daemon.stop().await;
    assert_eq!(ids(), ["odd-1", "odd-2"]);
    assert_eq!(letters(&["show", "odd-1"])["redriven"], 1);
}
