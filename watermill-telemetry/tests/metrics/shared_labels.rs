//! Several parts whose figures have the same labels.

use std::time::Duration;

use watermill_core::{
    Handler, Message, Router, Subscriber,
    subscription::{Health, SubscriptionStatus},
};
use watermill_telemetry::{Metrics, Watched};
use watermill_testkit::ScriptedSubscriber;

use crate::{Running, sample, samples, unknown::Said};

fn degraded() -> Health {
    Health::Degraded { reason: "away".to_owned() }
}

/// A figure of a subscription to `topic` that a subscriber named `all` has.
fn figure(metrics: &Metrics, name: &str, topic: &str) -> f64 {
    let labels = format!(r#"handler_name="<no handler>",subscriber_name="all",topic="{topic}""#);
    sample(metrics, &format!("watermill_subscription_{name}{{{labels}}}"))
}

fn figures(metrics: &Metrics, topic: &str) -> [f64; 5] {
    ["healthy", "outstanding_messages", "lag_messages", "oldest_message_seconds", "changes_total"]
        .map(|name| figure(metrics, name, topic))
}

fn status(topic: &str, health: Health, outstanding: usize, lag: u64, oldest: u64) -> SubscriptionStatus {
    let mut status = SubscriptionStatus::new(topic, health)
        .lag(Some(lag))
        .oldest_unsettled(Some(Duration::from_secs(oldest)));
    status.outstanding = outstanding;
    status
}

#[test]
fn of_several_subscriptions_to_a_topic_one_is_enough_to_read_it_and_the_rest_is_added_up() {
    let metrics = Metrics::prometheus();
    let said = Said::new([
        status("orders", Health::Healthy, 3, 7, 20),
        status("orders", degraded(), 1, 2, 90),
        status("orders", Health::Healthy, 5, 0, 10),
    ]);
    let watch = metrics.watch(Watched::new().subscriber("all", said.clone()));
    for _ in 0..3 {
        watch.update();
        assert_eq!(figures(&metrics, "orders"), [1.0, 9.0, 9.0, 90.0, 0.0], "looking is no change");
    }
    said.now([status("orders", degraded(), 0, 0, 0), status("orders", degraded(), 2, 1, 5)]);
    watch.update();
    assert_eq!(figures(&metrics, "orders"), [0.0, 2.0, 1.0, 5.0, 1.0]);
}

#[test]
fn topics_beyond_the_bound_are_put_together_and_are_healthy_if_all_are() {
    let metrics = Metrics::builder().topics_max(1).prometheus();
    let said = Said::new([
        status("a", Health::Healthy, 1, 1, 1),
        status("b", Health::Healthy, 2, 3, 30),
        status("c", degraded(), 4, 5, 10),
        status("d", Health::Healthy, 0, 0, 0),
    ]);
    let watch = metrics.watch(Watched::new().subscriber("all", said.clone()));
    watch.update();
    watch.update();
    assert_eq!(figures(&metrics, "a"), [1.0, 1.0, 1.0, 1.0, 0.0]);
    assert_eq!(figures(&metrics, "other"), [0.0, 6.0, 8.0, 30.0, 0.0]);

    // What one of them does not know, the others still do.
    let unknown = SubscriptionStatus::new("b", Health::Healthy);
    let mended = status("c", Health::Healthy, 4, 5, 10);
    said.now([status("a", Health::Healthy, 1, 1, 1), unknown, mended, status("d", Health::Healthy, 0, 0, 0)]);
    watch.update();
    assert_eq!(figures(&metrics, "other"), [1.0, 4.0, 5.0, 10.0, 1.0], "c has changed");
}

#[test]
fn parts_of_the_same_name_are_put_together() {
    let metrics = Metrics::prometheus();
    let one = Said::new([status("orders", Health::Healthy, 3, 7, 20)]);
    let other = Said::new([status("orders", degraded(), 4, 1, 30)]);
    let watch = metrics.watch(Watched::new().subscriber("all", one).subscriber("all", other));
    watch.update();
    assert_eq!(figures(&metrics, "orders"), [0.0, 7.0, 8.0, 30.0, 0.0]);
}

#[test]
fn a_subscription_that_has_ended_is_no_longer_healthy_and_one_that_comes_back_is() {
    let metrics = Metrics::prometheus();
    let (orders, mails) =
        (status("orders", Health::Healthy, 3, 7, 20), status("mails", Health::Healthy, 0, 0, 0));
    let said = Said::new([orders.clone(), mails.clone()]);
    let watch = metrics.watch(Watched::new().subscriber("all", said.clone()));
    watch.update();
    said.now([mails.clone()]);
    for _ in 0..2 {
        watch.update();
        // What it has left behind still waits; how much, nobody knows any more.
        let [healthy, outstanding, lag, oldest, changes] = figures(&metrics, "orders");
        assert_eq!([healthy, outstanding, changes], [0.0, 0.0, 1.0]);
        assert!(lag.is_nan() && oldest.is_nan(), "{lag} {oldest}");
        assert_eq!(figure(&metrics, "healthy", "mails"), 1.0);
    }
    said.now([orders, mails]);
    watch.update();
    assert_eq!(figures(&metrics, "orders"), [1.0, 3.0, 7.0, 20.0, 2.0]);
}

#[tokio::test(start_paused = true)]
async fn of_handlers_beyond_the_bound_one_that_has_failed_is_not_forgotten() {
    // The backend's name and that of the first handler are two.
    let metrics = Metrics::builder().names_max(2).prometheus();
    let (well, ends) = (ScriptedSubscriber::new(), ScriptedSubscriber::new());
    let handler = |name: &str, source: &ScriptedSubscriber| {
        Handler::new(name, async |_: Message| std::future::pending::<()>().await).from(source.clone(), "in")
    };
    let router = Router::new()
        .add(handler("known", &ScriptedSubscriber::new()))
        .add(handler("stays", &well))
        .add(handler("too", &well))
        .add(handler("last", &ends));
    let watch = metrics.watch(Watched::new().router(router.control()));
    let running = Running::start(router).await;
    watch.update();
    [1, 2].into_iter().for_each(|_| well.push(Message::new("x")));
    well.await_handed_out(2).await;
    ends.close().await.unwrap();
    // Until it has been given up.
    tokio::time::sleep(Duration::from_secs(60)).await;
    for _ in 0..2 {
        watch.update();
        let others = samples(&metrics);
        let other = |name: &str| others[&format!(r#"watermill_{name}{{handler_name="other"}}"#)];
        assert_eq!([other("handler_failed"), other("handler_up")], [1.0, 1.0]);
        assert_eq!(other("messages_in_flight"), 2.0, "of both handlers");
    }
    running.control.stop();
    running.task.abort();
}
