//! Changes of the number of shards.

use std::sync::Arc;

use watermill_core::{Message, Publisher as _, Subscriber as _, error::SubscribeErrorKind};
use watermill_forwarder::{DEFAULT_TOPIC, Forwarder, ForwarderPublisher};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlShardCounts, SqlStatus, SqlSubscriber};

use crate::{
    relay::{GROUP, Relay, subscriber_config},
    server::Server,
    wait_until,
    written::{Record, Writers, in_order, total},
};

pub(crate) async fn a_change_while_writers_write_and_relays_are_killed_reorders_and_loses_nothing<
    S: Server,
>() {
    let (source, record) = (Arc::new(S::default()), Record::default());
    let start = async || Relay::start(&source, &record, 1).await;
    let arrived = async || record.arrived();
    let counts = changes::<S>(&source, start, arrived).await;
    assert_eq!(in_order(&record.arrived()), counts);
}

pub(crate) async fn exactly_once_a_change_repeats_nothing_either<S: Server>() {
    let (source, destination) = (Arc::new(S::default()), Arc::new(S::default()));
    let warehouse = destination.connect().await;
    let start = async || Relay::start_fenced(&source, &destination, 1).await;
    let arrived = async || S::payloads(&warehouse, "orders").await;
    let counts = changes::<S>(&source, start, arrived).await;
    let arrived = arrived().await;
    assert_eq!(in_order(&arrived), counts);
    assert_eq!(arrived.len(), total(&counts), "none came twice");
}

/// One shard, then four, then two, while writers write and relays are killed. Returns what was written.
async fn changes<S: Server>(
    source: &Arc<S>,
    start: impl AsyncFn() -> Relay,
    arrived: impl AsyncFn() -> Vec<String>,
) -> std::collections::BTreeMap<String, usize> {
    let pool = source.connect().await;
    let outbox = SqlSubscriber::new(pool.clone(), subscriber_config()).unwrap();
    outbox.initialize(DEFAULT_TOPIC).await.unwrap();
    let shards = SqlShardCounts::new(pool.clone());
    let writers = Writers::start::<S>(&pool);
    let come = async || {
        let come = total(&in_order(&arrived().await));
        writers.arrived(come);
        come
    };
    let more = async |by: usize| {
        let enough = come().await + by;
        wait_until("more messages", async || come().await >= enough).await;
    };
    let mut relays = Vec::new();
    for _ in 0..4 {
        relays.push(start().await);
    }
    more(50).await;
    let mut random = fastrand::Rng::with_seed(11);
    for count in [4, 2] {
        shards.set(DEFAULT_TOPIC, GROUP, count).await.unwrap();
        for _ in 0..2 {
            relays.swap_remove(random.usize(..relays.len())).kill();
            relays.push(start().await);
            more(random.usize(1..100)).await;
        }
        let what = format!("{count} shards");
        wait_until(&what, async || {
            come().await;
            shards.get(DEFAULT_TOPIC, GROUP).await.unwrap().is_some_and(|shards| shards.now == count)
        })
        .await;
        more(200).await;
    }
    let counts = writers.stop().await;
    let expected = total(&counts);
    wait_until("everything", async || total(&in_order(&arrived().await)) >= expected).await;
    counts
}

pub(crate) async fn a_group_that_was_read_before_goes_on_where_it_was<S: Server>() {
    let (source, record) = (Arc::new(S::default()), Record::default());
    let pool = source.connect().await;
    let outbox = || SqlSubscriber::new(pool.clone(), subscriber_config()).unwrap();
    outbox().initialize(DEFAULT_TOPIC).await.unwrap();
    let sender = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    let sender = ForwarderPublisher::new(sender);
    let messages = |numbers: std::ops::Range<usize>| {
        numbers.map(|number| Message::new(format!("k {number}")).with_key("k")).collect()
    };
    sender.publish("orders", messages(0..30)).await.unwrap();
    let before = Forwarder::builder(outbox(), record.clone()).build().unwrap();
    let control = before.control();
    let running = tokio::spawn(before.run_until(std::future::pending()));
    wait_until("the first messages", async || record.arrived().len() == 30).await;
    // Side by side, as in a deployment: the other waits for the lease.
    let relay = Relay::start(&source, &record, 4).await;
    control.stop();
    running.await.unwrap().unwrap();
    sender.publish("orders", messages(30..60)).await.unwrap();
    wait_until("the others", async || record.arrived().len() == 60).await;
    let shards = SqlShardCounts::new(pool.clone());
    wait_until("four shards", async || shards.get(DEFAULT_TOPIC, GROUP).await.unwrap().unwrap().now == 4)
        .await;
    sender.publish("orders", messages(60..90)).await.unwrap();
    wait_until("the last", async || record.arrived().len() >= 90).await;
    assert_eq!(in_order(&record.arrived())["k"], 90);
    assert_eq!(record.arrived().iter().filter(|payload| *payload == "k 0").count(), 1, "nothing began anew");
    drop(relay);
}

pub(crate) async fn a_relay_with_another_number_follows_the_one_that_is_stored<S: Server>() {
    let (source, record) = (Arc::new(S::default()), Record::default());
    let shards = SqlShardCounts::new(source.connect().await);
    let first = Relay::start(&source, &record, 2).await;
    let now =
        async || shards.get(DEFAULT_TOPIC, GROUP).await.unwrap().map(|shards| (shards.now, shards.wanted));
    wait_until("two shards", async || now().await == Some((2, 2))).await;
    let other = Relay::start(&source, &record, 3).await;
    wait_until("the other to know of them", async || other.control.status().shards.len() == 2).await;
    first.kill();
    wait_until("the other to have them", async || other.holds() == 2).await;
    assert_eq!(now().await, Some((2, 2)));
}

pub(crate) async fn a_position_that_was_made_anew_after_a_change_keeps_no_rows<S: Server>() {
    let (source, record) = (Arc::new(S::default()), Record::default());
    let pool = source.connect().await;
    let first = Relay::start(&source, &record, 2).await;
    wait_until("two shards", async || first.holds() == 2).await;
    first.kill();
    // As by a process that was told of the first shard before the change and claimed it after it.
    S::make_group(&pool, DEFAULT_TOPIC).await;
    let _next = Relay::start(&source, &record, 2).await;
    let status = SqlStatus::new(pool);
    let groups = async || {
        let log = status.log(DEFAULT_TOPIC).await.unwrap();
        log.groups.into_iter().map(|group| (group.group, group.shard)).collect::<Vec<_>>()
    };
    let shards = [0, 1].map(|number| (GROUP.to_owned(), Some(number)));
    wait_until("the shards alone to have positions", async || groups().await == shards).await;
}

pub(crate) async fn a_number_that_there_cannot_be_is_refused<S: Server>() {
    let source = S::default();
    let pool = source.connect().await;
    let outbox = SqlSubscriber::new(pool.clone(), subscriber_config()).unwrap();
    outbox.initialize(DEFAULT_TOPIC).await.unwrap();
    let shards = SqlShardCounts::new(pool);
    for count in [0, 65] {
        let error = shards.set(DEFAULT_TOPIC, GROUP, count).await.unwrap_err();
        assert_eq!(error.kind(), SubscribeErrorKind::Config, "{error}");
    }
    let error = shards.set(DEFAULT_TOPIC, GROUP, 2).await.unwrap_err();
    assert!(error.to_string().contains("does not read in shards"), "{error}");
    assert_eq!(shards.get(DEFAULT_TOPIC, GROUP).await.unwrap(), None);
}
