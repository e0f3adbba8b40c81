//! How much is asked for.

use std::{num::NonZeroUsize, time::Duration};

use watermill_core::{Window, subscription::Health};

use crate::{
    server::{Pull, Server, State, received},
    support::{config, next, subscribe, subscribe_with},
    wire::StreamingPullRequest,
};

#[tokio::test]
async fn the_service_is_told_the_total_of_the_window_the_bytes_and_the_lease() {
    let pulls = [Pull::Send(vec![received("1", "")])];
    let server = Server::start(State { pulls: pulls.into(), ..State::default() }).await;
    let config = config(&server).lease(Duration::from_secs(120)).outstanding_bytes(5_000_000);
    let mut subscription = subscribe_with(config.group("billing")).await;
    let total = NonZeroUsize::new(7).expect("not zero");
    subscription.set_window(Window::ONE.with_total(total));
    next(&mut subscription).await.ack();
    let asked = StreamingPullRequest {
        subscription: "projects/project/subscriptions/topic_billing".to_owned(),
        lease_seconds: 120,
        outstanding_messages: 7,
        outstanding_bytes: 5_000_000,
    };
    assert_eq!(server.look(|state| state.streams.clone()), [asked]);
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn nothing_is_asked_for_before_somebody_reads() {
    let server = Server::start(State::default()).await;
    let subscription = subscribe(&server).await;
    assert_eq!(subscription.status().health, Health::Healthy);
    subscription.close().await.expect("it closes");
    assert_eq!(server.look(|state| state.streams.len()), 0);
}

/// The emulator sends all it has, whatever it was asked for.
#[tokio::test]
async fn what_is_sent_beyond_what_was_asked_for_is_not_read_before_there_is_room() {
    let server = Server::start(State { pulls: [Pull::Flood(100)].into(), ..State::default() }).await;
    let mut subscription = subscribe(&server).await;
    subscription.set_window(Window::ONE.with_total(NonZeroUsize::new(3).expect("not zero")));
    let in_hand =
        [next(&mut subscription).await, next(&mut subscription).await, next(&mut subscription).await];
    assert_eq!(subscription.status().outstanding, 3);
    assert!(futures::poll!(std::pin::pin!(next(&mut subscription))).is_pending());
    in_hand.into_iter().for_each(|delivery| delivery.ack());
    for number in 3..100 {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.id().as_str(), number.to_string());
        delivery.ack();
    }
    subscription.close().await.expect("it closes");
}
