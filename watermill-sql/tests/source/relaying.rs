//! Outbox tables that somebody has, relayed by the forwarder.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    Backoff, Message, Publisher,
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};
use watermill_forwarder::{DestinationFrom, Forwarder, ForwarderConfig, ForwarderError, ForwarderReport};

use super::{
    outbox::{count, fill, id, source},
    *,
};

/// Takes everything but the payload 1.
#[derive(Clone)]
struct Destination {
    published: Arc<watch::Sender<Vec<(String, Message)>>>,
    refuses: bool,
}

impl Destination {
    fn new(refuses: bool) -> Self {
        Self { published: Arc::new(watch::channel(Vec::new()).0), refuses }
    }

    /// Waits for so many messages: their topics and payloads, by key.
    async fn by_key(&self, count: usize) -> BTreeMap<String, Vec<(String, String)>> {
        let mut published = self.published.subscribe();
        let enough = published.wait_for(|published| published.len() >= count);
        let enough = tokio::time::timeout(watermill_testkit::patience(), enough).await;
        let mut by_key: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for (topic, message) in &**enough.expect("the relay goes on").as_ref().unwrap() {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let key = message.key().map(|key| text(key)).unwrap_or_default();
            by_key.entry(key).or_default().push((topic.clone(), text(message.payload())));
        }
        by_key
    }
}

#[async_trait]
impl Publisher for Destination {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        if self.refuses && messages.iter().any(|message| message.payload() == "1") {
            return Err(PublishError::new(PublishErrorKind::Message, topic));
        }
        let messages = messages.into_iter().map(|message| (topic.to_owned(), message));
        self.published.send_modify(|published| published.extend(messages));
        Ok(())
    }

    async fn close(&self) -> Result<(), PublishError> {
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("test").atomic(true)
    }
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<ForwarderReport, ForwarderError>>,
}

impl Running {
    fn start(outbox: Arc<dyn Subscriber>, destination: &Destination) -> Self {
        let config = ForwarderConfig::default()
            .topic("outbox")
            .batch_size(10)
            .attempts(None)
            .backoff(Backoff::constant(Duration::from_millis(20)))
            .destination_from(DestinationFrom::template("outbox.event.${type}"));
        let relay = Forwarder::builder(outbox, destination.clone()).config(config).build().unwrap();
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(relay.run_until(stop.clone().cancelled_owned())), stop }
    }

    async fn stop(self) -> ForwarderReport {
        self.stop.cancel();
        self.task.await.unwrap().unwrap()
    }
}

/// As a log and as a queue.
fn both<S: Outbox>(pool: &Pool<S::Database>, after_ack: &AfterAck) -> [Arc<dyn Subscriber>; 2] {
    let source = source().after_ack(after_ack.clone());
    [Arc::new(log::<S>(pool, source.clone())), Arc::new(queue::<S>(pool, source))]
}

pub(crate) async fn an_outbox_that_somebody_has_is_relayed_and_its_rows_are_kept_deleted_or_marked<
    S: Outbox,
>() {
    let modes = [
        (AfterAck::Keep, "1 = 0", 8),
        (AfterAck::Delete, "1 = 1", 0),
        (AfterAck::mark("relayed_at"), "relayed_at is not null", 8),
    ];
    for (after_ack, done, left) in modes {
        for way in 0..2 {
            let server = S::default();
            let pool = server.with_outbox().await;
            fill::<S>(&pool, 0..8).await;
            S::execute(&pool, "update outbox set customer = 'c-0' where seq > 4").await;
            let destination = Destination::new(false);
            let relay = Running::start(both::<S>(&pool, &after_ack)[way].clone(), &destination);
            let by_key = destination.by_key(8).await;
            let report = relay.stop().await;
            assert_eq!((report.forwarded, report.dead_lettered), (8, 0));
            assert_eq!(by_key.len(), 4, "{by_key:?}");
            let of_the_key = [0, 4, 5, 6, 7].map(|n| ("outbox.event.placed".to_owned(), n.to_string()));
            assert_eq!(by_key["c-0"], of_the_key, "ids and sequence count up alike");
            let marked = if matches!(after_ack, AfterAck::Mark { .. }) { 8 } else { 0 };
            assert_eq!(count::<S>(&pool, "1 = 1").await, left);
            assert_eq!(count::<S>(&pool, done).await, if left == 0 { 0 } else { marked });
            // What is relayed is relayed, whoever comes next.
            fill::<S>(&pool, 8..9).await;
            let relay = Running::start(both::<S>(&pool, &after_ack)[way].clone(), &destination);
            assert_eq!(destination.by_key(9).await["c-8"].len(), 1);
            assert_eq!(relay.stop().await.forwarded, 1);
        }
    }
}

pub(crate) async fn a_row_without_a_destination_is_dead_lettered_with_the_reason<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 0..2).await;
    S::execute(&pool, "update outbox set kind = null where seq = 1").await;
    let destination = Destination::new(false);
    let [outbox, _] = both::<S>(&pool, &AfterAck::Delete);
    let relay = Running::start(outbox, &destination);
    assert_eq!(destination.by_key(1).await["c-1"].len(), 1);
    assert_eq!(relay.stop().await.dead_lettered, 1);
    assert_eq!(count::<S>(&pool, "1 = 1").await, 0);
    let ours = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).unwrap();
    let letter = next(&mut ours.subscribe("forwarder_dead_letter").await.unwrap()).await;
    assert_eq!(letter.id().as_str(), id(0));
    let reason = letter.metadata().get("reason_poisoned").unwrap();
    assert!(reason.contains("find the destination"), "{reason}");
}

pub(crate) async fn a_row_that_is_refused_for_ever_and_then_deleted_holds_up_its_key_no_longer<S: Outbox>() {
    for way in 0..2 {
        let server = S::default();
        let pool = server.with_outbox().await;
        fill::<S>(&pool, 0..4).await;
        // Two of a key behind it, and one of another.
        S::execute(&pool, "update outbox set customer = 'c' where seq < 4").await;
        let destination = Destination::new(true);
        let relay = Running::start(both::<S>(&pool, &AfterAck::Delete)[way].clone(), &destination);
        let before = destination.by_key(2).await;
        assert_eq!((before["c"].len(), before["c-3"].len()), (1, 1), "what is behind it waits");
        S::execute(&pool, "delete from outbox where seq = 2").await;
        assert_eq!(destination.by_key(3).await["c"].last().unwrap().1, "2");
        let report = relay.stop().await;
        assert_eq!((report.forwarded, report.dead_lettered), (3, 0));
        assert_eq!(count::<S>(&pool, "1 = 1").await, 0);
    }
}

pub(crate) async fn a_row_without_a_value_is_relayed_as_a_tombstone<S: Outbox>() {
    for way in 0..2 {
        let server = S::default();
        let pool = server.with_outbox().await;
        fill::<S>(&pool, 0..2).await;
        S::execute(&pool, "update outbox set payload = null where seq = 2").await;
        let destination = Destination::new(false);
        let relay = Running::start(both::<S>(&pool, &AfterAck::Delete)[way].clone(), &destination);
        destination.by_key(2).await;
        relay.stop().await;
        let published = destination.published.borrow();
        let mut tombstones: Vec<_> = published
            .iter()
            .map(|(_, message)| (message.key().cloned().unwrap(), message.is_tombstone()))
            .collect();
        tombstones.sort();
        assert_eq!(tombstones, [("c-0".into(), false), ("c-1".into(), true)]);
    }
}
