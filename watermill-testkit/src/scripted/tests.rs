use std::num::NonZeroUsize;

use futures::{FutureExt, StreamExt};
use watermill_core::{Delivery, Subscriber, Subscription};

use super::*;

fn subscriber(ids: &[&str]) -> ScriptedSubscriber {
    let subscriber = ScriptedSubscriber::new();
    for id in ids {
        subscriber.push(Message::with_id(*id, ""));
    }
    subscriber
}

fn window(size: usize) -> NonZeroUsize {
    NonZeroUsize::new(size).unwrap()
}

async fn next(subscription: &mut Subscription) -> Delivery {
    subscription.next().await.unwrap().unwrap()
}

#[tokio::test]
async fn the_window_holds_in_each_scope() {
    let subscriber = subscriber(&["a1", "a2"]);
    subscriber.push(ScriptedDelivery::new(Message::with_id("b1", "")).partition(7).offset(3).attempt(2));
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let a1 = next(&mut subscription).await;
    let b1 = next(&mut subscription).await;
    assert_eq!((a1.id().as_str(), b1.id().as_str()), ("a1", "b1"));
    assert_eq!((b1.info().partition(), b1.info().offset(), b1.info().attempt()), (Some(7), Some(3), 2));
    assert!(subscription.next().now_or_never().is_none());
    a1.ack();
    assert_eq!(next(&mut subscription).await.id().as_str(), "a2");
    assert_eq!(subscriber.outstanding_max(), 2);
}

#[tokio::test]
async fn a_nacked_message_comes_again_before_any_later_one() {
    let subscriber = subscriber(&["1", "2", "3"]).redeliver(true);
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    subscription.set_window(Window::ordered(window(2)));
    let (first, second) = (next(&mut subscription).await, next(&mut subscription).await);
    second.nack();
    first.nack();
    let first = next(&mut subscription).await;
    assert_eq!((first.id().as_str(), first.info().attempt()), ("1", 2));
    assert_eq!(next(&mut subscription).await.id().as_str(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_holds_its_scope_up_unless_order_is_given_up() {
    for ordered in [true, false] {
        let subscriber = subscriber(&["1", "2"]).redeliver(true);
        let mut subscription = subscriber.subscribe("t").await.unwrap();
        if !ordered {
            subscription.set_window(Window::unordered(NonZeroUsize::MIN));
        }
        next(&mut subscription).await.nack_after(Duration::from_secs(3600));
        let then = next(&mut subscription).await;
        assert_eq!(then.id().as_str(), if ordered { "1" } else { "2" });
    }
}

#[tokio::test]
async fn an_error_comes_between_the_deliveries_and_the_end_after_redeliveries() {
    let subscriber = subscriber(&["1"]).redeliver(true);
    subscriber.fail(SubscribeError::new(SubscribeErrorKind::Unavailable, "t"));
    subscriber.push(Message::with_id("2", ""));
    subscriber.end();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    next(&mut subscription).await.ack();
    let error = subscription.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Unavailable);
    next(&mut subscription).await.nack();
    next(&mut subscription).await.ack();
    assert!(subscription.next().await.is_none());
    let nack = Outcome::Nack { delay: Duration::ZERO };
    let outcomes = [("1".into(), Outcome::Ack), ("2".into(), nack), ("2".into(), Outcome::Ack)];
    assert_eq!(subscriber.outcomes(), outcomes);
}

#[tokio::test]
async fn what_is_settled_after_the_end_is_ignored_and_said_so() {
    let subscriber = subscriber(&["1"]);
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let delivery = next(&mut subscription).await;
    subscription.close().await.unwrap();
    assert_eq!(subscriber.closed(), 1);
    assert!(delivery.ack_confirmed().await.is_err());
    assert_eq!(subscriber.outcomes(), [("1".into(), Outcome::Nack { delay: Duration::ZERO })]);
    assert_eq!(subscriber.ignored(), [("1".into(), Outcome::Ack)]);
}

#[tokio::test]
async fn a_revoked_delivery_is_cancelled_and_comes_again() {
    let subscriber = subscriber(&["1"]).redeliver(true);
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let delivery = next(&mut subscription).await;
    let cancellation = delivery.cancellation();
    subscriber.revoke(0);
    assert!(cancellation.is_cancelled());
    let again = next(&mut subscription).await;
    delivery.ack();
    assert_eq!(subscriber.outcomes(), []);
    assert_eq!(subscriber.ignored(), [("1".into(), Outcome::Ack)]);
    again.ack();
    assert_eq!(subscriber.outcomes(), [("1".into(), Outcome::Ack)]);
}

#[tokio::test]
async fn one_subscription_has_everything_until_another_takes_over() {
    let subscriber = subscriber(&["1", "2"]).redeliver(true).exclusive(true);
    let mut first = subscriber.subscribe("t").await.unwrap();
    let mut second = subscriber.subscribe("t").await.unwrap();
    first.set_window(Window::ordered(window(2)));
    let (one, two) = (next(&mut first).await, next(&mut first).await);
    one.ack();
    assert!(second.next().now_or_never().is_none());
    subscriber.take_over();
    two.ack();
    assert_eq!(subscriber.ignored(), [("2".into(), Outcome::Ack)]);
    assert!(first.next().now_or_never().is_none());
    drop(next(&mut second).await);
    drop(second);
    assert_eq!(next(&mut first).await.id().as_str(), "2");
}

#[tokio::test]
async fn subscribing_fails_as_often_as_it_was_told_to() {
    let subscriber = subscriber(&[]);
    subscriber.fail_subscribe(2, SubscribeErrorKind::Unavailable);
    assert!(subscriber.subscribe("t").await.is_err());
    assert!(subscriber.subscribe("t").await.is_err());
    let _subscription = subscriber.subscribe("t").await.unwrap();
    assert_eq!((subscriber.subscribe_calls(), subscriber.subscribed()), (3, vec!["t".to_owned()]));
    subscriber.close().await.unwrap();
    let error = subscriber.subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_script_is_finished_once_everything_is_settled_and_nothing_comes_again() {
    let subscriber = subscriber(&["1"]).redeliver(true);
    subscriber.fail(SubscribeError::new(SubscribeErrorKind::Unavailable, "t"));
    let mut finished = Box::pin(subscriber.finished());
    assert!((&mut finished).now_or_never().is_none(), "nothing was handed out");
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    next(&mut subscription).await.nack_after(Duration::from_secs(3600));
    assert!((&mut finished).now_or_never().is_none(), "an error is to come, and it again");
    subscription.next().await.unwrap().unwrap_err();
    assert!((&mut finished).now_or_never().is_none(), "it comes again");
    let delivery = next(&mut subscription).await;
    assert!((&mut finished).now_or_never().is_none(), "it is out");
    delivery.ack();
    finished.await;
}
