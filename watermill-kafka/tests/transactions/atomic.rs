//! A call that is published as a whole.

use watermill_core::{Message, Publisher as _, error::PublishErrorKind};
use watermill_kafka::{CreateTopics, KafkaTransactionalPublisher};
use watermill_testkit::unique;

use crate::support::{config, messages, texts, topic};

fn publisher(id: &str) -> KafkaTransactionalPublisher {
    KafkaTransactionalPublisher::new(config(), id).expect("a valid config")
}

#[tokio::test]
async fn a_call_with_a_message_that_the_broker_refuses_is_not_published_at_all() {
    let topic = topic(&[("max.message.bytes", "2000")]).await;
    // In batches of their own, so that the others are written before the refusal.
    let config = config().option("batch.num.messages", "1");
    let publisher = KafkaTransactionalPublisher::new(config, unique("id")).expect("a valid config");
    publisher.publish(&topic, messages(0..3)).await.expect("it is committed");

    let call = vec![Message::new("a"), Message::new(vec![b'x'; 5000]), Message::new("b")];
    let error = publisher.publish(&topic, call).await.expect_err("one is too large");
    assert_eq!(error.kind(), PublishErrorKind::Message, "{error:?}");
    publisher.publish(&topic, messages(3..5)).await.expect("the next call is committed");
    assert_eq!(texts(&topic), ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_publisher_whose_id_somebody_else_uses_is_fenced_for_good() {
    let (topic, id) = (topic(&[]).await, unique("id"));
    let (first, second) = (publisher(&id), publisher(&id));
    first.publish(&topic, messages(0..1)).await.expect("it is committed");
    second.publish(&topic, messages(1..2)).await.expect("it takes over");
    for _ in 0..2 {
        let error = first.publish(&topic, messages(2..3)).await.expect_err("it was succeeded");
        assert_eq!(error.kind(), PublishErrorKind::Fenced, "{error:?}");
        assert!(!error.is_retryable());
    }
    second.publish(&topic, messages(3..4)).await.expect("it goes on");
    assert_eq!(texts(&topic), ["0", "1", "3"]);
}

#[tokio::test]
async fn missing_topics_are_made_when_that_is_asked_for_and_otherwise_named() {
    let error = publisher(&unique("id")).publish(&unique("missing"), messages(0..1)).await;
    let error = error.expect_err("there is no such topic");
    assert_eq!(error.kind(), PublishErrorKind::Topic, "{error:?}");

    let config = config().create_topics(CreateTopics::new(1, 1));
    let publisher = KafkaTransactionalPublisher::new(config, unique("id")).expect("a valid config");
    for topic in [unique("made"), unique("made")] {
        publisher.publish(&topic, messages(0..2)).await.expect("the topic is made");
        assert_eq!(texts(&topic), ["0", "1"]);
    }
}

#[tokio::test]
async fn good_messages_that_make_a_batch_too_large_are_published_all_the_same_and_a_bad_one_is_blamed_alone()
{
    let topic = topic(&[("max.message.bytes", "20000")]).await;
    let publisher = KafkaTransactionalPublisher::new(config(), unique("id")).expect("a valid config");
    let call = |sizes: &[usize]| sizes.iter().map(|size| Message::new(vec![b'x'; *size])).collect::<Vec<_>>();
    publisher.publish(&topic, call(&[6_000; 20])).await.expect("each of them fits");
    assert_eq!(texts(&topic).len(), 20);
    let error = publisher.publish(&topic, call(&[6_000, 30_000, 6_000])).await.expect_err("one does not fit");
    assert_eq!(error.kind(), PublishErrorKind::Message, "{error:?}");
    assert_eq!(texts(&topic).len(), 20, "all or nothing");
}
