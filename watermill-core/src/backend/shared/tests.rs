use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};

use super::*;
use crate::{
    Delivery, Message, Subscription, Window,
    backend::{Incoming, Nacks, Registry},
    error::{SettleErrorKind, SubscribeError, SubscribeErrorKind},
    subscription::Health,
};

type Open = Registry<Shared<ById<u32>>>;

fn open(registry: &Open, options: SharedOptions) -> (Subscription, Origin, Arc<Shared<ById<u32>>>) {
    let shared = Arc::new(Shared::new("t", Some("g"), ById::new(Nacks::ToServer), options));
    let (subscription, origin) = registry.open(Origin::builder("test", "t"), shared.clone()).unwrap();
    (subscription, origin, shared)
}

fn push(shared: &Shared<ById<u32>>, id: u32) {
    shared.lock().ledger.push(Incoming::new(id, Message::new(id.to_string())), Instant::now());
    shared.wake_stream();
}

async fn next(subscription: &mut Subscription) -> Delivery {
    subscription.next().await.unwrap().unwrap()
}

/// What a task does: records everything until the subscription closes, and then what is left.
async fn record(shared: Arc<Shared<ById<u32>>>, origin: Origin) {
    let task = shared.task();
    shared.start();
    while !shared.is_over() {
        shared.wait(false, Instant::now() + Duration::from_secs(3600)).await;
        if shared.record_at(&shared.lock()).is_some_and(|at| at <= Instant::now()) {
            let settled = shared.lock().ledger.take_settled(usize::MAX);
            settled.into_iter().for_each(|settled| settled.recorded());
        }
    }
    shared.give_back(&origin);
    shared.lock().ledger.take_settled(usize::MAX).into_iter().for_each(|settled| settled.recorded());
    task.end(Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_ack_is_confirmed_once_the_task_has_recorded_it() {
    let registry = Open::default();
    let (mut subscription, origin, shared) = open(&registry, SharedOptions::default());
    push(&shared, 1);
    let delivery = next(&mut subscription).await;
    let mut confirmed = Box::pin(delivery.ack_confirmed());
    assert!(confirmed.as_mut().now_or_never().is_none());
    tokio::spawn(record(shared, origin));
    confirmed.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_recorded_in_batches_and_at_once_for_whoever_waits() {
    let registry = Open::default();
    let interval = Duration::from_secs(5);
    let options = SharedOptions::default().record_batch(2).record_interval(interval);
    let (mut subscription, _origin, shared) = open(&registry, options);
    subscription.set_window(Window::unordered(9.try_into().unwrap()));
    (1..=4).for_each(|id| push(&shared, id));
    let now = Instant::now();
    next(&mut subscription).await.ack();
    assert_eq!(shared.record_at(&shared.lock()), Some(now + interval));
    next(&mut subscription).await.ack();
    assert_eq!(shared.record_at(&shared.lock()), Some(now), "the batch is full");
    shared.lock().ledger.take_settled(9).into_iter().for_each(|settled| settled.recorded());
    let mut confirmed = Box::pin(next(&mut subscription).await.ack_confirmed());
    assert!(confirmed.as_mut().now_or_never().is_none());
    assert_eq!(shared.record_at(&shared.lock()), Some(now), "somebody waits");
}

#[tokio::test(start_paused = true)]
async fn a_close_returns_when_everything_is_recorded_and_the_subscriber_forgets_it() {
    let registry = Open::default();
    let (mut subscription, origin, shared) = open(&registry, SharedOptions::default());
    tokio::spawn(record(shared.clone(), origin));
    push(&shared, 1);
    push(&shared, 2);
    let delivery = next(&mut subscription).await;
    let lost = delivery.cancellation();
    assert_eq!(registry.status().len(), 1);
    subscription.close().await.unwrap();
    assert!(lost.is_cancelled(), "whoever works for it is told");
    let late = delivery.ack_confirmed().await.unwrap_err();
    assert_eq!(late.kind(), SettleErrorKind::Lost);
    assert_eq!(registry.status(), []);
    assert_eq!(Arc::strong_count(&shared), 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_closes_ends_its_subscriptions_and_refuses_others() {
    let registry = Open::default();
    let (mut subscription, origin, shared) = open(&registry, SharedOptions::default());
    tokio::spawn(record(shared, origin));
    registry.close().await.unwrap();
    assert!(subscription.next().await.is_none());
    assert_eq!(subscription.status().health, Health::Ended);
    assert_eq!(registry.check("t").unwrap_err().kind(), SubscribeErrorKind::Closed);
    let refused = Arc::new(Shared::new("t", None, ById::new(Nacks::ToServer), SharedOptions::default()));
    let error = registry.open(Origin::builder("test", "t"), refused.clone()).unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Closed);
    assert!(refused.closing().is_cancelled());
    registry.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_ends_the_subscription_and_closing_says_so() {
    let registry = Open::default();
    let (mut subscription, _origin, shared) = open(&registry, SharedOptions::default());
    push(&shared, 1);
    let delivery = next(&mut subscription).await;
    let confirmed = tokio::spawn(delivery.ack_confirmed());
    tokio::task::yield_now().await;
    drop(shared.task());
    assert!(subscription.next().await.is_none());
    assert_eq!(confirmed.await.unwrap().unwrap_err().kind(), SettleErrorKind::Unknown);
    assert_eq!(subscription.close().await.unwrap_err().kind(), SubscribeErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_ever() {
    let registry = Open::default();
    let options = SharedOptions::default().close_timeout(Duration::from_secs(7));
    let (subscription, _origin, shared) = open(&registry, options);
    let _frozen = shared.task();
    let before = Instant::now();
    let error = subscription.close().await.unwrap_err();
    assert_eq!(before.elapsed(), Duration::from_secs(7));
    assert!(error.to_string().contains("did not answer within 7s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_handed_out_after_the_time_until_which_it_is_ours() {
    let registry = Open::default();
    let (mut subscription, _origin, shared) = open(&registry, SharedOptions::default());
    push(&shared, 1);
    shared.lock().own_until(Instant::now() + Duration::from_secs(1));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(subscription.next().now_or_never().is_none());
    shared.lock().own_until(Instant::now() + Duration::from_secs(1));
    shared.wake_stream();
    assert_eq!(next(&mut subscription).await.payload(), "1");
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_is_told_to_whoever_works_for_it() {
    let registry = Open::default();
    let (mut subscription, origin, shared) = open(&registry, SharedOptions::default());
    push(&shared, 1);
    let delivery = next(&mut subscription).await;
    shared.lose_where(&origin, |id| *id == 1);
    assert!(delivery.is_lost());
    assert_eq!(delivery.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
    assert_eq!(subscription.status().outstanding, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_is_told_on_the_stream() {
    let registry = Open::default();
    let (mut subscription, _origin, shared) = open(&registry, SharedOptions::default());
    shared.report_undecodable("record 7 is no message and is skipped", "it is empty");
    let error = subscription.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Undecodable);
    assert!(error.to_string().contains("record 7"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn of_many_errors_the_latest_are_kept() {
    let registry = Open::default();
    let (mut subscription, _origin, shared) = open(&registry, SharedOptions::default());
    for number in 0..20 {
        shared.report(SubscribeError::closed(number.to_string()));
    }
    let first = subscription.next().await.unwrap().unwrap_err();
    assert_eq!(first.topic(), "4");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_always_ready_lets_others_run() {
    let registry = Open::default();
    let (mut subscription, _origin, shared) = open(&registry, SharedOptions::default());
    (0..200).for_each(|id| push(&shared, id));
    let mut in_a_row = 0;
    while let Some(delivery) = subscription.next().now_or_never() {
        delivery.unwrap().unwrap().ack();
        in_a_row += 1;
    }
    assert_eq!(in_a_row, 128);
    assert_eq!(next(&mut subscription).await.payload(), "128");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_subscription_is_waited_for_by_its_subscriber() {
    let registry = Open::default();
    let (mut subscription, origin, shared) = open(&registry, SharedOptions::default());
    push(&shared, 1);
    next(&mut subscription).await.ack();
    drop(subscription);
    assert_eq!(registry.status().len(), 1, "its ack is not recorded yet");
    tokio::spawn(record(shared, origin));
    registry.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_subscription_lacks_and_can_do_without_is_said_beside_how_it_gets_on() {
    let registry = Open::default();
    let (subscription, _origin, shared) = open(&registry, SharedOptions::default());
    let reason = || match subscription.status().health {
        Health::Degraded { reason } => Some(reason),
        _ => None,
    };
    shared.lock().impaired_by = Some("a part is away".to_owned());
    assert_eq!(reason().unwrap(), "a part is away");
    assert!(subscription.status().active, "it gets on without");
    shared.lock().degraded("the server is away");
    assert_eq!(reason().unwrap(), "the server is away");
    assert!(!subscription.status().active);
    shared.lock().recovered();
    assert_eq!(reason().unwrap(), "a part is away", "getting on is no word about that part");
    shared.lock().impaired_by = None;
    assert_eq!(reason(), None);
}

#[tokio::test(start_paused = true)]
async fn whoever_owns_what_it_reads_is_active_until_that_is_over() {
    let registry = Open::default();
    let (subscription, _origin, shared) = open(&registry, SharedOptions::default());
    let is_active = || subscription.status().active;
    shared.lock().disown();
    shared.lock().degraded("another reads");
    assert!(!is_active());
    shared.lock().own_until(Instant::now() + Duration::from_secs(10));
    assert!(is_active(), "a row that cannot be read makes it no standby");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(!is_active());
}

#[tokio::test(start_paused = true)]
async fn that_messages_were_missed_is_not_forgotten_for_other_errors() {
    let registry = Open::default();
    let (mut subscription, _origin, shared) = open(&registry, SharedOptions::default());
    shared.report(SubscribeError::new(SubscribeErrorKind::Missed, "t"));
    for _ in 0..100 {
        shared.report(SubscribeError::new(SubscribeErrorKind::Unavailable, "t"));
    }
    let mut kinds = Vec::new();
    while let Some(Some(next)) = subscription.next().now_or_never() {
        kinds.push(next.unwrap_err().kind());
    }
    assert_eq!((kinds[0], kinds.len()), (SubscribeErrorKind::Missed, 16));
    assert!(kinds[1..].iter().all(|kind| *kind == SubscribeErrorKind::Unavailable));
}
