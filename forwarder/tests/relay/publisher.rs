//! What `ForwarderPublisher` hands to the publisher it wraps.

use watermill_core::{
    Message, Publisher,
    error::{NotAccepted, PublishErrorKind},
};
use watermill_forwarder::{Envelope, ForwarderPublisher};
use watermill_testkit::RecordingPublisher;

fn messages(count: usize) -> Vec<Message> {
    (0..count).map(|id| Message::with_id(id.to_string(), "x").with_key("k").with_metadata("a", "b")).collect()
}

#[tokio::test]
async fn a_call_becomes_one_call_with_an_envelope_for_each_message() {
    let inner = RecordingPublisher::new();
    let publisher = ForwarderPublisher::new(inner.clone());
    publisher.publish("orders", messages(3)).await.unwrap();
    assert_eq!(inner.calls(), [("forwarder_topic".to_owned(), 3)]);
    let envelopes = inner.published("forwarder_topic");
    for (outer, message) in envelopes.iter().zip(messages(3)) {
        assert_eq!(outer.key().unwrap(), "k", "the outbox keeps the order of the key");
        assert_eq!(Envelope::unwrap(outer).unwrap(), Envelope::new("orders", message));
    }
}

#[tokio::test]
async fn the_forwarder_topic_can_be_another_one() {
    let inner = RecordingPublisher::new();
    ForwarderPublisher::new(&inner).topic("outbox").publish("orders", messages(1)).await.unwrap();
    assert_eq!(inner.published("outbox").len(), 1);
}

#[tokio::test]
async fn an_error_names_the_positions_of_the_messages() {
    let inner = RecordingPublisher::new();
    inner.fail_next_at([0, 2], PublishErrorKind::Unavailable);
    let error = ForwarderPublisher::new(&inner).publish("orders", messages(3)).await.unwrap_err();
    assert_eq!(*error.not_accepted(), NotAccepted::At(vec![0, 2]));
    assert_eq!(inner.published("forwarder_topic").len(), 1);
}

#[tokio::test]
async fn a_message_without_a_destination_is_refused_before_anything_is_sent() {
    let inner = RecordingPublisher::new();
    let error = ForwarderPublisher::new(&inner).publish("", messages(1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Topic);
    assert!(inner.calls().is_empty());
}

#[tokio::test]
async fn it_can_do_what_the_inner_publisher_can_and_closes_with_it() {
    let inner = RecordingPublisher::new().atomic(true);
    let publisher = ForwarderPublisher::new(inner.clone());
    assert_eq!(publisher.capabilities(), inner.capabilities());
    publisher.close().await.unwrap();
    assert!(inner.is_closed());
    let error = publisher.publish("orders", messages(1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Closed);
}
