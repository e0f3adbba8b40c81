//! The figures of handlers, publishers and subscriptions.

use std::time::Duration;

use futures::StreamExt;
use watermill_core::{
    Backoff, FailurePolicy, Handler, MemoryBroker, Message, PublisherExt, Router, Subscriber,
    error::{Permanent, PublishErrorKind},
};
use watermill_telemetry::{Metrics, Watched};
use watermill_testkit::{RecordingPublisher, ScriptedDelivery, ScriptedSubscriber};

use crate::{Running, sample};

async fn slow(message: Message) -> Result<Message, Permanent> {
    tokio::time::sleep(Duration::from_millis(30)).await;
    match &message.payload()[..] {
        b"panic" => panic!("asked to"),
        b"fail" => Err(Permanent::new("never")),
        _ => Ok(Message::new("out")),
    }
}

#[tokio::test(start_paused = true)]
async fn gos_names_labels_and_buckets_are_there() {
    let (metrics, source, out) =
        (Metrics::prometheus(), ScriptedSubscriber::new(), RecordingPublisher::new());
    for payload in ["well", "fail", "panic"] {
        source.push(Message::with_id(payload, payload));
    }
    let handler = Handler::new("bill", slow)
        .from(source.clone(), "orders")
        .to(metrics.publisher(out.clone()).named("kafka"), "invoices")
        .on_failure(FailurePolicy::nack().then_drop());
    let router = Router::new().layer(metrics.layer()).add(handler);
    let watch = metrics.watch(Watched::new().router(router.control()));
    let running = Running::start(router).await;
    source.settled(3).await;
    watch.update();

    let name = "handler_execution_time_seconds";
    for (sample_name, value) in [
        (format!(r#"{name}_bucket{{handler_name="bill",success="true",le="0.025"}}"#), 0.0),
        (format!(r#"{name}_bucket{{handler_name="bill",success="true",le="0.05"}}"#), 1.0),
        (format!(r#"{name}_sum{{handler_name="bill",success="true"}}"#), 0.03),
        // Go counts a panic as a success.
        (format!(r#"{name}_count{{handler_name="bill",success="false"}}"#), 2.0),
        // The handler is known in the publisher: the layer has marked the output.
        (r#"publish_time_seconds_count{handler_name="bill",publisher_name="kafka",success="true"}"#.into(), 1.0),
        (
            r#"subscriber_messages_received_total{acked="acked",handler_name="bill",subscriber_name="scripted"}"#
                .into(),
            3.0,
        ),
    ] {
        let found = sample(&metrics, &sample_name);
        assert!((found - value).abs() < 1e-9, "{sample_name} is {found}");
    }
    assert_eq!(sample(&metrics, r#"watermill_handler_panics_total{handler_name="bill"}"#), 1.0);
    assert_eq!(sample(&metrics, r#"watermill_messages_dropped_total{handler_name="bill"}"#), 2.0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_router_counts_is_counted_once_however_often_one_looks_and_to_the_end() {
    let (metrics, source) = (Metrics::prometheus(), ScriptedSubscriber::new());
    async fn fail() -> Result<(), Permanent> {
        Err(Permanent::new("never"))
    }
    let dead = RecordingPublisher::new();
    let policy = FailurePolicy::nack().then_dead_letter(dead.clone(), "dead");
    let handler = Handler::new("fail", fail).from(source.clone(), "in").on_failure(policy.clone());
    let router = Router::new();
    let handle = router.handle();
    let watch = metrics.watch(Watched::new().router(router.control()));
    let running = Running::start(router.add(handler)).await;
    let dead_lettered = r#"watermill_messages_dead_lettered_total{handler_name="fail",reason="permanent"}"#;

    source.push(ScriptedDelivery::new(Message::new("a")).attempt(2));
    source.settled(1).await;
    watch.update();
    watch.update();
    assert_eq!(sample(&metrics, dead_lettered), 1.0);
    let by_panic = r#"watermill_messages_dead_lettered_total{handler_name="fail",reason="panic"}"#;
    assert_eq!(sample(&metrics, by_panic), 0.0, "so that the first one is an increase");
    assert_eq!(sample(&metrics, r#"watermill_messages_redelivered_total{handler_name="fail"}"#), 1.0);
    assert_eq!(sample(&metrics, r#"watermill_handler_up{handler_name="fail"}"#), 1.0);

    // What comes after the last look and before its end is counted from its report.
    source.push(Message::new("b"));
    source.settled(2).await;
    running.control.stop_handler("fail").await.unwrap();
    watch.update();
    assert_eq!(sample(&metrics, dead_lettered), 2.0);
    assert_eq!(sample(&metrics, r#"watermill_handler_up{handler_name="fail"}"#), 0.0);
    assert_eq!(sample(&metrics, r#"watermill_handler_failed{handler_name="fail"}"#), 0.0);

    // One of the same name begins at zero, and the counter goes on.
    let again = ScriptedSubscriber::new();
    again.push(Message::new("c"));
    again.push(Message::new("d"));
    again.push(Message::new("e"));
    let handler = Handler::new("fail", fail).from(again.clone(), "in").on_failure(policy);
    handle.add(handler).await.unwrap();
    again.settled(3).await;
    watch.update();
    assert_eq!(sample(&metrics, dead_lettered), 5.0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_failed_for_good_is_said_to_have_failed() {
    let (metrics, source) = (Metrics::prometheus(), ScriptedSubscriber::new());
    let router = Router::new().add(Handler::new("ends", async || {}).from(source.clone(), "in"));
    let watch = metrics.watch(Watched::new().router(router.control()));
    let Running { task, .. } = Running::start(router).await;
    watch.update();
    assert_eq!(sample(&metrics, r#"watermill_handler_failed{handler_name="ends"}"#), 0.0);
    source.close().await.unwrap();
    task.await.unwrap().unwrap_err();
    watch.update();
    assert_eq!(sample(&metrics, r#"watermill_handler_failed{handler_name="ends"}"#), 1.0);
    assert_eq!(sample(&metrics, r#"watermill_handler_up{handler_name="ends"}"#), 0.0);
    let healthy =
        r#"watermill_subscription_healthy{handler_name="ends",subscriber_name="scripted",topic="in"}"#;
    assert_eq!(sample(&metrics, healthy), 0.0);
}

#[tokio::test(start_paused = true)]
async fn retries_and_what_is_in_flight_are_seen_while_a_handler_runs() {
    let (metrics, source) = (Metrics::prometheus(), ScriptedSubscriber::new());
    async fn fail() -> Result<(), &'static str> {
        Err("always")
    }
    source.push(Message::new("a"));
    let policy = FailurePolicy::retry(5).backoff(Backoff::constant(Duration::from_secs(10)));
    let router = Router::new().add(Handler::new("fail", fail).from(source.clone(), "in").on_failure(policy));
    let watch = metrics.watch(Watched::new().router(router.control()));
    let running = Running::start(router).await;
    tokio::time::sleep(Duration::from_secs(25)).await;
    watch.update();
    assert_eq!(sample(&metrics, r#"watermill_messages_in_flight{handler_name="fail"}"#), 1.0);
    assert_eq!(sample(&metrics, r#"watermill_messages_retried_total{handler_name="fail"}"#), 2.0);
    running.stop().await;
    watch.update();
    assert_eq!(sample(&metrics, r#"watermill_messages_in_flight{handler_name="fail"}"#), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_is_measured_with_batch_sizes_and_errors_by_kind() {
    let (metrics, inner) =
        (Metrics::prometheus(), RecordingPublisher::new().with_latency(Duration::from_secs(2)));
    let publisher = metrics.publisher(inner.clone());
    inner.fail_next(1, PublishErrorKind::Refused);
    publisher.publish_one("orders", Message::new("a")).await.unwrap_err();
    watermill_core::Publisher::publish(&publisher, "orders", vec![Message::new("b"); 20]).await.unwrap();
    watermill_core::Publisher::publish(&publisher, "orders", Vec::new()).await.unwrap();
    let labels = r#"publisher_name="recording",topic="orders""#;
    assert_eq!(sample(&metrics, &format!("watermill_publish_batch_messages_count{{{labels}}}")), 2.0);
    assert_eq!(sample(&metrics, &format!("watermill_publish_batch_messages_sum{{{labels}}}")), 21.0);
    assert_eq!(
        sample(&metrics, &format!(r#"watermill_publish_errors_total{{kind="refused",{labels}}}"#)),
        1.0
    );
    let seconds =
        r#"publish_time_seconds_sum{handler_name="<no handler>",publisher_name="recording",success="true"}"#;
    assert_eq!(sample(&metrics, seconds), 2.0);
}

#[tokio::test]
async fn a_subscription_without_a_router_is_counted_as_it_settles() {
    let (metrics, broker) = (Metrics::prometheus(), MemoryBroker::new());
    let subscriber = metrics.subscriber(broker.subscriber()).named("orders");
    let mut subscription = subscriber.subscribe("in").await.unwrap();
    for payload in ["a", "b"] {
        broker.publisher().publish_one("in", Message::new(payload)).await.unwrap();
    }
    subscription.next().await.unwrap().unwrap().ack();
    subscription.next().await.unwrap().unwrap().nack();
    let received = |acked| {
        format!(
            r#"subscriber_messages_received_total{{acked="{acked}",handler_name="<no handler>",subscriber_name="orders"}}"#
        )
    };
    assert_eq!(sample(&metrics, &received("acked")), 1.0);
    assert_eq!(sample(&metrics, &received("nacked")), 1.0);
    subscription.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_router_that_is_measured_as_a_whole_has_the_figures_of_the_layer_and_of_the_publisher() {
    let (metrics, source, out) =
        (Metrics::prometheus(), ScriptedSubscriber::new(), RecordingPublisher::new());
    for payload in ["well", "fail", "panic", "well"] {
        source.push(Message::with_id(payload, payload));
    }
    let handler = Handler::new("bill", slow)
        .from(source.clone(), "orders")
        .to(out.clone(), "invoices")
        .on_failure(FailurePolicy::nack().then_drop());
    let running = Running::start(metrics.on(Router::new()).add(handler)).await;
    source.settled(4).await;
    let name = "handler_execution_time_seconds";
    for (sample_name, value) in [
        (format!(r#"{name}_bucket{{handler_name="bill",success="true",le="0.025"}}"#), 0.0),
        (format!(r#"{name}_bucket{{handler_name="bill",success="true",le="0.05"}}"#), 2.0),
        (format!(r#"{name}_sum{{handler_name="bill",success="true"}}"#), 0.06),
        (format!(r#"{name}_count{{handler_name="bill",success="false"}}"#), 2.0),
        (
            r#"publish_time_seconds_count{handler_name="bill",publisher_name="recording",success="true"}"#
                .into(),
            2.0,
        ),
    ] {
        let found = sample(&metrics, &sample_name);
        assert!((found - value).abs() < 1e-9, "{sample_name} is {found}");
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn gos_names_may_have_a_namespace_and_a_subsystem() {
    for (namespace, subsystem, prefix) in
        [("shop", "orders", "shop_orders_"), ("shop", "", "shop_"), ("", "orders", "orders_"), ("", "", "")]
    {
        let metrics = Metrics::builder().namespace(namespace).subsystem(subsystem).prometheus();
        let (source, out) = (ScriptedSubscriber::new(), RecordingPublisher::new());
        source.push(Message::new("well"));
        let handler = Handler::new("bill", slow).from(source.clone(), "orders").to(out, "invoices");
        let router = metrics.on(Router::new()).add(handler);
        let watch = metrics.watch(Watched::new().router(router.control()));
        let running = Running::start(router).await;
        source.settled(1).await;
        watch.update();
        let page = metrics.render().unwrap();
        let named: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .filter(|name| !name.starts_with("watermill_"))
            .collect();
        let go =
            ["handler_execution_time_seconds", "publish_time_seconds", "subscriber_messages_received_total"];
        assert_eq!(named, go.map(|name| format!("{prefix}{name}")));
        // Go's buckets, whatever it is called.
        let bucket = format!(
            r#"{prefix}handler_execution_time_seconds_bucket{{handler_name="bill",success="true",le="0.0005"}}"#
        );
        assert_eq!(sample(&metrics, &bucket), 0.0);
        for name in go {
            assert!(page.contains(&format!("# HELP {prefix}{name} ")), "{name} has no help");
        }
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_of_a_layer_are_among_the_dead_letters_and_their_tries_have_failed() {
    for as_a_whole in [true, false] {
        let (metrics, source, dead) =
            (Metrics::prometheus(), ScriptedSubscriber::new(), RecordingPublisher::new());
        ["fail", "panic"].into_iter().for_each(|payload| source.push(Message::new(payload)));
        let handler = Handler::new("bill", slow)
            .from(source.clone(), "orders")
            .to(RecordingPublisher::new(), "invoices")
            .layer(watermill_core::middleware::PoisonQueue::new(dead, "dead").unwrap());
        let running = if as_a_whole {
            Running::start(metrics.on(Router::new()).add(handler)).await
        } else {
            Running::start(Router::new().layer(metrics.layer()).add(handler)).await
        };
        let watch = metrics.watch(Watched::new().router(running.control.clone()));
        source.settled(2).await;
        watch.update();
        for reason in ["permanent", "panic"] {
            let name =
                format!(r#"watermill_messages_dead_lettered_total{{handler_name="bill",reason="{reason}"}}"#);
            assert_eq!(sample(&metrics, &name), 1.0, "{reason}");
        }
        assert_eq!(sample(&metrics, r#"watermill_handler_panics_total{handler_name="bill"}"#), 1.0);
        for (success, tries) in [("true", 0.0), ("false", 2.0)] {
            let name =
                format!(r#"handler_execution_time_seconds_count{{handler_name="bill",success="{success}"}}"#);
            assert_eq!(sample(&metrics, &name), tries, "{success}, as a whole: {as_a_whole}");
        }
        running.stop().await;
    }
}
