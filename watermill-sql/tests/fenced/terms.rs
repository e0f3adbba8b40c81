//! Terms: a batch and a checkpoint together, one publisher of a name at a time.

use std::time::Duration;

use futures::join;
use watermill_core::{
    Message,
    error::PublishErrorKind,
    fenced::{FencedPublisher as _, Outgoing},
};
use watermill_sql::{Layout, SqlFencedPublisher, SqlPublisherConfig};

use crate::{
    outgoing, publisher,
    server::{Server, begin},
    texts,
};

pub(crate) async fn a_term_begins_with_the_checkpoint_of_the_last_commit_of_its_name<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let publisher = publisher::<S>(&pool);
    let mut term = publisher.begin("relay").await.unwrap();
    assert_eq!(term.checkpoint(), None);
    for number in 0..3 {
        let batch = vec![outgoing("t", number * 2..(number + 1) * 2), outgoing("u", [number])];
        term.commit(batch, number.to_string().into()).await.unwrap();
    }
    let mut other = publisher.begin("Relay").await.unwrap();
    assert_eq!(other.checkpoint(), None, "names are told apart by their bytes");
    other.commit(Vec::new(), "other".into()).await.unwrap();

    let next = publisher.begin("relay").await.unwrap();
    assert_eq!(next.checkpoint().map(|checkpoint| &checkpoint[..]), Some(&b"2"[..]));
    assert_eq!(texts::<S>(&pool, "t").await, ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(texts::<S>(&pool, "u").await, ["0", "1", "2"]);
}

pub(crate) async fn queues_are_published_into_as_well<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let config = SqlPublisherConfig::default().layout(Layout::Queue);
    let publisher = SqlFencedPublisher::new(pool.clone(), config).unwrap();
    let mut term = publisher.begin("relay").await.unwrap();
    let mut batch = outgoing("t", 0..2);
    batch.messages.push(Message::new("2").delay_for(Duration::from_secs(3_600)));
    term.commit(vec![batch], "one".into()).await.unwrap();
    assert_eq!(texts::<S>(&pool, "t where not acked").await, ["0", "1", "2"]);
}

pub(crate) async fn a_batch_that_cannot_be_published_leaves_the_checkpoint_where_it_was<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let publisher = publisher::<S>(&pool);
    let mut term = publisher.begin("relay").await.unwrap();
    term.commit(vec![outgoing("t", 0..2), outgoing("u", 0..1)], "good".into()).await.unwrap();
    S::execute(&pool, S::REFUSE).await;
    let too_long = Outgoing { topic: "t".to_owned(), messages: vec![Message::new("12345678901")] };
    let batch = vec![outgoing("u", 1..2), outgoing("t", 2..3), too_long];
    let error = term.commit(batch, "bad".into()).await.expect_err("one is refused");
    assert_eq!(error.topic(), "t");

    let error = term.commit(Vec::new(), "over".into()).await.expect_err("the term is over");
    assert!(error.is_retryable());
    let next = publisher.begin("relay").await.unwrap();
    assert_eq!(next.checkpoint().map(|checkpoint| &checkpoint[..]), Some(&b"good"[..]));
    assert_eq!(texts::<S>(&pool, "t").await, ["0", "1"]);
    assert_eq!(texts::<S>(&pool, "u").await, ["0"]);
}

pub(crate) async fn a_successor_fences_its_predecessor<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let publisher = publisher::<S>(&pool);
    let mut first = publisher.begin("relay").await.unwrap();
    first.commit(vec![outgoing("t", 0..2)], "first".into()).await.unwrap();
    let mut second = publisher.begin("relay").await.unwrap();
    let late = first.commit(vec![outgoing("t", 8..9)], "late".into()).await;
    assert_eq!(late.expect_err("it is fenced").kind(), PublishErrorKind::Fenced);
    assert_eq!(second.checkpoint().map(|checkpoint| &checkpoint[..]), Some(&b"first"[..]));
    second.commit(vec![outgoing("t", 2..3)], "second".into()).await.unwrap();
    assert_eq!(texts::<S>(&pool, "t").await, ["0", "1", "2"]);
}

pub(crate) async fn a_successor_waits_for_a_commit_that_is_on_its_way<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let publisher = publisher::<S>(&pool);
    publisher.begin("relay").await.unwrap();
    let open = begin::<S>(&pool, "update _watermill_checkpoints set checkpoint = 'open'").await;
    let commit = async {
        // As long as a successor needs that does not wait.
        for _ in 0..50 {
            S::texts(&pool, "select 'one' as text").await;
        }
        open.commit().await.unwrap();
    };
    let (next, ()) = join!(publisher.begin("relay"), commit);
    assert_eq!(next.unwrap().checkpoint().map(|checkpoint| &checkpoint[..]), Some(&b"open"[..]));
}

pub(crate) async fn a_name_that_no_database_can_hold_is_refused<S: Server>() {
    let server = S::default();
    let publisher = publisher::<S>(&server.connect().await);
    for name in ["", "a\0b", &"n".repeat(256)] {
        let error = publisher.begin(name).await.err().expect("it is refused");
        assert_eq!(error.kind(), PublishErrorKind::Refused, "{name:?}");
    }
    publisher.begin(&"n".repeat(255)).await.unwrap();
}

pub(crate) async fn without_schemas_a_missing_table_is_said<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let config = SqlPublisherConfig::default().initialize_schema(false);
    let strict = SqlFencedPublisher::new(pool.clone(), config).unwrap();
    let error = strict.begin("relay").await.err().expect("there is no table");
    assert!(error.to_string().contains("_watermill_checkpoints"), "{error}");

    publisher::<S>(&pool).begin("relay").await.unwrap();
    let mut term = strict.begin("relay").await.unwrap();
    let error = term.commit(vec![outgoing("t", 0..1)], "one".into()).await.expect_err("there is no table");
    assert_eq!((error.kind(), error.topic()), (PublishErrorKind::Topic, "t"));
}
