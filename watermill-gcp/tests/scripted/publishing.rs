//! Publishing when the service refuses.

use std::time::Duration;

use futures::future::join_all;
use watermill_core::{
    Backoff, Message, Publisher,
    error::{NotAccepted, PublishError, PublishErrorKind},
};
use watermill_gcp::{PubSubPublisher, PubSubPublisherConfig};

use crate::{
    server::{Server, State},
    support::{PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAVAILABLE},
    wire::Status,
};

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

/// Three callers, each with a key of its own and a few calls on their way at once, who publish again what was
/// not accepted, while the service refuses one request in four.
#[tokio::test]
async fn however_often_it_is_refused_a_key_arrives_whole_and_in_order() {
    const MESSAGES: usize = 120;
    let mut random = fastrand::Rng::with_seed(7);
    let refusal = |_| Status::new(if random.u8(..4) == 0 { PERMISSION_DENIED } else { 0 });
    let server =
        Server::start(State { publishing: (0..500).map(refusal).collect(), ..State::default() }).await;
    let publisher = &publisher(&server).await;
    let publish_all = async |key: &'static str| {
        let mut left: Vec<Message> =
            (0..MESSAGES).map(|number| Message::new(format!("{key}{number}")).with_key(key)).collect();
        while !left.is_empty() {
            let calls: Vec<_> = left.chunks(5).take(3).map(<[Message]>::to_vec).collect();
            let later = left.split_off(calls.iter().map(Vec::len).sum());
            let ended = join_all(calls.iter().map(|call| publisher.publish("topic", call.clone()))).await;
            left = calls.iter().zip(ended).flat_map(|(call, ended)| not_accepted(call, ended)).collect();
            left.extend(later);
        }
    };
    join_all(["a", "b", "c"].map(publish_all)).await;
    let accepted = accepted(&server);
    for key in ["a", "b", "c"] {
        let of_key: Vec<_> = accepted.iter().filter(|data| data.starts_with(key)).collect();
        let expected: Vec<_> = (0..MESSAGES).map(|number| format!("{key}{number}")).collect();
        assert!(of_key.into_iter().eq(&expected), "{accepted:?}");
    }
    assert!(server.look(|state| state.requests) > 3 * MESSAGES / 2 + 20, "some were refused");
}

fn not_accepted(call: &[Message], ended: Result<(), PublishError>) -> Vec<Message> {
    match ended.as_ref().map_err(PublishError::not_accepted) {
        Ok(()) => Vec::new(),
        Err(NotAccepted::At(positions)) => positions.iter().map(|&at| call[at].clone()).collect(),
        Err(_) => call.to_vec(),
    }
}

#[tokio::test]
async fn a_call_fills_requests_and_so_do_calls_at_once() {
    let server = Server::start(State::default()).await;
    // What waits for more messages waits for longer than this test does.
    let config = PubSubPublisherConfig::new(server.access()).linger(Duration::from_secs(3_600));
    let publisher = PubSubPublisher::new(config).await.expect("a valid config");
    let messages = |count| (0..count).map(|_| Message::new("x")).collect::<Vec<_>>();
    publisher.publish("topic", messages(300)).await.expect("it is accepted");
    assert_eq!(server.look(|state| (state.requests, state.accepted.len())), (3, 300));
    let calls = join_all((0..10).map(|_| publisher.publish("topic", messages(10)))).await;
    calls.into_iter().for_each(|call| call.expect("it is accepted"));
    assert_eq!(server.look(|state| (state.requests, state.accepted.len())), (4, 400));
}

#[tokio::test]
async fn no_more_is_on_its_way_than_may_be() {
    let by_count = |config: PubSubPublisherConfig| config.in_flight_messages(4);
    let by_bytes = |config: PubSubPublisherConfig| config.in_flight_bytes(4_500);
    for bound in [&by_count as &dyn Fn(_) -> _, &by_bytes] {
        let server = Server::start(State { holds_publishing: true, ..State::default() }).await;
        let publisher =
            PubSubPublisher::new(bound(PubSubPublisherConfig::new(server.access()).batch_messages(1)));
        let publisher = publisher.await.expect("a valid config");
        let call = |_| publisher.publish("topic", vec![Message::new(vec![b'x'; 1_000])]);
        let let_go = async {
            server.until("as many as may be", |state| state.arrived == 4).await;
            // Time for one that may not.
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            server.change(|state| state.holds_publishing = false);
        };
        let (calls, ()) = tokio::join!(join_all((0..20).map(call)), let_go);
        calls.into_iter().for_each(|call| call.expect("it is accepted"));
        assert_eq!(server.look(|state| (state.arrived_at_once, state.accepted.len())), (4, 20));
    }
}

#[tokio::test]
async fn a_service_that_does_not_come_back_is_given_up_after_delivery_timeout_and_the_key_goes_on() {
    let publishing = std::iter::repeat_n(Status::new(UNAVAILABLE), 10_000).collect();
    let server = Server::start(State { publishing, ..State::default() }).await;
    let config = PubSubPublisherConfig::new(server.access())
        .retry(Backoff::constant(Duration::from_millis(1)))
        .delivery_timeout(Duration::from_millis(50));
    let publisher = PubSubPublisher::new(config).await.expect("a valid config");
    let error = publisher.publish("topic", of_key(&["1", "2"])).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(error.not_accepted(), &NotAccepted::All);
    server.change(|state| state.publishing.clear());
    publisher.publish("topic", of_key(&["1", "2"])).await.expect("it is there again");
    assert_eq!(accepted(&server), ["1", "2"]);
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
