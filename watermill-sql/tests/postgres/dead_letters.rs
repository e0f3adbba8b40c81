//! What is moved to the dead-letter topic, whatever its column holds.

use watermill_sql::PayloadColumn;

use super::*;

#[tokio::test]
async fn rows_without_a_payload_are_moved_to_the_dead_letters_and_hold_nothing_up() {
    let database = Database::default();
    let pool = database.pool().await;
    publisher(&pool).initialize("t").await.unwrap();
    execute(&pool, "insert into watermill_t (uuid, metadata) values ('a', '[1]'), ('b', '{}')").await;
    publisher(&pool).publish("t", numbered(7..8)).await.unwrap();
    let config = SqlSubscriberConfig::default().dead_letter_topic("dead");
    let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    let error = within("an error", subscription.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Undecodable, "{error}");
    next(&mut subscription).await.reject("it says nothing");
    let last = next(&mut subscription).await;
    within("the ack", last.ack_confirmed()).await.unwrap();

    let mut dead = subscriber(&pool).subscribe("dead").await.unwrap();
    let unreadable = next(&mut dead).await;
    assert_eq!((unreadable.id().as_str(), unreadable.payload().as_ref()), ("a", &b""[..]));
    assert_eq!(unreadable.metadata().get("metadata_poisoned"), Some("[1]"));
    unreadable.ack();
    let rejected = next(&mut dead).await;
    assert_eq!((rejected.id().as_str(), rejected.payload().as_ref()), ("b", &b""[..]));
    assert_eq!(rejected.metadata().get("reason_poisoned"), Some("it says nothing"));
}

#[tokio::test]
async fn a_payload_that_the_dead_letters_column_cannot_hold_is_kept_in_their_metadata() {
    let database = Database::default();
    let pool = database.pool().await;
    let bytes = SqlPublisherConfig::default().payload_column(PayloadColumn::Bytes);
    let publisher = SqlPublisher::new(pool.clone(), bytes).unwrap();
    publisher.publish("t", vec![Message::new(vec![0, 255]), Message::new("7")]).await.unwrap();
    let config = SqlSubscriberConfig::default().dead_letter_topic("dead");
    let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    next(&mut subscription).await.reject("no");
    next(&mut subscription).await.reject("no either");
    let mut dead = subscriber(&pool).subscribe("dead").await.unwrap();
    let letter = next(&mut dead).await;
    assert_eq!(
        (letter.payload().as_ref(), letter.metadata().get("payload_poisoned")),
        (&b""[..], Some("AP8="))
    );
    letter.ack();
    let letter = next(&mut dead).await;
    assert_eq!((letter.payload().as_ref(), letter.metadata().get("payload_poisoned")), (&b"7"[..], None));
}

#[tokio::test]
async fn dead_letters_whose_column_has_bytes_take_any_payload_as_it_is() {
    let database = Database::default();
    let pool = database.pool().await;
    let bytes = SqlPublisherConfig::default().payload_column(PayloadColumn::Bytes);
    let bytes = SqlPublisher::new(pool.clone(), bytes).unwrap();
    for topic in ["t", "dead"] {
        bytes.initialize(topic).await.unwrap();
    }
    bytes.publish("t", vec![Message::new(vec![0, 255])]).await.unwrap();
    let config = SqlSubscriberConfig::default().dead_letter_topic("dead");
    let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    next(&mut subscription).await.reject("no");
    let mut dead = subscriber(&pool).subscribe("dead").await.unwrap();
    assert_eq!(next(&mut dead).await.payload(), &[0, 255][..]);
}
