//! The list of metrics is what is registered, and the page that lists them is the list.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use watermill_core::{
    FailurePolicy, Handler, MemoryBroker, Message, PublisherExt, Router, Subscriber, Subscription,
    error::{Permanent, PublishErrorKind, SubscribeError},
    router::Phase,
    subscriber::SubscriberCapabilities,
    subscription::{Health, SubscriptionStatus},
};
use watermill_forwarder::{Forwarder, ForwarderPublisher};
use watermill_telemetry::{
    Metrics, Watched,
    metrics::{ALL, Kind, RecordedBy},
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::Running;

#[test]
fn the_page_of_metrics_has_a_row_for_each_and_no_other() {
    let page = read("METRICS.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let wanted: Vec<String> = ALL.iter().map(|metric| metric.row()).collect();
    assert_eq!(rows, wanted, "METRICS.md should say:\n{}", wanted.join("\n"));
}

#[test]
fn a_name_is_that_of_one_metric_and_says_its_unit() {
    let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), ALL.len());
    for metric in ALL {
        assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        assert_eq!(metric.unit == "seconds", metric.name.ends_with("_seconds"), "{}", metric.name);
    }
}

#[test]
fn the_daemon_has_the_same_names() {
    let source = read("../forwarder/src/daemon/metrics/text.rs");
    let source = source.split("#[cfg(test)]").next().expect("something comes before the tests");
    let mut found = BTreeSet::new();
    for (call, kind) in [("page.gauge(", "gauge"), ("page.histogram(", "histogram"), ("self.head(", "")] {
        for part in source.split(call).skip(1) {
            let mut words = part.split('"').skip(1).step_by(2);
            let Some(name) = words.next().filter(|_| part.trim_start().starts_with('"')) else { continue };
            let kind = if kind.is_empty() { words.next().unwrap_or_default() } else { kind };
            found.insert((format!("watermill_forwarder_{name}"), kind.to_owned()));
        }
    }
    let listed = ALL.iter().filter(|metric| matches!(metric.by, RecordedBy::Daemon | RecordedBy::Relay));
    let listed = listed.map(|metric| (metric.name.to_owned(), kind(metric.kind).to_owned()));
    assert_eq!(found, listed.collect());
}

#[tokio::test]
async fn everything_that_is_registered_is_listed_and_everything_listed_is_registered() {
    let metrics = Metrics::prometheus();
    exercise(&metrics).await;
    let page = metrics.render().unwrap();
    let registered: BTreeSet<(&str, &str)> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let listed = ALL.iter().filter(|metric| metric.by != RecordedBy::Daemon);
    assert_eq!(registered, listed.clone().map(|metric| (metric.name, kind(metric.kind))).collect());

    for metric in listed {
        assert!(page.contains(&format!("# HELP {} ", metric.name)), "{} has no help", metric.name);
        let labels = labels(&page, metric.name);
        assert_eq!(labels, metric.labels.iter().copied().collect(), "{}", metric.name);
    }
}

/// Lets everything happen that has a figure.
async fn exercise(metrics: &Metrics) {
    async fn by_payload(message: Message) -> Result<Message, Permanent> {
        if message.payload() == "fail" { Err(Permanent::new("never")) } else { Ok(message) }
    }
    let (source, out, broker) = (ScriptedSubscriber::new(), RecordingPublisher::new(), MemoryBroker::new());
    ["fail", "well"].into_iter().for_each(|payload| source.push(Message::new(payload)));
    out.fail_next(1, PublishErrorKind::Refused);
    let policy = FailurePolicy::nack().then_dead_letter(RecordingPublisher::new(), "dead");
    let handler = Handler::new("handler", by_payload)
        .from(source.clone(), "in")
        .to(metrics.publisher(out), "out")
        .on_failure(policy);
    let router = Router::new().layer(metrics.layer()).add(handler);
    let (relayed, letters) = (RecordingPublisher::new(), RecordingPublisher::new());
    let forwarder = Forwarder::builder(broker.subscriber(), relayed.clone())
        .dead_letters(letters.clone())
        .build()
        .unwrap();
    let topic = forwarder.config().topic.clone();
    let relay = forwarder.control();
    let relaying = tokio::spawn(async move { forwarder.run_until(std::future::pending()).await });
    relay.reached(Phase::Running).await;
    let watched = Watched::new()
        .router(router.control())
        .relay("relay", relay.clone())
        .subscriber("held", Arc::new(Held) as Arc<dyn Subscriber>);
    let watch = metrics.watch(watched);
    // Nothing waits yet.
    watch.update();
    ForwarderPublisher::new(broker.publisher()).publish_one("orders", Message::new("x")).await.unwrap();
    broker.publisher().publish_one(&topic, Message::new("no envelope")).await.unwrap();

    let running = Running::start(router).await;
    source.settled(2).await;
    relayed.await_published(1).await;
    letters.await_published(1).await;
    relay.stop();
    relaying.await.unwrap().unwrap();
    watch.update();
    running.stop().await;
}

/// A subscriber that knows everything about its subscription.
struct Held;

#[async_trait]
impl Subscriber for Held {
    async fn subscribe(&self, _: &str) -> Result<Subscription, SubscribeError> {
        unreachable!("nobody subscribes")
    }

    async fn initialize(&self, _: &str) -> Result<(), SubscribeError> {
        Ok(())
    }

    fn in_group(&self, _: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Ok(Arc::new(Self))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        Ok(())
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        let status = SubscriptionStatus::new("in", Health::Healthy).lag(Some(7));
        vec![status.oldest_unsettled(Some(Duration::from_secs(3))).held_back_by(Some("a transaction"))]
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new("held")
    }
}

/// The labels of a metric's samples, without that of the bounds of buckets.
fn labels<'p>(page: &'p str, name: &str) -> BTreeSet<&'p str> {
    let sample = page.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with("_count{"))
    });
    let sample = sample.unwrap_or_else(|| panic!("{name} has no sample"));
    let (_, labels) = sample.split_once('{').expect("it has labels");
    labels
        .split("=\"")
        .filter_map(|part| part.rsplit([',', '{', '"']).next())
        .filter(|l| !l.contains('}'))
        .collect()
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        _ => "histogram",
    }
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
}
