//! What is not a message's fault gives it back: nothing is dead-lettered, rejected or dropped for it,
//! wherever the policy ends and however layers are stacked.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tower::{Layer, service_fn, util::BoxCloneService};
use watermill_core::{
    Backoff, FailurePolicy, Handler, Message, Outputs, Publisher,
    delivery::Outcome,
    error::{BoxError, Nack, Permanent, PublishErrorKind, Verdict},
    middleware::{
        DeduplicationKey, DeduplicationStore, Deduplicator, IgnoreErrors, MemoryDeduplicationStore,
        PoisonQueue, Reserved, Retry,
    },
    router::MessageService,
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, message, router};

type Stack = BoxCloneService<Message, Outputs, BoxError>;

const LAYERS: [&str; 4] = ["deduplicator", "retry", "poison queue", "ignore errors"];

/// Every way in which a policy can end, and one that gives up on everything it is asked about.
fn policies(dead: &RecordingPublisher) -> Vec<FailurePolicy> {
    vec![
        FailurePolicy::nack(),
        FailurePolicy::retry(2).then_dead_letter(dead.clone(), "dead"),
        FailurePolicy::retry(2).then_reject(),
        FailurePolicy::retry(2).then_drop(),
        FailurePolicy::retry(2).classify(|_| Verdict::Ignore),
        FailurePolicy::retry(2).classify(|_| Verdict::GiveUp).then_drop(),
    ]
}

fn put_around(inner: Stack, layer: &str, dead: &RecordingPublisher) -> Stack {
    match layer {
        "deduplicator" => {
            let store = MemoryDeduplicationStore::new(Duration::from_secs(60), 100);
            BoxCloneService::new(Deduplicator::new(store).layer(inner))
        }
        "retry" => BoxCloneService::new(Retry::new(3).layer(inner)),
        "poison queue" => BoxCloneService::new(PoisonQueue::new(dead.clone(), "dead").unwrap().layer(inner)),
        _ => BoxCloneService::new(IgnoreErrors::when(|_| true).layer(inner)),
    }
}

fn orders(of: &[&'static str]) -> Vec<Vec<&'static str>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let first = |at: usize| {
        let mut rest = of.to_vec();
        let first = rest.remove(at);
        orders(&rest).into_iter().map(move |order| [vec![first], order].concat())
    };
    (0..of.len()).flat_map(first).collect()
}

/// What becomes of one message.
async fn outcome_of(service: impl MessageService, policy: FailurePolicy) -> Outcome {
    let source = ScriptedSubscriber::new();
    source.push(message("a"));
    let handler = Handler::service("handle", service).from(source.clone(), "in").on_failure(policy);
    let running = Running::start(router().add(handler)).await;
    let (_, outcome) = source.settled(1).await.remove(0);
    running.stop().await.unwrap();
    outcome
}

#[track_caller]
fn assert_comes_again_later(outcome: &Outcome, case: &str) {
    assert!(matches!(outcome, Outcome::Nack { delay } if !delay.is_zero()), "{outcome:?} with {case}");
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_in_progress_is_nacked_in_whatever_order_layers_stand_and_wherever_the_policy_ends() {
    for order in orders(&LAYERS) {
        let dead = RecordingPublisher::new();
        for policy in policies(&dead) {
            let case = format!("{policy} around {order:?}");
            let gate = Arc::new(Semaphore::new(0));
            let opened = gate.clone();
            let mut service: Stack = BoxCloneService::new(service_fn(move |_: Message| {
                let gate = opened.clone();
                async move {
                    gate.acquire().await?.forget();
                    Ok(Outputs::none())
                }
            }));
            for layer in order.iter().rev() {
                service = put_around(service, layer, &dead);
            }
            let source = ScriptedSubscriber::new();
            source.push(message("a"));
            source.push(message("a"));
            let handler = Handler::service("handle", service)
                .from(source.clone(), "in")
                .concurrency(2)
                .on_failure(policy);
            let running = Running::start(router().add(handler)).await;

            assert_comes_again_later(&source.settled(1).await[0].1, &case);
            gate.add_permits(1);
            assert_eq!(source.settled(2).await[1].1, Outcome::Ack, "{case}");
            running.stop().await.unwrap();
            assert_eq!(dead.all_published(), [], "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deduplication_store_that_is_away_gives_messages_back_and_one_that_refuses_a_key_does_not() {
    struct Broken(fn() -> BoxError);

    #[async_trait]
    impl DeduplicationStore for Broken {
        async fn reserve(&self, _key: DeduplicationKey<'_>) -> Result<Reserved, BoxError> {
            Err((self.0)())
        }
    }

    let handler = || service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none()));
    let away = Deduplicator::new(Broken(|| "the table is locked".into()));
    let dead = RecordingPublisher::new();
    for policy in policies(&dead) {
        let case = policy.to_string();
        assert_comes_again_later(&outcome_of(away.layer(handler()), policy).await, &case);
    }
    let refuses = Deduplicator::new(Broken(|| Permanent::new("the key is too long").into()));
    let outcome = outcome_of(refuses.layer(handler()), FailurePolicy::retry(2).then_reject()).await;
    assert!(matches!(outcome, Outcome::Reject { .. }), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_dead_letter_a_layer_cannot_publish_is_given_back() {
    for kind in [PublishErrorKind::Refused, PublishErrorKind::Unavailable, PublishErrorKind::Closed] {
        for policy in policies(&RecordingPublisher::new()) {
            let case = format!("{policy}, {kind:?}");
            let broken = RecordingPublisher::new();
            broken.fail_next(100, kind);
            let fail = service_fn(async |_: Message| Err::<Outputs, BoxError>("boom".into()));
            let service = PoisonQueue::new(broken, "dead").unwrap().layer(fail);
            assert_comes_again_later(&outcome_of(service, policy).await, &case);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_own_publisher_is_closed_gives_its_message_back() {
    let publisher = RecordingPublisher::new();
    publisher.close().await.unwrap();
    let handler = service_fn(move |message: Message| {
        let publisher = publisher.clone();
        async move {
            publisher.publish("elsewhere", vec![message]).await?;
            Ok::<_, BoxError>(Outputs::none())
        }
    });
    let dead = RecordingPublisher::new();
    for policy in policies(&dead).into_iter().take(4) {
        let case = policy.to_string();
        assert_comes_again_later(&outcome_of(handler.clone(), policy).await, &case);
    }
    assert_eq!(dead.all_published(), []);
}

#[tokio::test(start_paused = true)]
async fn the_longer_of_the_policys_delay_and_the_one_that_was_asked_for_counts() {
    let policy = || FailurePolicy::nack().nack_backoff(Backoff::constant(Duration::from_secs(10)));
    for (asked, waited) in [(60, 60), (1, 10), (0, 10)] {
        let service = service_fn(move |_: Message| async move {
            Err::<Outputs, _>(Nack::new("the bank is closed").after(Duration::from_secs(asked)))
        });
        let outcome = outcome_of(service, policy()).await;
        assert_eq!(outcome, Outcome::Nack { delay: Duration::from_secs(waited) }, "{asked} s were asked for");
    }
}
