//! Retry topics: a message that has failed is tried again later, and nothing waits for it.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use watermill_core::{
    Backoff, FailurePolicy, Handler, Handlers, MemoryBroker, Message, PublisherExt as _, RetryTopics, Router,
    State, Subscriber as _,
    delivery::Outcome,
    error::{BoxError, Permanent, PublishErrorKind},
    router::{MessageService, RunErrorKind},
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, ids, message};

/// What was tried, and when.
type Tried = Arc<Mutex<Vec<(String, Duration)>>>;

#[derive(Clone)]
struct Bank {
    tried: Tried,
    opened: Instant,
}

impl Bank {
    fn new() -> Self {
        Self { tried: Tried::default(), opened: Instant::now() }
    }

    fn tried(&self) -> Vec<(String, u128)> {
        let rounded = |at: &Duration| (at.as_millis() + 50) / 100 * 100;
        self.tried.lock().iter().map(|(id, at)| (id.clone(), rounded(at))).collect()
    }
}

/// Charges whoever can be charged.
async fn charge(State(bank): State<Bank>, message: Message) -> Result<(), BoxError> {
    bank.tried.lock().push((message.id().to_string(), bank.opened.elapsed()));
    match &**message.payload() {
        b"broke" => Err("no money today".into()),
        b"nonsense" => Err(Permanent::new("no such account").into()),
        _ => Ok(()),
    }
}

fn retries(broker: &MemoryBroker, dead: &RecordingPublisher) -> RetryTopics {
    RetryTopics::new(broker.publisher(), broker.subscriber().group("bank"), "charges.retry")
        .after([Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)])
        .then_dead_letter(dead.clone(), "charges.dead")
        .giving_up_order()
}

fn router(broker: &MemoryBroker, bank: &Bank, policy: FailurePolicy) -> Router<Bank> {
    Router::new().with_state(bank.clone()).add(
        Handler::new("charge", charge).from(broker.subscriber().group("bank"), "charges").on_failure(policy),
    )
}

