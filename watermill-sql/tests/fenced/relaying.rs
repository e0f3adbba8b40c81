//! An outbox relayed into another database, by relays that die.

use std::{collections::BTreeMap, time::Duration};

use sqlx::Pool;
use tokio::time::timeout;
use watermill_core::{Message, Publisher as _, Subscriber as _};
use watermill_forwarder::{DEFAULT_TOPIC, FencedForwarder, ForwarderConfig, ForwarderPublisher};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::patience;

use crate::{publisher, server::Server, texts};

const MESSAGES: usize = 1_000;
const KEYS: usize = 10;

pub(crate) async fn relays_that_die_anywhere_publish_everything_once_and_in_order<S: Server>() {
    let (source, destination) = (S::default(), S::default());
    let (shop, warehouse) = (source.connect().await, destination.connect().await);
    let config = SqlSubscriberConfig::default().group("relay").lease(Duration::from_millis(300));
    let outbox = || SqlSubscriber::new(shop.clone(), config.clone()).unwrap();
    outbox().initialize(DEFAULT_TOPIC).await.unwrap();
    let sender = SqlPublisher::new(shop.clone(), SqlPublisherConfig::default()).unwrap();
    let sender = ForwarderPublisher::new(sender);
    let message = |number: usize| Message::new(number.to_string()).with_key((number % KEYS).to_string());
    for start in (0..MESSAGES).step_by(100) {
        sender.publish("orders", (start..start + 100).map(message).collect()).await.unwrap();
    }

    let mut random = fastrand::Rng::with_seed(7);
    let mut there = 0;
    while there < MESSAGES {
        let relay = FencedForwarder::builder(outbox(), publisher::<S>(&warehouse), "relay");
        let relay = relay.config(ForwarderConfig::default().batch_size(10)).build().unwrap();
        let running = tokio::spawn(relay.run_until(std::future::pending()));
        // Killed when it has published a little more, wherever it is then.
        let enough = MESSAGES.min(there + random.usize(1..100));
        there = timeout(patience(), at_least::<S>(&warehouse, enough)).await.expect("the relay goes on");
        running.abort();
        let _ = running.await;
    }

    let mut by_key: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for text in texts::<S>(&warehouse, "orders").await {
        let number: usize = text.parse().unwrap();
        by_key.entry(number % KEYS).or_default().push(number);
    }
    for (key, numbers) in by_key {
        let expected: Vec<usize> = (0..MESSAGES).filter(|number| number % KEYS == key).collect();
        assert_eq!(numbers, expected, "key {key}");
    }
}

pub(crate) async fn a_message_that_is_refused_for_ever_and_then_deleted_holds_up_its_key_no_longer<
    S: Server,
>() {
    let (source, destination) = (S::default(), S::default());
    let (shop, warehouse) = (source.connect().await, destination.connect().await);
    let there = SqlPublisher::new(warehouse.clone(), SqlPublisherConfig::default()).unwrap();
    there.initialize("t").await.unwrap();
    S::execute(&warehouse, S::REFUSE).await;
    let config = SqlSubscriberConfig::default().group("relay").lease(Duration::from_millis(300));
    let outbox = SqlSubscriber::new(shop.clone(), config).unwrap();
    outbox.initialize(DEFAULT_TOPIC).await.unwrap();
    let sender = SqlPublisher::new(shop.clone(), SqlPublisherConfig::default()).unwrap();
    let message = |text: &str, key: &str| Message::new(text.to_owned()).with_key(key.to_owned());
    let messages =
        vec![message("1", "k"), message("1000000000000", "k"), message("2", "k"), message("3", "other")];
    ForwarderPublisher::new(sender).publish("t", messages).await.unwrap();

    let relay = FencedForwarder::builder(outbox, publisher::<S>(&warehouse), "relay");
    let config = ForwarderConfig::default()
        .attempts(None)
        .backoff(watermill_core::Backoff::constant(Duration::from_millis(20)));
    let relay = relay.config(config).build().unwrap();
    let running = tokio::spawn(relay.run_until(std::future::pending()));
    let arrived = async |count: usize| {
        while texts::<S>(&warehouse, "t").await.len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(patience(), arrived(2)).await.expect("what is of another key goes on");
    let held = format!("delete from watermill_{DEFAULT_TOPIC} where {} = 2", S::OFFSET);
    S::execute(&shop, &held).await;
    timeout(patience(), arrived(3)).await.expect("and so does what was behind it");
    assert_eq!(texts::<S>(&warehouse, "t").await, ["1", "3", "2"]);
    running.abort();
}

/// Waits for so many messages at the destination, and says how many there are.
async fn at_least<S: Server>(warehouse: &Pool<S::Database>, enough: usize) -> usize {
    loop {
        let is_made = S::texts(warehouse, S::TABLES).await.contains(&"watermill_orders".to_owned());
        let there = if is_made { texts::<S>(warehouse, "orders").await.len() } else { 0 };
        if there >= enough {
            return there;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
