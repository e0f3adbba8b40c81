use std::collections::HashSet;

use futures::StreamExt;
use watermill_core::{
    Message, MessageId, Publisher, Subscriber,
    delivery::Outcome,
    error::{NotAccepted, SettleErrorKind},
};

use super::*;
use crate::{RecordingPublisher, ScriptedSubscriber};

fn messages(count: usize) -> Vec<Message> {
    (0..count).map(|n| Message::with_id(n.to_string(), "")).collect()
}

#[tokio::test]
async fn a_partial_failure_cuts_the_tails_of_keys_and_names_them() {
    let recording = RecordingPublisher::new();
    let publisher = Faulty::new(recording.clone(), Faults::seeded(1).fail_partially(1.0));
    assert!(!publisher.capabilities().atomic);
    let call: Vec<_> = (0..9).map(|n| Message::with_id(n.to_string(), "").with_key(key(n))).collect();
    let mut partly = 0;
    for round in 0..50 {
        let sent_before = recording.published("t").len();
        let error = publisher.publish("t", call.clone()).await.unwrap_err();
        let NotAccepted::At(missing) = error.not_accepted() else { panic!("{error:?}") };
        let sent = recording.published("t").split_off(sent_before);
        assert_eq!(sent.len() + missing.len(), 9, "round {round}");
        assert!(!missing.is_empty());
        partly += usize::from(!sent.is_empty());
        for at in 0..9 {
            let is_sent = sent.iter().any(|message| *message.id() == at.to_string().as_str());
            assert_eq!(is_sent, !missing.contains(&at), "round {round}");
            let before = missing.iter().any(|earlier| *earlier < at && key(*earlier) == key(at));
            assert!(!(before && is_sent), "round {round}: {at} follows one of its key that is missing");
        }
    }
    assert!(partly > 25, "{partly} calls of 50 were sent in part");
}

fn key(n: usize) -> String {
    (n % 3).to_string()
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_brings_the_same_faults() {
    let faults =
        Faults::seeded(42).fail_before_send(0.3).fail_after_send(0.3).delay(0.5, Duration::from_secs(1));
    let mut runs = Vec::new();
    for _ in 0..2 {
        let publisher = Faulty::new(RecordingPublisher::new(), faults);
        let mut results = Vec::new();
        for message in messages(50) {
            results.push(publisher.publish("t", vec![message]).await.map_err(|error| error.kind()));
        }
        runs.push((results, publisher.injected()));
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].1.failed_before_send > 0 && runs[0].1.failed_after_send > 0 && runs[0].1.delayed > 0);
}

#[tokio::test]
async fn a_lost_settlement_brings_the_message_again_and_says_that_nothing_is_known() {
    let scripted = ScriptedSubscriber::new().redeliver(true);
    scripted.push(Message::with_id("1", ""));
    let subscriber = Faulty::new(scripted.clone(), Faults::seeded(1).lose_settlements(1.0));
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let delivery = subscription.next().await.unwrap().unwrap();
    let error = delivery.ack_confirmed().await.unwrap_err();
    assert_eq!(error.kind(), SettleErrorKind::Unknown);
    subscriber.stop_injecting();
    let again = subscription.next().await.unwrap().unwrap();
    assert_eq!((again.id().as_str(), again.info().attempt()), ("1", 2));
    again.ack_confirmed().await.unwrap();
    assert_eq!(subscriber.injected().lost_settlements, 1);
}

#[tokio::test]
async fn errors_on_the_stream_lose_nothing() {
    let scripted = ScriptedSubscriber::new().redeliver(true);
    messages(100).into_iter().for_each(|message| scripted.push(message));
    scripted.end();
    let faults = Faults::seeded(3).fail_subscribe(0.5).fail_stream(0.3).lose_settlements(0.3);
    let subscriber = Faulty::new(scripted.clone(), faults);
    let mut subscription = loop {
        if let Ok(subscription) = subscriber.subscribe("t").await {
            break subscription;
        }
    };
    let mut seen: HashSet<MessageId> = HashSet::new();
    let mut errors = 0;
    while let Some(next) = subscription.next().await {
        match next {
            Ok(delivery) => {
                seen.insert(delivery.id().clone());
                delivery.ack();
            }
            Err(error) => {
                assert!(error.is_retryable());
                errors += 1;
            }
        }
    }
    assert_eq!(seen.len(), 100);
    assert_eq!(errors, subscriber.injected().stream_errors);
    assert!(errors > 0 && subscriber.injected().lost_settlements > 0);
}

#[tokio::test]
async fn every_outcome_is_confirmed_and_what_is_handled_makes_room() {
    let scripted = ScriptedSubscriber::new();
    messages(3).into_iter().for_each(|message| scripted.push(message));
    let subscriber = Faulty::new(scripted.clone(), Faults::seeded(1));
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let reject = Outcome::Reject { reason: "no".to_owned() };
    let outcomes = [Outcome::Ack, Outcome::Nack { delay: Duration::ZERO }, reject];
    let mut settlements = Vec::new();
    for _ in &outcomes {
        let (_, settlement) = subscription.next().await.unwrap().unwrap().split();
        settlement.handled();
        settlements.push(settlement);
    }
    for (settlement, outcome) in settlements.into_iter().zip(outcomes.clone()) {
        settlement.settle_confirmed(outcome).await.unwrap();
    }
    let settled = scripted.outcomes();
    assert!(settled.iter().map(|(_, outcome)| outcome).eq(&outcomes), "{settled:?}");
}

#[tokio::test]
async fn what_is_out_when_the_subscription_ends_is_lost() {
    for closes in [true, false] {
        let scripted = ScriptedSubscriber::new();
        scripted.push(Message::with_id("1", ""));
        let subscriber = Faulty::new(scripted.clone(), Faults::seeded(1));
        let mut subscription = subscriber.subscribe("t").await.unwrap();
        let delivery = subscription.next().await.unwrap().unwrap();
        assert!(!delivery.is_lost());
        if closes {
            subscription.close().await.unwrap();
        } else {
            drop(subscription);
        }
        assert!(delivery.is_lost());
        assert_eq!(delivery.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
    }
}

#[tokio::test]
async fn what_the_backend_loses_is_cancelled() {
    let scripted = ScriptedSubscriber::new().redeliver(true);
    scripted.push(Message::with_id("1", ""));
    let subscriber = Faulty::new(scripted.clone(), Faults::seeded(1));
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let delivery = subscription.next().await.unwrap().unwrap();
    let cancellation = delivery.cancellation();
    scripted.revoke(0);
    cancellation.cancelled().await;
    assert_eq!(delivery.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
    subscription.next().await.unwrap().unwrap().ack_confirmed().await.unwrap();
}