async fn start(router: Router<Bank>) -> Running {
    let control = router.control();
    let task = tokio::spawn(router.run());
    control.reached(watermill_core::router::Phase::Running).await;
    Running { control, task }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_fails_is_tried_again_later_and_later_messages_do_not_wait_for_it() {
    let (broker, dead, bank) = (MemoryBroker::new(), RecordingPublisher::new(), Bank::new());
    let policy = FailurePolicy::nack().then_retry_topics(retries(&broker, &dead));
    let running = start(router(&broker, &bank, policy)).await;
    let failing = Message::with_id("a", "broke").with_key("customer-7");
    broker.publisher().publish_one("charges", failing).await.unwrap();
    broker.publisher().publish_one("charges", message("b")).await.unwrap();
    let letter = dead.await_published(1).await.remove(0);

    let at = |id: &str, millis| (id.to_owned(), millis);
    assert_eq!(
        bank.tried(),
        [at("a", 0), at("b", 0), at("a", 1_000), at("a", 11_000), at("a", 71_000)],
        "after a second, then ten more, then a minute more"
    );
    assert_eq!(letter.0, "charges.dead");
    assert_eq!(letter.1.key().unwrap(), "customer-7");
    let metadata = letter.1.metadata();
    for (name, value) in [
        ("reason_poisoned", "no money today"),
        ("topic_poisoned", "charges"),
        ("handler_poisoned", "charge"),
        ("attempts_poisoned", "4"),
        ("_watermill_delayed_for", "1m0s"),
    ] {
        assert_eq!(metadata.get(name), Some(value), "{name}");
    }

    let report = running.stop().await;
    let counts = |name: &str| report.handler(name).unwrap().counts;
    assert_eq!(
        (counts("charge").acked, counts("charge").postponed, counts("charge").dead_lettered),
        (1, 1, 0)
    );
    for tier in ["charge.retry.1s", "charge.retry.10s"] {
        assert_eq!((counts(tier).received, counts(tier).postponed), (1, 1), "{tier}");
    }
    assert_eq!(counts("charge.retry.1m").dead_lettered, 1);
}

#[tokio::test(start_paused = true)]
async fn what_no_later_try_can_mend_goes_to_the_end_at_once() {
    let (broker, dead, bank) = (MemoryBroker::new(), RecordingPublisher::new(), Bank::new());
    let policy = FailurePolicy::retry(2)
        .backoff(Backoff::constant(Duration::from_millis(1)))
        .then_retry_topics(retries(&broker, &dead));
    let running = start(router(&broker, &bank, policy)).await;
    broker.publisher().publish_one("charges", Message::with_id("a", "nonsense")).await.unwrap();
    dead.await_published(1).await;
    assert_eq!(bank.tried().len(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn retries_in_place_come_before_each_retry_topic() {
    let (broker, dead, bank) = (MemoryBroker::new(), RecordingPublisher::new(), Bank::new());
    let retries = retries(&broker, &dead).after([Duration::from_secs(1)]);
    let policy = FailurePolicy::retry(2)
        .backoff(Backoff::constant(Duration::from_millis(1)))
        .then_retry_topics(retries);
    let running = start(router(&broker, &bank, policy)).await;
    broker.publisher().publish_one("charges", Message::with_id("a", "broke")).await.unwrap();
    let letter = dead.await_published(1).await.remove(0).1;
    assert_eq!(bank.tried().len(), 6, "three tries from each topic");
    assert_eq!(letter.metadata().get("attempts_poisoned"), Some("6"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_later_try_is_safe_in_its_topic_before_the_message_is_acked() {
    let (source, retry, dead) =
        (ScriptedSubscriber::new(), RecordingPublisher::new(), RecordingPublisher::new());
    retry.hold();
    source.push(Message::with_id("a", "broke"));
    let bank = Bank::new();
    let retries = RetryTopics::new(retry.clone(), MemoryBroker::new().subscriber(), "retry")
        .after([Duration::from_secs(1)])
        .then_dead_letter(dead, "dead")
        .giving_up_order();
    let handler = Handler::new("charge", charge)
        .from(source.clone(), "charges")
        .on_failure(FailurePolicy::nack().then_retry_topics(retries));
    let running = start(Router::new().with_state(bank).add(handler)).await;
    retry.await_calls(1).await;
    assert!(source.outcomes().is_empty(), "it is not acked before its retry is accepted");
    retry.release();
    assert_eq!(source.settled(1).await, [("a".into(), Outcome::Ack)]);
    let later = retry.published("retry.1s").remove(0);
    assert_eq!(later.metadata().get("_watermill_delayed_for"), Some("1s"));

    retry.fail_next(1, PublishErrorKind::Unavailable);
    source.push(Message::with_id("b", "broke"));
    let outcomes = source.settled(2).await;
    assert!(
        matches!(outcomes[1], (_, Outcome::Nack { .. })),
        "a retry that is not safe is none: {outcomes:?}"
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn messages_that_wait_for_their_later_try_do_not_hold_up_a_stop() {
    let (broker, dead, bank) = (MemoryBroker::new(), RecordingPublisher::new(), Bank::new());
    let policy = FailurePolicy::nack().then_retry_topics(retries(&broker, &dead));
    let running = start(router(&broker, &bank, policy)).await;
    broker.publisher().publish_one("charges", Message::with_id("a", "broke")).await.unwrap();
    while running.control.handler("charge").unwrap().counts.postponed == 0 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    running.stop().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

    // The topic still has it, and the next process handles it.
    let policy = FailurePolicy::nack().then_retry_topics(retries(&broker, &dead));
    let again = start(router(&broker, &bank, policy)).await;
    dead.await_published(1).await;
    assert_eq!(ids(&dead.published("charges.dead")), ["a"]);
    again.stop().await;
}

#[tokio::test]
async fn an_order_that_is_promised_is_not_broken_without_a_word() {
    let (broker, dead, bank) = (MemoryBroker::new(), RecordingPublisher::new(), Bank::new());
    let silent = || {
        RetryTopics::new(broker.publisher(), broker.subscriber(), "retry")
            .after([Duration::from_secs(1)])
            .then_dead_letter(dead.clone(), "dead")
    };
    let policy = FailurePolicy::nack().then_retry_topics(silent());
    let error = router(&broker, &bank, policy).run_until(async {}).await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Build);
    assert!(error.to_string().contains("giving_up_order"), "{error}");

    let unordered = Handler::new("charge", charge)
        .from(broker.subscriber(), "charges")
        .concurrency(4)
        .on_failure(FailurePolicy::nack().then_retry_topics(silent()));
    Router::new().with_state(bank).add(unordered).run_until(async {}).await.unwrap();
}

#[tokio::test]
async fn two_handlers_cannot_share_retry_topics_and_a_single_service_has_none() {
    let (broker, dead, bank) = (MemoryBroker::new(), RecordingPublisher::new(), Bank::new());
    let policy = || FailurePolicy::nack().then_retry_topics(retries(&broker, &dead));
    let other = Handler::new("other", charge).from(broker.subscriber(), "charges").on_failure(policy());
    let error = router(&broker, &bank, policy()).add(other).run_until(async {}).await.unwrap_err();
    assert!(error.to_string().contains("charges.retry.1s"), "{error}");

    let service = tower::service_fn(async |_: Message| Ok::<_, BoxError>(watermill_core::Outputs::none()));
    fn is_service(_: &impl MessageService) {}
    is_service(&service);
    let single =
        Handler::service("single", service).from(broker.subscriber(), "charges").on_failure(policy());
    let error = Router::new().add(single).run_until(async {}).await.unwrap_err();
    assert!(error.to_string().contains("Handler::make"), "{error}");
}

#[tokio::test]
async fn the_last_end_that_is_named_counts_and_nobody_reads_retry_topics_without_it() {
    let (broker, dead) = (MemoryBroker::new(), RecordingPublisher::new());
    let retrying = || FailurePolicy::nack().then_retry_topics(retries(&broker, &dead));
    for policy in [
        retrying().then_nack(),
        retrying().then_reject(),
        retrying().then_drop(),
        retrying().then_dead_letter(dead.clone(), "dead"),
    ] {
        let said = policy.to_string();
        assert!(!said.contains("retry from"), "{said}");
        let router = router(&broker, &Bank::new(), policy);
        assert_eq!(router.to_string().lines().count(), 1, "{router}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_handlers_that_are_merged_into_a_running_router_finds_their_retry_topics() {
    let (broker, dead, bank) = (MemoryBroker::new(), RecordingPublisher::new(), Bank::new());
    let subscriber = || broker.subscriber().group("bank");
    subscriber().initialize("charges").await.unwrap();
    broker.publisher().publish_one("charges", Message::with_id("a", "broke")).await.unwrap();
    let router = Router::new().with_state(bank.clone());
    let handle = router.handle();
    let running = start(router).await;
    let policy = || FailurePolicy::nack().then_retry_topics(retries(&broker, &dead));
    let handler = |name: &str| Handler::new(name, charge).from(subscriber(), "charges").on_failure(policy());
    let added = handle.merge(Handlers::new().add(handler("charge"))).await;
    assert!(matches!(&added[..], [(name, Ok(_))] if name == "charge"), "{added:?}");
    dead.await_published(1).await;
    assert_eq!(bank.tried().len(), 4, "nothing was lost on the way");

    let error = handle.add(handler("other")).await.unwrap_err();
    assert!(error.to_string().contains("charges.retry.1m"), "{error}");
    assert_eq!(handle.handlers().len(), 4, "nobody else takes what waits there");
    drop(handle);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_added_to_a_running_router_has_its_retry_topics_too() {
    let (broker, dead, bank) = (MemoryBroker::new(), RecordingPublisher::new(), Bank::new());
    let router = Router::new().with_state(bank.clone());
    let handle = router.handle();
    let running = start(router).await;
    let policy = FailurePolicy::nack().then_retry_topics(retries(&broker, &dead));
    let handler =
        Handler::new("charge", charge).from(broker.subscriber().group("bank"), "charges").on_failure(policy);
    handle.add(handler).await.unwrap();
    assert_eq!(handle.handlers().len(), 4);
    broker.publisher().publish_one("charges", Message::with_id("a", "broke")).await.unwrap();
    dead.await_published(1).await;
    assert_eq!(bank.tried().len(), 4);
    drop(handle);
    running.stop().await;
}
