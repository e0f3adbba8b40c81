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
