//! Who reads which shard.

use std::sync::Arc;

use watermill_core::{
    Message, Publisher as _, Subscriber as _, error::SubscribeErrorKind, subscriber::Sharding,
};
use watermill_forwarder::{DEFAULT_TOPIC, Forwarder, ForwarderConfig, ForwarderPublisher};
use watermill_sql::{
    SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlStatus, SqlSubscriber,
};

use crate::{
    relay::{GROUP, Relay, subscriber_config},
    server::Server,
    wait_until,
    written::Record,
};

pub(crate) async fn shards_are_shared_among_processes_and_taken_over_from_those_that_die<S: Server>() {
    let (source, record) = (Arc::new(S::default()), Record::default());
    let status = SqlStatus::new(source.connect().await);
    let mut relays = vec![Relay::start(&source, &record, 4).await];
    wait_until("the first to have all", async || relays[0].holds() == 4).await;
    let log = status.log(DEFAULT_TOPIC).await.unwrap();
    let shards: Vec<_> = log.groups.iter().map(|group| (&*group.group, group.shard)).collect();
    assert_eq!(shards, [0, 1, 2, 3].map(|number| (GROUP, Some(number))));
    for _ in 0..3 {
        relays.push(Relay::start(&source, &record, 4).await);
    }
    let each = |relays: &[Relay]| relays.iter().map(Relay::holds).collect::<Vec<_>>();
    wait_until("each to have one", async || each(&relays) == [1; 4]).await;
    for killed in [2, 0] {
        relays.swap_remove(killed).kill();
    }
    wait_until("the others to have all", async || each(&relays).iter().sum::<usize>() == 4).await;
}

pub(crate) async fn whoever_does_not_read_in_shards_is_refused_where_others_do<S: Server>() {
    let (source, record) = (Arc::new(S::default()), Record::default());
    let relay = Relay::start(&source, &record, 2).await;
    wait_until("two shards", async || relay.holds() == 2).await;
    let pool = source.connect().await;
    let plain = SqlSubscriber::new(pool.clone(), subscriber_config()).unwrap();
    let error = plain.subscribe(DEFAULT_TOPIC).await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    assert!(watermill_core::error::chain(&error).contains("reads in shards, 2 of them"), "{error}");
    let other = SqlSubscriber::new(pool.clone(), subscriber_config().group("other")).unwrap();
    other.subscribe(DEFAULT_TOPIC).await.unwrap().close().await.unwrap();
    let named = SqlSubscriber::new(pool.clone(), subscriber_config().group("a#b")).unwrap();
    let shards = named.shards(DEFAULT_TOPIC, Sharding::new(2)).unwrap();
    assert_eq!(shards.count().await.unwrap_err().kind(), SubscribeErrorKind::Config);
    // The groups of shards have longer names, and longer ones with each change.
    let long =
        |chars| SqlSubscriber::new(pool.clone(), subscriber_config().group("g".repeat(chars))).unwrap();
    let shards = |chars| long(chars).shards(DEFAULT_TOPIC, Sharding::new(64)).unwrap();
    for chars in [240, 252, 255] {
        let error = shards(chars).count().await.unwrap_err();
        assert_eq!(error.kind(), SubscribeErrorKind::Config, "{error}");
        assert!(error.to_string().contains("239 characters at most"), "{error}");
    }
    assert_eq!(shards(239).count().await.unwrap(), 64);

    // A queue has workers, as many as one likes, and no shards.
    let queue = SqlQueueSubscriber::new(pool, SqlQueueSubscriberConfig::default()).unwrap();
    let config = ForwarderConfig::default().shards(2);
    let error = Forwarder::builder(queue, record).config(config).build().unwrap_err();
    assert!(error.to_string().contains("shards"), "{error}");
}

pub(crate) async fn a_message_that_is_held_holds_up_its_shard_and_no_other<S: Server>() {
    let (source, record) = (Arc::new(S::default()), Record::default());
    let relay = Relay::start(&source, &record, 4).await;
    wait_until("four shards", async || relay.holds() == 4).await;
    record.hold(Some("held 0"));
    let sender = SqlPublisher::new(source.connect().await, SqlPublisherConfig::default()).unwrap();
    let sender = ForwarderPublisher::new(sender);
    let message = |key: usize| Message::new(format!("other {key}")).with_key(format!("key-{key}"));
    let held = Message::new("held 0").with_key("held");
    sender.publish("orders", vec![held]).await.unwrap();
    sender.publish("orders", (0..40).map(message).collect()).await.unwrap();
    // About ten of forty are of the shard whose destination is away.
    wait_until("those of other shards", async || record.arrived().len() >= 20).await;
    assert!(!record.arrived().contains(&"held 0".to_owned()));
    record.hold(None);
    wait_until("all of them", async || record.arrived().len() == 41).await;
}

#[cfg(feature = "postgres")]
pub(crate) async fn refused_by_snapshot() {
    use watermill_sql::CommitOrder;

    let database = crate::postgres_database::Database::default();
    let config = subscriber_config().commit_order(CommitOrder::Snapshot);
    let outbox = SqlSubscriber::new(database.connect().await, config).unwrap();
    let shards = outbox.shards(DEFAULT_TOPIC, Sharding::new(2)).unwrap();
    let error = shards.count().await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    assert!(watermill_core::error::chain(&error).contains("order of transactions"), "{error}");
}
