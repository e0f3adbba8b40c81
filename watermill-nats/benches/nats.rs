//! How fast JetStream is written and read, beside async-nats that is used by hand for the same work on the same server.
//!
//! ```text
//! cargo bench -p watermill-nats --features nats-server --bench nats -- [--json] [part of a figure's name]
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, HeaderMap,
    jetstream::{
        self, AckKind,
        consumer::{PullConsumer, pull},
        stream,
    },
};
use futures::StreamExt as _;
use tokio::{runtime::Builder, sync::Notify, time::Instant};
use watermill_core::{Handler, Message, Publisher as _, Router, Subscriber as _, Window, router::Phase};
use watermill_nats::{NatsPublisher, NatsPublisherConfig, NatsSubscriber, NatsSubscriberConfig};
use watermill_testkit::{Figure, Figures, Limit, Service, unique, workload};

const MESSAGES: usize = 20_000;
/// Messages of one call.
const CALL: usize = 100;
/// What the client by hand has asked for, and what a window lets out.
const AT_ONCE: usize = 256;
/// Rounds, in which all take turns, so that what else the machine does hits all.
const ROUNDS: usize = 5;

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let wanted = |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut figures = Figures::from_args();
    let figure = |name: &str, ours: Vec<Duration>, raw: Vec<Duration>, limit| {
        Figure::new(name, rate(ours), "messages per second").baseline(rate(raw)).limit(Limit::AtLeast(limit))
    };
    if wanted("nats/publish") {
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(runtime.block_on(publish_by_hand()));
            ours.push(runtime.block_on(publish()));
        }
        figures.push(figure("nats/publish", ours, raw, 0.85));
    }
    if wanted("nats/subscribe") || wanted("nats/router") {
        let topic = runtime.block_on(filled());
        let (mut ours, mut router, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(runtime.block_on(read_by_hand(&topic)));
            ours.push(runtime.block_on(subscribe(&topic)));
            router.push(runtime.block_on(route(&topic)));
        }
        figures.push(figure("nats/subscribe", ours, raw.clone(), 0.85));
        figures.push(figure("nats/router", router, raw, 0.7));
        runtime.block_on(delete(&topic));
    }
    figures.print();
    assert!(figures.are_within(), "a figure misses its limit");
}

fn rate(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    workload::per_second(MESSAGES, times[times.len() / 2])
}

async fn client() -> Client {
    async_nats::connect(Service::NATS.url()).await.expect("a server")
}

async fn delete(topic: &str) {
    jetstream::new(client().await).delete_stream(topic).await.expect("it is there");
}

/// A stream of its own.
async fn topic(jetstream: &jetstream::Context) -> String {
    let topic = unique("bench");
    let config = stream::Config { name: topic.clone(), subjects: vec![topic.clone()], ..Default::default() };
    jetstream.create_stream(config).await.expect("it is made");
    topic
}

/// The client by hand, with the same headers: sends a call, and then awaits the acks of all.
async fn publish_by_hand() -> Duration {
    let jetstream = jetstream::new(client().await);
    let topic = topic(&jetstream).await;
    let calls: Vec<_> = workload::calls(MESSAGES, CALL).collect();
    let begun = Instant::now();
    for call in calls {
        let mut acks = Vec::with_capacity(call.len());
        for message in call {
            let mut headers = HeaderMap::new();
            headers.insert("_watermill_message_uuid", message.id().as_str());
            for (name, value) in message.metadata().iter() {
                headers.insert(name, value);
            }
            let sent = jetstream.publish_with_headers(topic.clone(), headers, message.payload().clone());
            acks.push(sent.await.expect("it is sent"));
        }
        for ack in acks {
            ack.await.expect("it is stored");
        }
    }
    let time = begun.elapsed();
    delete(&topic).await;
    time
}

