//! What becomes of a message whose handler fails.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower::util::MapResponseLayer;
use watermill_core::{
    Backoff, FailurePolicy, Handler, Json, Message, Outputs, State,
    delivery::Outcome,
    error::{Permanent, PublishErrorKind, Verdict},
};
use watermill_testkit::{RecordingPublisher, ScriptedDelivery, ScriptedSubscriber};

use crate::{Running, message, router};

type Tries = Arc<AtomicU32>;

async fn fail(State(tries): State<Tries>) -> Result<(), &'static str> {
    tries.fetch_add(1, Ordering::SeqCst);
    Err("always")
}

fn constant(ms: u64) -> Backoff {
    Backoff::constant(Duration::from_millis(ms))
}

#[tokio::test(start_paused = true)]
async fn a_retry_stays_in_place_and_ends_in_a_nack() {
    let (source, tries) = (ScriptedSubscriber::new(), Tries::default());
    source.push(message("a"));
    let started = Instant::now();
    let handler = Handler::new("fail", fail)
        .from(source.clone(), "in")
        .on_failure(FailurePolicy::retry(3).backoff(constant(10)));
    let running = Running::start(router().with_state(tries.clone()).add(handler)).await;
    assert!(matches!(source.settled(1).await[0].1, Outcome::Nack { .. }));
    assert_eq!(tries.load(Ordering::SeqCst), 4, "one try and three retries");
    assert_eq!(started.elapsed(), Duration::from_millis(30));
    assert_eq!(source.handed_out(), 1, "the same delivery all along");
    let report = running.stop().await.unwrap();
    assert_eq!(report.handler("fail").unwrap().counts.retried, 3);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_succeeds_is_acked_once() {
    async fn third_time(State(tries): State<Tries>) -> Result<(), &'static str> {
        if tries.fetch_add(1, Ordering::SeqCst) < 2 { Err("not yet") } else { Ok(()) }
    }
    let source = ScriptedSubscriber::new();
    source.push(message("a"));
    let handler =
        Handler::new("third", third_time).from(source.clone(), "in").on_failure(FailurePolicy::retry(5));
    let running = Running::start(router().with_state(Tries::default()).add(handler)).await;
    assert_eq!(source.settled(1).await, [("a".into(), Outcome::Ack)]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn when_the_retries_are_used_up_the_message_is_dead_lettered_with_its_story() {
    let (source, dead) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.push(
        ScriptedDelivery::new(message("a").with_key("k").with_metadata("tenant", "acme"))
            .partition(2)
            .offset(9),
    );
    let policy = FailurePolicy::retry(2).backoff(constant(1)).then_dead_letter(dead.clone(), "dead");
    let handler = Handler::new("fail", fail).from(source.clone(), "in").on_failure(policy);
    let running = Running::start(router().with_state(Tries::default()).add(handler)).await;
    assert_eq!(source.settled(1).await, [("a".into(), Outcome::Ack)]);
    let letter = dead.published("dead").remove(0);
    assert_eq!((&**letter.id(), letter.key().unwrap().as_ref()), ("a", b"k".as_ref()));
    let metadata = letter.metadata();
    for (name, value) in [
        ("tenant", "acme"),
        ("reason_poisoned", "always"),
        ("topic_poisoned", "in"),
        ("handler_poisoned", "fail"),
        ("subscriber_poisoned", "scripted"),
        ("attempts_poisoned", "3"),
        ("partition_poisoned", "2"),
        ("offset_poisoned", "9"),
    ] {
        assert_eq!(metadata.get(name), Some(value), "{name} in {metadata:?}");
    }
    let report = running.stop().await.unwrap();
    let report = report.handler("fail").unwrap();
    assert_eq!(report.counts.dead_lettered, 1);
    assert_eq!(report.dead_letter_reasons, BTreeMap::from([("error", 1)]));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_counted_by_why_once_they_are_published_and_panics_each_time() {
    async fn by_payload(message: Message) -> Result<Message, Permanent> {
        match &message.payload()[..] {
            b"panic" => panic!("asked to"),
            b"permanent" => Err(Permanent::new("never")),
            _ => Ok(message),
        }
    }
    let (source, dead, out) =
        (ScriptedSubscriber::new().redeliver(true), RecordingPublisher::new(), RecordingPublisher::new());
    for payload in ["panic", "permanent", "publish"] {
        source.push(Message::with_id(payload, payload));
    }
    dead.fail_next(1, PublishErrorKind::Unavailable);
    out.fail_next(1, PublishErrorKind::Refused);
    let policy = FailurePolicy::retry(1).backoff(constant(1)).then_dead_letter(dead.clone(), "dead");
    let handler = Handler::new("by_payload", by_payload)
        .from(source.clone(), "in")
        .to(out.clone(), "out")
        .on_failure(policy);
    let running = Running::start(router().add(handler)).await;
    source.settled(4).await;
    let status = running.control.handler("by_payload").unwrap();
    assert_eq!(
        status.dead_letter_reasons,
        BTreeMap::from([("panic", 1), ("permanent", 1), ("publish", 1)]),
        "{status:?}"
    );
    assert_eq!(status.counts.dead_lettered, 3);
    assert_eq!(
        status.counts.panicked, 4,
        "two tries of two deliveries, the first of which could not be dead-lettered"
    );
    assert_eq!((status.counts.received, status.counts.redelivered), (4, 1));
    let report = running.stop().await.unwrap();
    assert_eq!(report.handler("by_payload").unwrap().dead_letter_reasons, status.dead_letter_reasons);
}

#[tokio::test(start_paused = true)]
async fn what_is_permanent_is_not_tried_again() {
    async fn refuse(State(tries): State<Tries>) -> Result<(), Permanent> {
        tries.fetch_add(1, Ordering::SeqCst);
        Err(Permanent::new("never"))
    }
    let (source, dead, tries) = (ScriptedSubscriber::new(), RecordingPublisher::new(), Tries::default());
    source.push(message("a"));
    let policy = FailurePolicy::retry(100).then_dead_letter(dead.clone(), "dead");
    let handler = Handler::new("refuse", refuse).from(source.clone(), "in").on_failure(policy);
    let running = Running::start(router().with_state(tries.clone()).add(handler)).await;
    source.settled(1).await;
    assert_eq!(tries.load(Ordering::SeqCst), 1);
    assert_eq!(dead.published("dead").len(), 1);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_does_not_decode_goes_straight_to_the_dead_letters() {
    async fn read(Json(_): Json<u32>) {}
    let (source, dead) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.push(Message::with_id("bad", "{"));
    let policy = FailurePolicy::retry(100).then_dead_letter(dead.clone(), "dead");
    let running = Running::start(
        router().add(Handler::new("read", read).from(source.clone(), "in").on_failure(policy)),
    )
    .await;
    source.settled(1).await;
    let letter = dead.published("dead").remove(0);
    assert!(letter.metadata().get("reason_poisoned").unwrap().contains("JSON of u32"), "{letter:?}");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_cannot_be_published_leaves_the_message_to_come_again() {
    let (source, dead) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    dead.fail_next(1, PublishErrorKind::Refused);
    source.push(message("a"));
    let policy = FailurePolicy::nack().then_dead_letter(dead.clone(), "dead");
    let handler = Handler::new("fail", fail).from(source.clone(), "in").on_failure(policy);
    let running = Running::start(router().with_state(Tries::default()).add(handler)).await;
    assert!(matches!(source.settled(1).await[0].1, Outcome::Nack { delay } if !delay.is_zero()));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_delay_of_a_nack_grows_with_the_attempts() {
    // P30: Go delivers a failing message 232,103 times a second.
    let source = ScriptedSubscriber::new();
    for attempt in [1, 2, 3, 30] {
        source.push(ScriptedDelivery::new(message(attempt)).attempt(attempt));
    }
    let backoff = Backoff::exponential(Duration::from_millis(100)).jitter(0.0);
    let handler = Handler::new("fail", fail)
        .from(source.clone(), "in")
        .on_failure(FailurePolicy::nack().nack_backoff(backoff));
    let running = Running::start(router().with_state(Tries::default()).add(handler)).await;
    let delays: Vec<_> = source
        .settled(4)
        .await
        .into_iter()
        .map(|(_, outcome)| match outcome {
            Outcome::Nack { delay } => delay.as_millis(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(delays, [100, 200, 400, 30_000]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_is_nacked_until_its_deliveries_are_used_up() {
    let (source, dead, tries) =
        (ScriptedSubscriber::new().redeliver(true), RecordingPublisher::new(), Tries::default());
    source.push(message("a"));
    let policy = FailurePolicy::retry(1)
        .backoff(constant(1))
        .nack_backoff(constant(1))
        .max_deliveries(3)
        .then_dead_letter(dead.clone(), "dead");
    assert_eq!(
        policy.to_string(),
        "retry 1 times, then nack until delivered 3 times, then dead-letter to \"dead\""
    );
    let handler = Handler::new("fail", fail).from(source.clone(), "in").on_failure(policy);
    let running = Running::start(router().with_state(tries.clone()).add(handler)).await;
    dead.await_published(1).await;
    let outcomes = source.settled(3).await;
    assert!(outcomes[..2].iter().all(|(_, outcome)| matches!(outcome, Outcome::Nack { .. })), "{outcomes:?}");
    assert_eq!(outcomes[2].1, Outcome::Ack);
    assert_eq!(tries.load(Ordering::SeqCst), 6, "two tries for each of three deliveries");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_policy_can_drop_reject_and_classify() {
    let cases: [(FailurePolicy, Outcome, u32); 4] = [
        (FailurePolicy::retry(1).backoff(constant(1)).then_drop(), Outcome::Ack, 2),
        (FailurePolicy::nack().then_reject(), Outcome::Reject { reason: "always".to_owned() }, 1),
        (FailurePolicy::retry(9).classify(|_| Verdict::Ignore), Outcome::Ack, 1),
        (FailurePolicy::retry(9).classify(|_| Verdict::GiveUp).then_drop(), Outcome::Ack, 1),
    ];
    for (policy, expected, expected_tries) in cases {
        let (source, tries) = (ScriptedSubscriber::new(), Tries::default());
        source.push(message("a"));
        let described = policy.to_string();
        let handler = Handler::new("fail", fail).from(source.clone(), "in").on_failure(policy);
        let running = Running::start(router().with_state(tries.clone()).add(handler)).await;
        assert_eq!(source.settled(1).await, [("a".into(), expected)], "{described}");
        assert_eq!(tries.load(Ordering::SeqCst), expected_tries, "{described}");
        running.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn outputs_that_can_never_be_published_are_dead_lettered_not_retried() {
    async fn pass(message: Message) -> Message {
        message
    }
    let (source, target, dead) =
        (ScriptedSubscriber::new(), RecordingPublisher::new(), RecordingPublisher::new());
    target.fail_next(1, PublishErrorKind::Message);
    source.push(message("a"));
    let policy = FailurePolicy::retry(100).then_dead_letter(dead.clone(), "dead");
    let handler =
        Handler::new("pass", pass).from(source.clone(), "in").to(target.clone(), "out").on_failure(policy);
    let running = Running::start(router().add(handler)).await;
    assert_eq!(source.settled(1).await, [("a".into(), Outcome::Ack)]);
    assert_eq!(dead.published("dead").len(), 1);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_retries() {
    let source = ScriptedSubscriber::new();
    source.push(message("a"));
    let tries = Tries::default();
    let policy = FailurePolicy::retry(5).backoff(constant(3_600_000));
    let handler = Handler::new("fail", fail).from(source.clone(), "in").on_failure(policy);
    let running = Running::start(router().with_state(tries.clone()).add(handler)).await;
    while tries.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    running.stop().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(source.outcomes(), [("a".into(), Outcome::Nack { delay: Duration::ZERO })]);
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_dead_letters_is_counted_as_what_the_policy_does() {
    use watermill_core::middleware::{PoisonQueue, Retry};
    async fn by_payload(message: Message) -> Result<(), Permanent> {
        match &message.payload()[..] {
            b"panic" => panic!("asked to"),
            b"fail" => Err(Permanent::new("never")),
            _ => Ok(()),
        }
    }
    let (source, dead) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    ["well", "fail", "panic", "fail", "well"]
        .into_iter()
        .for_each(|payload| source.push(Message::new(payload)));
    let handler = Handler::new("by_payload", by_payload)
        .from(source.clone(), "in")
        .layer(PoisonQueue::new(dead.clone(), "dead").unwrap())
        .layer(Retry::new(1));
    let running = Running::start(router().add(handler)).await;
    source.settled(5).await;
    let report = running.stop().await.unwrap();
    let report = report.handler("by_payload").unwrap();
    assert_eq!((report.counts.acked, report.counts.dead_lettered, report.counts.panicked), (2, 3, 1));
    assert_eq!(report.dead_letter_reasons, BTreeMap::from([("panic", 1), ("permanent", 2)]));
    assert_eq!(dead.published("dead").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_could_not_dead_letter_is_not_counted_as_such() {
    let (source, dead) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.push(message("a"));
    dead.fail_next(1, PublishErrorKind::Refused);
    let handler = Handler::new("fail", async || Err::<(), _>(Permanent::new("never")))
        .from(source.clone(), "in")
        .layer(watermill_core::middleware::PoisonQueue::new(dead.clone(), "dead").unwrap());
    let running = Running::start(router().add(handler)).await;
    source.settled(1).await;
    let report = running.stop().await.unwrap();
    let counts = report.handler("fail").unwrap().counts;
    assert_eq!((counts.nacked, counts.dead_lettered, counts.acked), (1, 0, 0));
}

/// Says of a message that it was dead-lettered, beside what its handler returns.
fn dead_lettered_beside(mut outputs: Outputs) -> Outputs {
    outputs.append(Outputs::dead_lettered(&Permanent::new("never")));
    outputs
}

#[tokio::test(start_paused = true)]
async fn what_a_layer_dead_letters_is_counted_beside_outputs_too() {
    // Published at once, while the next is handled, and with those of a batch.
    for (latency, is_batch) in [(0, false), (1, false), (0, true), (1, true)] {
        let out = RecordingPublisher::new().with_latency(Duration::from_secs(latency));
        let source = ScriptedSubscriber::new();
        (0..3).for_each(|number| source.push(message(number)));
        let running = if is_batch {
            async fn copy(messages: Vec<Message>) -> Vec<Result<Message, Permanent>> {
                messages.into_iter().map(Ok).collect()
            }
            let handler = Handler::batch("copy", 3, Duration::from_millis(1), copy)
                .from(source.clone(), "in")
                .to(out.clone(), "out")
                .layer(MapResponseLayer::new(dead_lettered_beside));
            Running::start(router().add(handler)).await
        } else {
            let handler = Handler::new("copy", async |message: Message| message)
                .from(source.clone(), "in")
                .to(out.clone(), "out")
                .layer(MapResponseLayer::new(dead_lettered_beside));
            Running::start(router().add(handler)).await
        };
        source.settled(3).await;
        let report = running.stop().await.unwrap();
        let report = report.handler("copy").unwrap();
        let counts = report.counts;
        assert_eq!((counts.acked, counts.dead_lettered), (0, 3), "{latency} {is_batch}");
        assert_eq!(report.dead_letter_reasons, BTreeMap::from([("permanent", 3)]));
        assert_eq!(out.published("out").len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_whose_outputs_were_refused_is_forgotten_when_the_next_try_succeeds() {
    let out = RecordingPublisher::new().with_latency(Duration::from_secs(1));
    out.fail_next(1, PublishErrorKind::Unavailable);
    let (source, tries) = (ScriptedSubscriber::new(), Tries::default());
    source.push(message("a"));
    let first = move |outputs: Outputs| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => dead_lettered_beside(outputs),
        _ => outputs,
    };
    let handler = Handler::new("copy", async |message: Message| message)
        .from(source.clone(), "in")
        .to(out.clone(), "out")
        .layer(MapResponseLayer::new(first))
        .on_failure(FailurePolicy::retry(1).classify(|_| Verdict::Retry));
    let running = Running::start(router().add(handler)).await;
    source.settled(1).await;
    let report = running.stop().await.unwrap();
    let counts = report.handler("copy").unwrap().counts;
    assert_eq!((counts.acked, counts.dead_lettered, counts.retried), (1, 0, 1));
}
