//! Dead letters that would be refused as they are, of both layouts.

use watermill_core::delivery::Outcome;
use watermill_sql::SqlStatus;

use super::*;

/// A NUL is in no text of PostgreSQL, so what is written of one cannot be asked for there.
pub(crate) async fn a_reason_with_a_nul_is_written_without_it<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    for layout in [Layout::Log, Layout::Queue] {
        let (topic, dead) = topics(layout);
        reject::<S>(&pool, layout, Message::with_id("one", "1"), "no\0 good\nat all").await;
        let letters = SqlStatus::new(pool.clone()).peek(&dead, 0, 10).await.unwrap();
        assert_eq!(letters.len(), 1);
        let metadata = letters[0].message.metadata();
        assert_eq!(metadata.get("reason_poisoned"), Some("no  good at all"));
        assert_eq!(metadata.get("topic_poisoned"), Some(&*topic));
    }
}

/// A table whose owner has chosen types that hold less, as PostgreSQL's `jsonb` does.
pub(crate) async fn a_dead_letter_that_is_refused_is_kept_with_less<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    for layout in [Layout::Log, Layout::Queue] {
        let (topic, dead) = topics(layout);
        let config = SqlPublisherConfig::default().layout(layout);
        SqlPublisher::new(pool.clone(), config).unwrap().initialize(&dead).await.unwrap();
        S::execute(&pool, &S::HOLDS_LESS.replace("{dead}", &format!("watermill_{dead}"))).await;
        let message = Message::with_id("one", "\"\\u0000\"").with_metadata("nul", "a\0b");
        reject::<S>(&pool, layout, message, "no").await;
        let letters = SqlStatus::new(pool.clone()).peek(&dead, 0, 10).await.unwrap();
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        assert_eq!(letter.message.id().as_str(), "one");
        assert_eq!(letter.message.metadata().get("reason_poisoned"), Some("no"));
        assert_eq!(letter.message.metadata().get("topic_poisoned"), Some(&*topic));
        let payload = letter.message.metadata().get("payload_poisoned");
        assert_eq!(payload, S::MANY_WRITERS.then_some("Ilx1MDAwMCI="), "a column of bytes holds it");
    }
}

fn topics(layout: Layout) -> (String, String) {
    let topic = format!("{layout:?}").to_lowercase();
    let dead = format!("{topic}_dead");
    (topic, dead)
}

/// Publishes a message, and rejects it.
async fn reject<S: Server>(pool: &Pool<S::Database>, layout: Layout, message: Message, reason: &str) {
    let (topic, dead) = topics(layout);
    let config = SqlPublisherConfig::default().layout(layout);
    SqlPublisher::new(pool.clone(), config).unwrap().publish(&topic, vec![message]).await.unwrap();
    let subscriber: Box<dyn Subscriber> = match layout {
        Layout::Log => Box::new(reader::<S>(pool, SqlSubscriberConfig::default().dead_letter_topic(dead))),
        _ => {
            let config = SqlQueueSubscriberConfig::default().dead_letter_topic(dead);
            Box::new(SqlQueueSubscriber::new(pool.clone(), config).unwrap())
        }
    };
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    let delivery = next(&mut subscription).await;
    let rejected = delivery.settle_confirmed(Outcome::Reject { reason: reason.to_owned() });
    within("the reject", rejected).await.unwrap();
    subscription.close().await.unwrap();
}
