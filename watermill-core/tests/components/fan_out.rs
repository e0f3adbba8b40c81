//! Fan-out: every member gets every message, and upstream knows when all are done.

use std::{num::NonZeroUsize, time::Duration};

use futures::{FutureExt, StreamExt};
use tokio::time::timeout;
use watermill_core::{
    Delivery, Handler, Message, Router, Subscriber, Subscription, Window,
    components::{FanOut, Upstream},
    delivery::Outcome,
    error::SubscribeErrorKind,
};
use watermill_testkit::{ScriptedDelivery, ScriptedSubscriber, patience};

use crate::{Running, message};

async fn next(subscription: &mut Subscription) -> Delivery {
    timeout(patience(), subscription.next()).await.expect("a copy").unwrap().unwrap()
}

fn source(messages: usize) -> ScriptedSubscriber {
    let source = ScriptedSubscriber::new();
    for number in 0..messages {
        source.push(message(number));
    }
    source
}

#[tokio::test]
async fn the_original_is_acked_when_every_member_has_acked_its_copy() {
    let source = source(1);
    let fan_out = FanOut::new(source.clone(), "t");
    let (one, other) = (fan_out.member("one"), fan_out.member("other"));
    let mut one = one.subscribe("t").await.unwrap();
    next(&mut one).await.ack();
    // It came while the other had not subscribed, and waits for it.
    let mut other = other.subscribe("t").await.unwrap();
    let copy = next(&mut other).await;
    assert!(source.outcomes().is_empty(), "the other is not done");
    copy.ack();
    assert_eq!(source.settled(1).await, [("0".into(), Outcome::Ack)]);
    assert_eq!(source.subscribed(), ["t"], "one subscription for all");
    one.close().await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_nacked_comes_again_to_that_member_alone_and_in_order() {
    let source = source(2);
    let fan_out = FanOut::new(source.clone(), "t");
    let (one, other) = (fan_out.member("one"), fan_out.member("other"));
    let (mut one, mut other) = (one.subscribe("t").await.unwrap(), other.subscribe("t").await.unwrap());
    for id in ["0", "1"] {
        let copy = next(&mut other).await;
        assert_eq!(copy.id().as_str(), id);
        copy.ack();
    }
    next(&mut one).await.nack_after(Duration::from_secs(5));
    let again = next(&mut one).await;
    assert_eq!((again.id().as_str(), again.info().attempt()), ("0", 2));
    again.ack();
    next(&mut one).await.ack();
    source.settled(2).await;
    assert_eq!(source.handed_out(), 2, "upstream delivered each once");
    assert!(other.next().now_or_never().is_none());
}

#[tokio::test]
async fn what_any_member_rejects_is_rejected_upstream_once_all_are_done() {
    let source = source(1);
    let fan_out = FanOut::new(source.clone().dead_letters(true), "t");
    let (one, other) = (fan_out.member("one"), fan_out.member("other"));
    assert!(one.capabilities().dead_letters);
    let (mut one, mut other) = (one.subscribe("t").await.unwrap(), other.subscribe("t").await.unwrap());
    next(&mut one).await.reject("nonsense");
    let copy = next(&mut other).await;
    assert!(source.outcomes().is_empty());
    copy.ack();
    assert_eq!(source.settled(1).await, [("0".into(), Outcome::Reject { reason: "nonsense".into() })]);
}

#[tokio::test]
async fn the_slowest_member_bounds_how_far_the_others_are_ahead() {
    let source = source(10);
    let fan_out = FanOut::new(source.clone(), "t").ahead(NonZeroUsize::new(3).unwrap());
    let (fast, slow) = (fan_out.member("fast"), fan_out.member("slow"));
    let (mut fast, mut slow) = (fast.subscribe("t").await.unwrap(), slow.subscribe("t").await.unwrap());
    for _ in 0..3 {
        next(&mut fast).await.ack();
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(fast.next().now_or_never().is_none(), "it waits for the slow one");
    assert_eq!(source.handed_out(), 3);
    next(&mut slow).await.ack();
    assert_eq!(next(&mut fast).await.id().as_str(), "3");
}

#[tokio::test]
async fn what_not_all_are_done_with_goes_back_when_the_last_member_has_ended() {
    let source = source(2);
    let fan_out = FanOut::new(source.clone(), "t");
    let (one, other) = (fan_out.member("one"), fan_out.member("other"));
    let (mut one, mut other) = (one.subscribe("t").await.unwrap(), other.subscribe("t").await.unwrap());
    for _ in 0..2 {
        next(&mut one).await.ack();
    }
    next(&mut other).await.ack();
    one.close().await.unwrap();
    other.close().await.unwrap();
    let outcomes = source.outcomes();
    assert_eq!(outcomes[0], ("0".into(), Outcome::Ack), "recorded before the last close returns");
    assert!(matches!(outcomes[1], (ref id, Outcome::Nack { .. }) if id.as_str() == "1"), "{outcomes:?}");
    assert_eq!(outcomes.len(), 2);
}

#[tokio::test]
async fn however_much_was_acked_at_once_is_recorded_before_the_last_close_returns() {
    let source = source(500);
    let fan_out = FanOut::new(source.clone(), "t").ahead(NonZeroUsize::new(1_000).unwrap());
    let mut only = fan_out.member("only").subscribe("t").await.unwrap();
    only.set_window(Window::ordered(NonZeroUsize::new(1_000).unwrap()));
    let mut copies = Vec::new();
    for _ in 0..500 {
        copies.push(next(&mut only).await);
    }
    copies.into_iter().for_each(Delivery::ack);
    only.close().await.unwrap();
    let acked = source.outcomes().iter().filter(|(_, outcome)| *outcome == Outcome::Ack).count();
    assert_eq!(acked, 500);
}

#[tokio::test]
async fn a_member_that_comes_back_finds_what_waited_for_it() {
    let source = source(2);
    let fan_out = FanOut::new(source.clone(), "t");
    let (one, other) = (fan_out.member("one"), fan_out.member("other"));
    let (mut one, first) = (one.subscribe("t").await.unwrap(), other.subscribe("t").await.unwrap());
    next(&mut one).await.ack();
    first.close().await.unwrap();
    let mut second = other.subscribe("t").await.unwrap();
    assert_eq!(next(&mut second).await.id().as_str(), "0");
}

#[tokio::test]
async fn handlers_of_a_router_stop_without_a_redelivery() {
    async fn handle(_: Message) {}
    let source = source(20);
    let fan_out = FanOut::new(source.clone(), "t");
    let member = |name: &str| Handler::new(name, handle).from(fan_out.member(name), "t");
    let running = Running::start(Router::new().add(member("index")).add(member("notify"))).await;
    source.settled(20).await;
    let report = running.stop().await;
    assert_eq!(source.handed_out(), 20);
    assert!(source.outcomes().iter().all(|(_, outcome)| *outcome == Outcome::Ack));
    for name in ["index", "notify"] {
        assert_eq!(report.handler(name).unwrap().counts.acked, 20);
    }
}

#[tokio::test]
async fn a_copy_tells_how_the_original_came() {
    let source = ScriptedSubscriber::new();
    source.push(ScriptedDelivery::new(message("a")).partition(2).offset(9));
    let fan_out = FanOut::new(source, "t");
    let mut member = fan_out.member("one").subscribe("t").await.unwrap();
    let copy = next(&mut member).await;
    let Upstream(info) = copy.extensions().get::<Upstream>().unwrap();
    assert_eq!((info.partition(), info.offset()), (Some(2), Some(9)));
    assert_eq!(copy.info().topic(), "t");
}

#[tokio::test]
async fn the_end_of_the_source_is_an_error_to_every_member_and_a_new_subscription_begins_again() {
    let source = source(0);
    let fan_out = FanOut::new(source.clone(), "t");
    let (one, other) = (fan_out.member("one"), fan_out.member("other"));
    let mut subscriptions = [one.subscribe("t").await.unwrap(), other.subscribe("t").await.unwrap()];
    source.end();
    for subscription in &mut subscriptions {
        let error = timeout(patience(), subscription.next()).await.expect("the end").unwrap().unwrap_err();
        assert_eq!(error.kind(), SubscribeErrorKind::Unavailable);
        assert!(subscription.next().await.is_none());
    }
    drop(subscriptions);
    let _again = one.subscribe("t").await.unwrap();
    assert_eq!(source.subscribed().len(), 2);
}

#[tokio::test]
async fn a_member_that_holds_on_to_what_has_ended_keeps_no_other_from_a_new_subscription() {
    let source = source(0);
    let fan_out = FanOut::new(source.clone(), "t");
    let (one, other) = (fan_out.member("one"), fan_out.member("other"));
    let (mut first, _held) = (one.subscribe("t").await.unwrap(), other.subscribe("t").await.unwrap());
    source.end();
    timeout(patience(), first.next()).await.expect("the end").unwrap().unwrap_err();
    drop(first);
    let _again = one.subscribe("t").await.unwrap();
    assert_eq!(source.subscribed().len(), 2);
}

#[tokio::test]
async fn another_topic_is_refused_and_so_is_a_closed_member() {
    let fan_out = FanOut::new(source(0), "t");
    let member = fan_out.member("one");
    assert_eq!(member.subscribe("u").await.unwrap_err().kind(), SubscribeErrorKind::Topic);
    assert_eq!(member.in_group("g").err().unwrap().kind(), SubscribeErrorKind::Unsupported);
    member.close().await.unwrap();
    assert_eq!(member.subscribe("t").await.unwrap_err().kind(), SubscribeErrorKind::Closed);
}