async fn publish() -> Duration {
    let client = client().await;
    let topic = topic(&jetstream::new(client.clone())).await;
    let publisher = NatsPublisher::new(client, NatsPublisherConfig::default()).expect("a valid config");
    let calls: Vec<_> = workload::calls(MESSAGES, CALL).collect();
    let begun = Instant::now();
    for call in calls {
        publisher.publish(&topic, call).await.expect("it is accepted");
    }
    let time = begun.elapsed();
    delete(&topic).await;
    time
}

/// A stream with messages.
async fn filled() -> String {
    let client = client().await;
    let topic = topic(&jetstream::new(client.clone())).await;
    let publisher = NatsPublisher::new(client, NatsPublisherConfig::default()).expect("a valid config");
    for call in workload::calls(MESSAGES, CALL) {
        publisher.publish(&topic, call).await.expect("it is accepted");
    }
    topic
}

/// The client by hand: its stream of messages, which asks for more in time, each made a message and acked; the last ack is
/// confirmed.
async fn read_by_hand(topic: &str) -> Duration {
    let jetstream = jetstream::new(client().await);
    let stream = jetstream.get_stream(topic).await.expect("it is there");
    let config = pull::Config {
        durable_name: Some(unique("by_hand")),
        max_ack_pending: 10_000,
        ..pull::Config::default()
    };
    let consumer: PullConsumer = stream.create_consumer(config).await.expect("it is made");
    let begun = Instant::now();
    let messages = consumer.stream().max_messages_per_batch(AT_ONCE).messages();
    let mut messages = messages.await.expect("they come");
    for left in (0..MESSAGES).rev() {
        let message = messages.next().await.expect("it goes on").expect("it comes");
        let headers = message.headers.as_ref().expect("it has some");
        let id = headers.get("_watermill_message_uuid").map(|id| id.as_str().to_owned());
        let mut made = Message::with_id(id.expect("it has an id"), message.payload.clone());
        for (name, values) in headers.iter() {
            let name: &str = name.as_ref();
            made.metadata_mut().insert(name, values[0].as_str());
        }
        std::hint::black_box(made);
        match left {
            0 => message.double_ack_with(AckKind::Ack).await.expect("it is confirmed"),
            _ => message.ack().await.expect("it is sent"),
        }
    }
    begun.elapsed()
}

async fn subscriber() -> NatsSubscriber {
    let config = NatsSubscriberConfig::new(unique("group")).fetch_ahead(AT_ONCE);
    NatsSubscriber::new(client().await, config).expect("a valid config")
}

async fn subscribe(topic: &str) -> Duration {
    let subscriber = subscriber().await;
    let mut subscription = subscriber.subscribe(topic).await.expect("it can be subscribed to");
    subscription.set_window(Window::ordered(AT_ONCE.try_into().expect("it is not 0")));
    let begun = Instant::now();
    for left in (0..MESSAGES).rev() {
        let delivery = subscription.next().await.expect("it goes on").expect("it comes");
        match left {
            0 => delivery.ack_confirmed().await.expect("it is confirmed"),
            _ => delivery.ack(),
        }
    }
    let time = begun.elapsed();
    subscription.close().await.expect("it closes");
    time
}

async fn route(topic: &str) -> Duration {
    let handled = Arc::new((AtomicUsize::new(0), Notify::new()));
    let counted = handled.clone();
    let handler = Handler::new("nothing", move |_: Message| {
        let counted = counted.clone();
        async move {
            if counted.0.fetch_add(1, Ordering::Relaxed) + 1 == MESSAGES {
                counted.1.notify_one();
            }
        }
    });
    let router = Router::new().add(handler.from(subscriber().await, topic));
    let control = router.control();
    let begun = Instant::now();
    let running = tokio::spawn(router.run_until(std::future::pending::<()>()));
    control.reached(Phase::Running).await;
    handled.1.notified().await;
    let time = begun.elapsed();
    control.stop();
    running.await.expect("it does not panic").expect("it stops");
    time
}
