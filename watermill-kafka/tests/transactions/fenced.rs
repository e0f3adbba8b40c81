//! Terms: a batch and a checkpoint together, one publisher of a name at a time.

use rdkafka::producer::{BaseRecord, Producer as _};
use watermill_core::{
    Message,
    error::PublishErrorKind,
    fenced::{FencedPublisher as _, Outgoing},
};
use watermill_kafka::KafkaFencedPublisher;
use watermill_testkit::unique;

use crate::support::{WAIT, config, messages, raw, texts, topic};

struct Setup {
    publisher: KafkaFencedPublisher,
    checkpoints: String,
    name: String,
}

fn setup() -> Setup {
    let checkpoints = unique("checkpoints");
    let publisher = KafkaFencedPublisher::new(config()).expect("a valid config");
    let publisher = publisher.with_checkpoint_topic(&checkpoints).expect("a valid name");
    Setup { publisher, checkpoints, name: unique("relay") }
}

fn outgoing(topic: &str, messages: Vec<Message>) -> Outgoing {
    Outgoing { topic: topic.to_owned(), messages }
}

#[tokio::test]
async fn a_term_begins_with_the_checkpoint_of_the_last_commit_of_its_name() {
    let Setup { publisher, name, .. } = setup();
    let (one, two) = (topic(&[]).await, topic(&[]).await);
    let mut term = publisher.begin(&name).await.expect("it begins");
    assert_eq!(term.checkpoint(), None);
    for number in 0..3 {
        let numbers = number * 2..(number + 1) * 2;
        let batch = vec![outgoing(&one, messages(numbers)), outgoing(&two, messages(number..number + 1))];
        term.commit(batch, number.to_string().into()).await.expect("it is committed");
    }
    let mut other = publisher.begin(&unique("other")).await.expect("another name begins");
    assert_eq!(other.checkpoint(), None);
    other.commit(Vec::new(), "other".into()).await.expect("it is committed");

    let next = publisher.begin(&name).await.expect("it begins again");
    assert_eq!(next.checkpoint().map(|checkpoint| &checkpoint[..]), Some(&b"2"[..]));
    assert_eq!(texts(&one), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(texts(&two), ["0", "1", "2"]);
}

#[tokio::test]
async fn a_batch_that_cannot_be_published_leaves_the_checkpoint_where_it_was() {
    let Setup { publisher, name, .. } = setup();
    let topic = topic(&[("max.message.bytes", "2000")]).await;
    let mut term = publisher.begin(&name).await.expect("it begins");
    term.commit(vec![outgoing(&topic, messages(0..2))], "good".into()).await.expect("it is committed");
    let batch = vec![outgoing(&topic, vec![Message::new("a"), Message::new(vec![b'x'; 5000])])];
    let error = term.commit(batch, "bad".into()).await.expect_err("one is too large");
    assert_eq!((error.kind(), error.topic()), (PublishErrorKind::Message, &*topic));

    let error = term.commit(Vec::new(), "over".into()).await.expect_err("the term is over");
    assert!(error.is_retryable());
    let next = publisher.begin(&name).await.expect("it begins again");
    assert_eq!(next.checkpoint().map(|checkpoint| &checkpoint[..]), Some(&b"good"[..]));
    assert_eq!(texts(&topic), ["0", "1"]);
}

#[tokio::test]
async fn a_successor_fences_its_predecessor_and_ends_the_batch_it_has_left_open() {
    let Setup { publisher, name, .. } = setup();
    let topic = topic(&[]).await;
    let zombie = raw(&name);
    zombie.begin_transaction().expect("it begins");
    for _ in 0..100 {
        zombie.send(BaseRecord::<(), _>::to(&topic).payload("zombie")).expect("it is queued");
    }
    zombie.flush(WAIT).expect("it is written, and not committed");

    let mut first = publisher.begin(&name).await.expect("it takes over");
    zombie.commit_transaction(WAIT).expect_err("it is fenced");
    first.commit(vec![outgoing(&topic, messages(0..2))], "first".into()).await.expect("it is committed");

    let mut second = publisher.begin(&name).await.expect("it takes over too");
    let late = first.commit(vec![outgoing(&topic, messages(8..9))], "late".into()).await;
    assert_eq!(late.expect_err("it is fenced").kind(), PublishErrorKind::Fenced);
    assert_eq!(second.checkpoint().map(|checkpoint| &checkpoint[..]), Some(&b"first"[..]));
    second.commit(vec![outgoing(&topic, messages(2..3))], "second".into()).await.expect("it is committed");
    assert_eq!(texts(&topic), ["0", "1", "2"]);
}

#[tokio::test]
async fn what_is_published_during_a_commit_is_committed_after_it() {
    let Setup { publisher, name, .. } = setup();
    let topic = topic(&[]).await;
    let mut term = publisher.begin(&name).await.expect("it begins");
    let mut last =
        term.publish(vec![outgoing(&topic, messages(0..2))], "0".into()).await.expect("it is sent");
    for number in 1..4 {
        let batch = vec![outgoing(&topic, messages(number * 2..(number + 1) * 2))];
        let next = term.publish(batch, number.to_string().into()).await.expect("it is sent");
        std::mem::replace(&mut last, next).ended().await.expect("it is committed");
    }
    drop(last);
    let next = publisher.begin(&name).await.expect("it begins again");
    assert_eq!(next.checkpoint().map(|checkpoint| &checkpoint[..]), Some(&b"2"[..]));
    assert_eq!(texts(&topic), ["0", "1", "2", "3", "4", "5"], "what nobody has committed is not there");
}

#[tokio::test]
async fn what_comes_after_a_commit_that_has_not_succeeded_is_never_committed() {
    let Setup { publisher, name, .. } = setup();
    let topic = topic(&[]).await;
    let mut term = publisher.begin(&name).await.expect("it begins");
    let first =
        term.publish(vec![outgoing(&topic, messages(0..1))], "first".into()).await.expect("it is sent");
    let second =
        term.publish(vec![outgoing(&topic, messages(1..2))], "second".into()).await.expect("it is sent");
    assert!(second.ended().await.expect_err("the first is not committed").is_retryable());
    drop(first);
    let next = publisher.begin(&name).await.expect("it begins again");
    assert_eq!(next.checkpoint(), None);
    assert!(texts(&topic).is_empty());
}

#[tokio::test]
async fn a_checkpoint_is_found_however_many_of_others_were_written_since() {
    let Setup { publisher, name, checkpoints } = setup();
    let mut term = publisher.begin(&name).await.expect("it begins");
    for checkpoint in ["first", "last"] {
        term.commit(Vec::new(), checkpoint.into()).await.expect("it is committed");
    }
    let other = raw(&unique("other"));
    for others in [200, 5_000] {
        other.begin_transaction().expect("it begins");
        for _ in 0..others {
            let record = BaseRecord::to(&checkpoints).key("other").payload("x").partition(0);
            other.send(record).expect("it is queued");
        }
        other.commit_transaction(WAIT).expect("it is committed");
        let next = publisher.begin(&name).await.expect("it begins again");
        assert_eq!(next.checkpoint().map(|checkpoint| &checkpoint[..]), Some(&b"last"[..]));
    }
    let new = publisher.begin(&unique("new")).await.expect("a new name begins");
    assert_eq!(new.checkpoint(), None);
}

#[tokio::test]
async fn a_checkpoint_behind_somebody_elses_open_transaction_is_found() {
    let Setup { publisher, name, checkpoints } = setup();
    publisher.begin(&name).await.expect("the topic of checkpoints is made");
    let other = raw(&unique("other"));
    other.begin_transaction().expect("it begins");
    let record = BaseRecord::to(&checkpoints).key("other").payload("open").partition(0);
    other.send(record).expect("it is queued");
    other.flush(WAIT).expect("it is written, and not committed");

    let mut term = publisher.begin(&name).await.expect("it begins");
    term.commit(Vec::new(), "mine".into()).await.expect("it is committed");
    // It waits until the broker ends the other transaction, which nobody goes on with.
    let next = publisher.begin(&name).await.expect("it begins again");
    assert_eq!(next.checkpoint().map(|checkpoint| &checkpoint[..]), Some(&b"mine"[..]));
}
