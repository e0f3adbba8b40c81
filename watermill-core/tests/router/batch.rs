//! Batch handlers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use watermill_core::{
    Backoff, FailurePolicy, Handler, Json, Message, State, delivery::Outcome, error::PublishErrorKind,
    router::To,
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, ids, message, router};

type Sizes = Arc<Mutex<Vec<usize>>>;

const LINGER: Duration = Duration::from_millis(5);

#[tokio::test(start_paused = true)]
async fn messages_are_handled_in_batches_of_the_size_asked_for_and_the_rest_after_the_linger_time() {
    async fn store(messages: Vec<Message>, State(sizes): State<Sizes>) {
        sizes.lock().unwrap().push(messages.len());
    }
    let (source, sizes) = (ScriptedSubscriber::new(), Sizes::default());
    for n in 0..250 {
        source.push(message(n));
    }
    let handler = Handler::batch("store", 100, LINGER, store).from(source.clone(), "in");
    let running = Running::start(router().with_state(sizes.clone()).add(handler)).await;
    let settled = source.settled(250).await;
    assert!(settled.iter().all(|(_, outcome)| *outcome == Outcome::Ack));
    assert_eq!(*sizes.lock().unwrap(), [100, 100, 50]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_message_of_a_batch_has_its_own_outcome() {
    async fn even(numbers: Vec<Json<u32>>) -> Vec<Result<Json<u32>, String>> {
        let outcome = |Json(n): Json<u32>| if n % 2 == 0 { Ok(Json(n)) } else { Err(format!("{n} is odd")) };
        numbers.into_iter().map(outcome).collect()
    }
    let (source, target, dead) =
        (ScriptedSubscriber::new(), RecordingPublisher::new(), RecordingPublisher::new());
    for n in 0..4_u32 {
        source.push(Message::json(&n).unwrap());
    }
    source.push(Message::with_id("bad", "not a number"));
    let handler = Handler::batch("even", 10, LINGER, even)
        .from(source.clone(), "in")
        .to(target.clone(), "out")
        .on_failure(FailurePolicy::nack().then_dead_letter(dead.clone(), "dead"));
    let running = Running::start(router().add(handler)).await;
    source.settled(5).await;
    assert_eq!(target.published("out").len(), 2);
    let mut reasons: Vec<_> = dead
        .published("dead")
        .iter()
        .map(|letter| letter.metadata().get("reason_poisoned").unwrap().to_owned())
        .collect();
    reasons.sort();
    assert_eq!(reasons.len(), 3);
    assert_eq!(reasons[..2], ["1 is odd", "3 is odd"]);
    assert!(reasons[2].contains("JSON of u32"), "{reasons:?}");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_whole_batch_and_a_panic_fail_every_message_of_it() {
    async fn refuse(_: Vec<Message>) -> Result<(), &'static str> {
        Err("the database is down")
    }
    async fn panic(_: Vec<Message>) {
        panic!("boom")
    }
    let source = ScriptedSubscriber::new();
    for n in 0..3 {
        source.push(message(n));
    }
    let running =
        Running::start(router().add(Handler::batch("refuse", 3, LINGER, refuse).from(source.clone(), "in")))
            .await;
    assert!(source.settled(3).await.iter().all(|(_, outcome)| matches!(outcome, Outcome::Nack { .. })));
    running.stop().await.unwrap();

    let source = ScriptedSubscriber::new();
    for n in 0..6 {
        source.push(message(n));
    }
    let running =
        Running::start(router().add(Handler::batch("panic", 3, LINGER, panic).from(source.clone(), "in")))
            .await;
    assert!(source.settled(6).await.iter().all(|(_, outcome)| matches!(outcome, Outcome::Nack { .. })));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_do_not_match_the_messages_fail_the_batch() {
    async fn forgetful(_: Vec<Message>) -> Vec<Result<(), String>> {
        vec![Ok(())]
    }
    let source = ScriptedSubscriber::new();
    source.push(message(1));
    source.push(message(2));
    let handler = Handler::batch("forgetful", 2, LINGER, forgetful).from(source.clone(), "in");
    let running = Running::start(router().add(handler)).await;
    assert!(source.settled(2).await.iter().all(|(_, outcome)| matches!(outcome, Outcome::Nack { .. })));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_batch_of_nothing_is_refused_when_the_router_is_built() {
    async fn store(_: Vec<Message>) {}
    let handler = Handler::batch("store", 0, LINGER, store).from(ScriptedSubscriber::new(), "in");
    let error = router().add(handler).run().await.unwrap_err();
    assert!(error.to_string().contains("at least one message"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn members_of_a_batch_whose_first_gave_up_do_not_wait_for_ever() {
    async fn store(_: Vec<Message>) {}
    let source = ScriptedSubscriber::new();
    source.push(message(1));
    source.push(message(2));
    // The first has waited long enough before the batch begins.
    let handler = Handler::batch("store", 10, Duration::from_secs(60), store)
        .from(source.clone(), "in")
        .layer(tower::timeout::TimeoutLayer::new(Duration::from_secs(1)));
    let running = Running::start(router().add(handler)).await;
    let settled = source.settled(2).await;
    assert!(settled.iter().all(|(_, outcome)| matches!(outcome, Outcome::Nack { .. })), "{settled:?}");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_outputs_of_a_batch_are_published_in_one_call_a_topic_in_its_order() {
    async fn route(messages: Vec<Message>) -> Vec<Result<To<&'static str, Message>, String>> {
        let route = |(n, message): (usize, Message)| match n {
            3 => Err("not this one".to_owned()),
            n if n % 2 == 0 => Ok(To("even", message)),
            _ => Ok(To("odd", message)),
        };
        messages.into_iter().enumerate().map(route).collect()
    }
    for (size, linger) in [(6, Duration::from_secs(60)), (10, LINGER)] {
        let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
        for n in 0..6 {
            source.push(message(n));
        }
        let handler =
            Handler::batch("route", size, linger, route).from(source.clone(), "in").to_topics(target.clone());
        let running = Running::start(router().add(handler)).await;
        let settled = source.settled(6).await;
        assert_eq!(target.calls(), [("even".to_owned(), 3), ("odd".to_owned(), 2)]);
        assert_eq!(ids(&target.published("even")), ["0", "2", "4"]);
        assert_eq!(ids(&target.published("odd")), ["1", "5"]);
        let failed: Vec<_> = settled.iter().filter(|(_, outcome)| *outcome != Outcome::Ack).collect();
        assert!(matches!(&*failed, [(id, Outcome::Nack { .. })] if &**id == "3"), "{settled:?}");
        running.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn members_whose_outputs_were_refused_fail_with_those_behind_them_of_their_key() {
    async fn pass(messages: Vec<Message>) -> Vec<Result<Message, String>> {
        messages.into_iter().map(Ok).collect()
    }
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    for (n, key) in ["a", "b", "a", "b", "c"].into_iter().enumerate() {
        source.push(message(n).with_key(key));
    }
    target.fail_next_at([1], PublishErrorKind::Unavailable);
    let handler =
        Handler::batch("pass", 5, LINGER, pass).from(source.clone(), "in").to(target.clone(), "out");
    let running = Running::start(router().add(handler)).await;
    let mut settled = source.settled(5).await;
    settled.sort_by(|(a, _), (b, _)| a.cmp(b));
    let acked: Vec<_> = settled.iter().map(|(_, outcome)| *outcome == Outcome::Ack).collect();
    assert_eq!(acked, [true, false, true, false, true], "{settled:?}");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn outputs_that_were_refused_are_retried_with_their_members_in_the_next_batch() {
    async fn pass(messages: Vec<Message>) -> Vec<Result<Message, String>> {
        messages.into_iter().map(Ok).collect()
    }
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    for n in 0..3 {
        source.push(message(n));
    }
    target.fail_next(1, PublishErrorKind::Unavailable);
    let handler = Handler::batch("pass", 3, LINGER, pass)
        .from(source.clone(), "in")
        .to(target.clone(), "out")
        .on_failure(FailurePolicy::retry(1).backoff(Backoff::constant(LINGER)));
    let running = Running::start(router().add(handler)).await;
    assert!(source.settled(3).await.iter().all(|(_, outcome)| *outcome == Outcome::Ack));
    assert_eq!(target.calls(), [("out".to_owned(), 3), ("out".to_owned(), 3)]);
    running.stop().await.unwrap();
}
