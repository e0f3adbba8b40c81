//! Reading when streams break and acks fail.

use std::time::Duration;

use futures::StreamExt;
use watermill_core::{
    Backoff, Delivery, Subscriber, Subscription, error::SettleErrorKind, subscription::Health,
};
use watermill_gcp::{PubSubDelivery, PubSubSubscriber, PubSubSubscriberConfig};

use crate::{
    server::{Pull, Server, State, received},
    wire::Status,
};

const FAILED_PRECONDITION: i32 = 9;
const UNAVAILABLE: i32 = 14;

async fn subscribe(server: &Server) -> Subscription {
    let retry = Backoff::constant(Duration::from_millis(1));
    let config = PubSubSubscriberConfig::new(server.access()).retry(retry);
    let subscriber = PubSubSubscriber::new(config).await.expect("a valid config");
    subscriber.subscribe("topic").await.expect("it may look at nothing and reads all the same")
}

async fn next(subscription: &mut Subscription) -> Delivery {
    let next = tokio::time::timeout(Duration::from_secs(30), subscription.next()).await;
    next.expect("in time").expect("the stream goes on").expect("a delivery")
}

#[tokio::test]
async fn a_stream_that_breaks_is_opened_again_without_a_word() {
    let pulls = [
        Pull::Send(vec![received("1", "")]),
        Pull::Break(Status::new(UNAVAILABLE)),
        Pull::Send(vec![received("2", "")]),
    ];
    let server = Server::start(State { pulls: pulls.into(), ..State::default() }).await;
    let mut subscription = subscribe(&server).await;
    for id in ["1", "2"] {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.id(), id);
        delivery.ack();
    }
    assert_eq!(server.look(|state| state.streams), 2);
    subscription.close().await.expect("it closes");
    let mut acked = server.look(|state| state.acked.clone());
    acked.sort_unstable();
    assert_eq!(acked, ["ack-1", "ack-2"]);
}

#[tokio::test]
async fn what_the_client_gives_up_on_is_an_error_and_a_status_and_is_tried_again() {
    let pulls = [Pull::Break(Status::new(FAILED_PRECONDITION)), Pull::Send(vec![received("1", "")])];
    let server = Server::start(State { pulls: pulls.into(), ..State::default() }).await;
    let mut subscription = subscribe(&server).await;
    let error = subscription.next().await.expect("the stream goes on").expect_err("it is said");
    assert!(error.to_string().contains("refused"), "{error}");
    next(&mut subscription).await.ack();
    assert_eq!(subscription.status().health, Health::Healthy);
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn an_exactly_once_ack_is_confirmed_and_one_that_came_too_late_is_lost() {
    let pulls = [Pull::Send(vec![received("1", ""), received("2", "")])];
    let acking =
        [Status::new(FAILED_PRECONDITION).with_ack_ids(&[("ack-2", "PERMANENT_FAILURE_INVALID_ACK_ID")])];
    let state = State { pulls: pulls.into(), acking: acking.into(), exactly_once: true, ..State::default() };
    let server = Server::start(state).await;
    let mut subscription = subscribe(&server).await;
    let (first, second) = (next(&mut subscription).await, next(&mut subscription).await);
    let (first, second) = tokio::join!(first.ack_confirmed(), second.ack_confirmed());
    first.expect("the service has it");
    assert_eq!(second.unwrap_err().kind(), SettleErrorKind::Lost);
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn an_exactly_once_ack_that_fails_for_a_while_is_tried_again() {
    let pulls = [Pull::Send(vec![received("1", "")])];
    let acking =
        [Status::new(FAILED_PRECONDITION)
            .with_ack_ids(&[("ack-1", "TRANSIENT_FAILURE_SERVICE_UNAVAILABLE")])];
    let state = State { pulls: pulls.into(), acking: acking.into(), exactly_once: true, ..State::default() };
    let server = Server::start(state).await;
    let mut subscription = subscribe(&server).await;
    next(&mut subscription).await.ack_confirmed().await.expect("in the end the service has it");
    assert_eq!(server.look(|state| state.acked.clone()), ["ack-1"]);
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn an_exactly_once_ack_of_the_last_that_is_out_counts_after_reading_has_stopped() {
    let pulls = [Pull::Send(["1", "2", "3"].map(|id| received(id, "key")).into())];
    let server = Server::start(State { pulls: pulls.into(), exactly_once: true, ..State::default() }).await;
    let mut subscription = subscribe(&server).await;
    let out = next(&mut subscription).await;
    subscription.stop_intake();
    server.until("what is fresh goes back", |state| state.nacked.contains(&"ack-2".to_owned())).await;
    out.ack();
    subscription.close().await.expect("it closes");
    server.look(|state| {
        assert_eq!(state.acked, ["ack-1"]);
        assert!(!state.nacked.contains(&"ack-1".to_owned()), "{:?}", state.nacked);
        assert!(state.nacked.contains(&"ack-3".to_owned()), "{:?}", state.nacked);
    });
}

#[tokio::test]
async fn a_nacked_message_comes_before_what_was_on_its_way_already() {
    let all = ["1", "2", "3"].map(|id| received(id, "key"));
    let mut again = received("1", "key");
    again.ack_id = "again-1".to_owned();
    let pulls = [Pull::Send(vec![all[0].clone()])];
    let server = Server::start(State { pulls: pulls.into(), ..State::default() }).await;
    let mut subscription = subscribe(&server).await;
    next(&mut subscription).await.nack();
    server.until("the nack", |state| !state.nacked.is_empty()).await;
    // The later ones are sent before the nacked one.
    server.play([
        Pull::Break(Status::new(UNAVAILABLE)),
        Pull::Send(vec![all[1].clone(), all[2].clone(), again]),
    ]);
    for id in ["1", "2", "3"] {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.id(), id);
        delivery.ack();
    }
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn what_the_service_says_of_a_delivery_is_an_extension_of_its_message() {
    let mut counted = received("1", "key");
    counted.delivery_attempt = 3;
    let pulls = [Pull::Send(vec![counted])];
    let server = Server::start(State { pulls: pulls.into(), ..State::default() }).await;
    let mut subscription = subscribe(&server).await;
    let delivery = next(&mut subscription).await;
    assert_eq!((delivery.info().attempt(), delivery.info().redelivered()), (3, true));
    let pubsub = delivery.extensions().get::<PubSubDelivery>().expect("it is there");
    assert_eq!((&*pubsub.message_id, pubsub.ordering_key.as_deref()), ("m-1", Some("key")));
    delivery.ack();
    subscription.close().await.expect("it closes");
}
