//! Publishing when the service refuses.

use std::time::Duration;

use watermill_core::{
    Backoff, Message, Publisher,
    error::{NotAccepted, PublishErrorKind},
};
use watermill_gcp::{PubSubPublisher, PubSubPublisherConfig};

use crate::{
    server::{Server, State},
    wire::Status,
};

const RESOURCE_EXHAUSTED: i32 = 8;
const PERMISSION_DENIED: i32 = 7;

async fn publisher(server: &Server) -> PubSubPublisher {
    let retry = Backoff::constant(Duration::from_millis(1));
    let config = PubSubPublisherConfig::new(server.access()).retry(retry).batch_messages(2);
    PubSubPublisher::new(config).await.expect("a valid config")
}

fn of_key(ids: &[&'static str]) -> Vec<Message> {
    ids.iter().map(|id| Message::with_id(*id, *id).with_key("key")).collect()
}

fn accepted(server: &Server) -> Vec<String> {
    server.look(|state| {
        state.accepted.iter().map(|message| String::from_utf8_lossy(&message.data).into_owned()).collect()
    })
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_waited_for() {
    let publishing = [RESOURCE_EXHAUSTED, RESOURCE_EXHAUSTED].map(Status::new).into();
    let server = Server::start(State { publishing, ..State::default() }).await;
    publisher(&server).await.publish("topic", of_key(&["1"])).await.expect("it is tried again");
    assert_eq!(server.look(|state| state.requests), 3);
}

#[tokio::test]
async fn a_key_is_not_accepted_behind_its_first_failure_and_goes_on_afterwards() {
    // Of three requests of two messages the second is refused.
    let publishing = [0, PERMISSION_DENIED].map(Status::new).into();
    let server = Server::start(State { publishing, ..State::default() }).await;
    let publisher = publisher(&server).await;
    let mut messages = of_key(&["1", "2", "3", "4", "5", "6"]);
    let error = publisher.publish("topic", messages.clone()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Refused, "{error}");
    assert_eq!(error.not_accepted(), &NotAccepted::At(vec![2, 3, 4, 5]));

    publisher.publish("topic", messages.split_off(2)).await.expect("the key goes on");
    assert_eq!(accepted(&server), ["1", "2", "3", "4", "5", "6"]);
}

#[tokio::test]
async fn a_call_on_its_way_behind_a_failed_one_is_not_accepted_either() {
    let publishing = [PERMISSION_DENIED].map(Status::new).into();
    let server = Server::start(State { publishing, ..State::default() }).await;
    let publisher = publisher(&server).await;
    let (first, second, other) = tokio::join!(
        publisher.publish("topic", of_key(&["1", "2"])),
        publisher.publish("topic", of_key(&["3", "4"])),
        publisher.publish("topic", vec![Message::with_id("x", "x").with_key("other")]),
    );
    assert_eq!(first.unwrap_err().not_accepted(), &NotAccepted::All);
    let second = second.unwrap_err();
    assert!(second.is_retryable(), "{second}");
    other.expect("other keys are not touched");
    assert_eq!(accepted(&server), ["x"]);
    publisher.publish("topic", of_key(&["1", "2", "3", "4"])).await.expect("the key goes on");
    assert_eq!(accepted(&server), ["x", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn what_a_dropped_call_has_handed_over_is_published() {
    let server = Server::start(State::default()).await;
    let publisher = publisher(&server).await;
    let mut call = publisher.publish("topic", of_key(&["1", "2"]));
    assert!(futures::poll!(&mut call).is_pending());
    drop(call);
    publisher.close().await.expect("closing waits for it");
    assert_eq!(accepted(&server), ["1", "2"]);
}

#[tokio::test]
async fn more_ordering_keys_than_the_client_may_remember_are_published_all_the_same() {
    let server = Server::start(State::default()).await;
    let config = PubSubPublisherConfig::new(server.access()).ordering_keys_max(10);
    let publisher = PubSubPublisher::new(config).await.expect("a valid config");
    for key in 0..50 {
        let message = Message::with_id("", key.to_string()).with_key(key.to_string());
        publisher.publish("topic", vec![message]).await.expect("it is accepted");
    }
    assert_eq!(accepted(&server).len(), 50);
}
