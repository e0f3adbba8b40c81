//! Reading when streams break and acks fail.

use futures::StreamExt;
use watermill_core::{Window, error::SettleErrorKind, subscription::Health};
use watermill_gcp::PubSubDelivery;

use crate::{
    server::{Pull, Server, State, received},
    support::{FAILED_PRECONDITION, RESOURCE_EXHAUSTED, UNAVAILABLE, next, subscribe},
    wire::Status,
};

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
    assert_eq!(server.look(|state| state.streams.len()), 2);
    subscription.close().await.expect("it closes");
    let mut acked = server.look(|state| state.acked.clone());
    acked.sort_unstable();
    assert_eq!(acked, ["ack-1", "ack-2"]);
}

/// As the service's do every few minutes, for as long as anybody reads.
#[tokio::test]
async fn streams_that_break_again_and_again_lose_nothing_and_repeat_nothing() {
    const STREAMS: usize = 12;
    let of_stream = |number: usize| {
        [Pull::Send(vec![received(&number.to_string(), "key")]), Pull::Break(Status::new(UNAVAILABLE))]
    };
    let pulls = (0..STREAMS).flat_map(of_stream).collect();
    let server = Server::start(State { pulls, ..State::default() }).await;
    let mut subscription = subscribe(&server).await;
    subscription.set_window(Window::ordered(STREAMS.try_into().expect("not zero")));
    // The first is in hand for as long as the streams come and go, and is acked on none of them.
    let held = next(&mut subscription).await;
    assert_eq!(held.id(), "0");
    for number in 1..STREAMS {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.id().as_str(), number.to_string());
        delivery.ack();
    }
    assert!(!held.is_lost());
    held.ack();
    assert_eq!(subscription.status().health, Health::Healthy);
    subscription.close().await.expect("it closes");
    server.look(|state| {
        let mut acked = state.acked.clone();
        acked.sort_unstable();
        let mut expected: Vec<_> = (0..STREAMS).map(|number| format!("ack-{number}")).collect();
        expected.sort_unstable();
        assert_eq!(acked, expected);
        assert_eq!(state.nacked, [""; 0]);
    });
}

#[tokio::test]
async fn a_quota_of_streams_that_is_used_up_is_waited_for_without_a_word() {
    let used_up = || Pull::Break(Status::new(RESOURCE_EXHAUSTED));
    let pulls = [used_up(), used_up(), Pull::Send(vec![received("1", "")])];
    let server = Server::start(State { pulls: pulls.into(), ..State::default() }).await;
    let mut subscription = subscribe(&server).await;
    next(&mut subscription).await.ack();
    subscription.close().await.expect("it closes");
    assert_eq!(server.look(|state| state.acked.clone()), ["ack-1"]);
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
async fn an_exactly_once_ack_for_which_the_quota_is_used_up_is_tried_again() {
    let pulls = [Pull::Send(vec![received("1", "")])];
    let acking = [RESOURCE_EXHAUSTED, UNAVAILABLE].map(Status::new);
    let state = State { pulls: pulls.into(), acking: acking.into(), exactly_once: true, ..State::default() };
    let server = Server::start(state).await;
    let mut subscription = subscribe(&server).await;
    next(&mut subscription).await.ack_confirmed().await.expect("in the end the service has it");
    assert_eq!(server.look(|state| state.acked.clone()), ["ack-1"]);
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn an_ack_that_failed_and_nobody_confirms_is_a_message_that_may_come_again() {
    let pulls = [Pull::Send(vec![received("1", "")])];
    let acking = [FAILED_PRECONDITION].map(Status::new);
    let server =
        Server::start(State { pulls: pulls.into(), acking: acking.into(), ..State::default() }).await;
    let mut subscription = subscribe(&server).await;
    next(&mut subscription)
        .await
        .ack_confirmed()
        .await
        .expect("the client has it, which is all one can know");
    server.until("the ack that fails", |state| state.acking.is_empty()).await;
    let mut again = received("1", "");
    again.ack_id = "again-1".to_owned();
    server.play([Pull::Send(vec![again])]);
    let again = next(&mut subscription).await;
    assert_eq!(again.id(), "1");
    again.ack();
    subscription.close().await.expect("it closes");
    assert_eq!(server.look(|state| state.acked.clone()), ["again-1"]);
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
