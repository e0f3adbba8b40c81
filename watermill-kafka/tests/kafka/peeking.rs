//! Messages that are looked at without being consumed.

use futures::future;
use watermill_core::{Message, Subscriber as _, error::SubscribeErrorKind};
use watermill_kafka::{KafkaStatus, PeekedMessage};
use watermill_testkit::unique;

use crate::{
    lag::ask,
    support::{config, messages, next, publish, subscriber, topic, within},
};

async fn peek(topic: &str, from: i64, limit: usize) -> Vec<PeekedMessage> {
    let status = KafkaStatus::new(config()).expect("a valid config");
    within("an answer", status.peek(topic, 0, from, limit)).await.expect("it is answered")
}

fn offsets(peeked: &[PeekedMessage]) -> Vec<i64> {
    peeked.iter().map(|peeked| peeked.offset).collect()
}

#[tokio::test]
async fn messages_are_looked_at_a_page_at_a_time_and_stay_where_they_are() {
    let (topic, group) = (topic(1).await, unique("group"));
    assert_eq!(offsets(&peek(&topic, 0, 10).await), [0; 0], "there is nothing yet");
    publish(&topic, &messages(0..30, 1)).await;
    let first = peek(&topic, i64::MIN, 20).await;
    assert_eq!(offsets(&first), (0..20).collect::<Vec<_>>());
    assert_eq!(offsets(&peek(&topic, 20, 20).await), (20..30).collect::<Vec<_>>(), "up to the end");
    for (from, limit) in [(30, 10), (i64::MAX, 10), (0, 0)] {
        assert_eq!(offsets(&peek(&topic, from, limit).await), [0; 0], "{limit} from {from}");
    }
    assert_eq!(ask(config(), &group, &topic).await.lag(), 30, "nobody has read anything");
}

#[tokio::test]
async fn a_message_that_is_looked_at_is_all_there_and_can_be_published_again() {
    let (from, to) = (topic(1).await, topic(1).await);
    let whole =
        Message::with_id("whole", "payload").with_key("k").with_metadata("reason_poisoned", "no prices");
    let tombstone = Message::with_id("gone", "").with_key("k").without_value();
    publish(&from, &[whole.clone(), tombstone.clone()]).await;
    let peeked = peek(&from, 0, 10).await;
    assert!(peeked.iter().all(|peeked| peeked.partition == 0 && peeked.published_at.is_some()), "{peeked:?}");
    let found: Vec<Message> = peeked.into_iter().map(|peeked| peeked.message).collect();
    assert_eq!(found, [whole.clone(), tombstone]);
    assert!(!found[0].is_tombstone() && found[1].is_tombstone());

    publish(&to, &found[..1]).await;
    let mut subscription = subscriber(config()).subscribe(&to).await.expect("it subscribes");
    let again = next(&mut subscription).await;
    assert_eq!(*again, whole);
    again.ack();
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let topic = topic(1).await;
    let status = KafkaStatus::new(config()).expect("a valid config");
    let missing = unique("missing");
    let asked = [(&*missing, 0), (&*topic, 1), (&*topic, -1)];
    let refused = asked.map(|(topic, partition)| status.peek(topic, partition, 0, 10));
    for refused in within("answers", future::join_all(refused)).await {
        let refused = refused.expect_err("it is not there");
        assert_eq!(refused.kind(), SubscribeErrorKind::Topic, "{refused}");
    }
}
