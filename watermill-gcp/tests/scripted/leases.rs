//! How long a message is ours.

use std::time::Duration;

use watermill_core::error::SettleErrorKind;

use crate::{
    server::{Pull, Server, State, received},
    support::{config, next, subscribe_with},
};

#[tokio::test]
async fn a_lease_is_extended_while_a_handler_runs() {
    let pulls = [Pull::Send(vec![received("1", "")])];
    let server = Server::start(State { pulls: pulls.into(), ..State::default() }).await;
    let mut subscription = subscribe_with(config(&server).lease(Duration::from_secs(30))).await;
    let delivery = next(&mut subscription).await;
    server.until("it is extended", |state| state.extended.contains(&("ack-1".to_owned(), 30))).await;
    assert!(!delivery.is_lost());
    delivery.ack();
    subscription.close().await.expect("it closes");
    assert_eq!(server.look(|state| state.acked.clone()), ["ack-1"]);
}

#[tokio::test]
async fn a_handler_that_outlives_max_lease_is_told_that_it_has_lost_its_message() {
    let pulls = [Pull::Send(vec![received("1", "")])];
    let server = Server::start(State { pulls: pulls.into(), ..State::default() }).await;
    let config = config(&server).lease(Duration::from_secs(10)).max_lease(Duration::from_secs(60));
    let mut subscription = subscribe_with(config).await;
    let delivery = next(&mut subscription).await;
    // From here on time flies.
    tokio::time::pause();
    let since = tokio::time::Instant::now();
    delivery.cancellation().cancelled().await;
    let held = since.elapsed();
    assert!(delivery.is_lost());
    assert!((Duration::from_secs(50)..Duration::from_secs(70)).contains(&held), "{held:?}");
    assert_eq!(delivery.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);

    // Somebody gets it again, and it may be us.
    let mut again = received("1", "");
    again.ack_id = "again-1".to_owned();
    server.play([Pull::Send(vec![again])]);
    let again = next(&mut subscription).await;
    assert_eq!(again.id(), "1");
    again.ack();
    tokio::time::resume();
    subscription.close().await.expect("it closes");
    assert_eq!(server.look(|state| state.acked.clone()), ["again-1"]);
}

/// A message may be held for longer than it is ours: until a nacked one of its key has come, or is given up.
#[tokio::test]
async fn a_message_that_was_held_until_its_lease_ended_is_not_handed_out() {
    let policies = r#"{"enableMessageOrdering":true,
        "retryPolicy":{"minimumBackoff":"10s","maximumBackoff":"600s"}}"#;
    let pulls = [Pull::Send(vec![received("1", "key")])].into();
    let admin = [(200, policies.to_owned())].into();
    let server = Server::start(State { admin, pulls, ..State::default() }).await;
    let config = config(&server).max_lease(Duration::from_secs(60)).probe_interval(Duration::ZERO);
    let mut subscription = subscribe_with(config).await;
    next(&mut subscription).await.nack();
    server.until("the nack", |state| state.nacked == ["ack-1"]).await;
    server.play([Pull::Send(vec![received("2", "key")])]);
    server.until("it has come", |state| state.extended.iter().any(|(id, _)| id == "ack-2")).await;

    // The first never comes again, and after ten minutes it is not waited for any more.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(630)).await;
    tokio::time::resume();
    let mut again = received("2", "key");
    again.ack_id = "again-2".to_owned();
    server.play([Pull::Send(vec![again])]);
    let delivery = next(&mut subscription).await;
    assert_eq!(delivery.id(), "2");
    delivery.ack();
    subscription.close().await.expect("it closes");
    assert_eq!(server.look(|state| state.acked.clone()), ["again-2"]);
}
