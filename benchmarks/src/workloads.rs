//! What is measured: each workload moves `messages` messages from a publish to an acked handler.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::sync::mpsc;
use tower::{Service, ServiceExt, util::BoxService};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt;
use watermill_core::{
    Handler, Handlers, MemoryBroker, Message, Publisher, Router, State,
    error::BoxError,
    router::{Phase, RouterControl},
};
use watermill_telemetry::{Metrics, traces::Traces};

use crate::{
    counter::Counter,
    layers::{Boxed, MapOutputs, NoOp},
};

/// What a message carries: copied once for each.
pub static BODY: [u8; 256] = [7; 256];

/// A workload by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// A bounded channel, and a boxed tower service behind it: what a router cannot go below.
    Floor,
    /// Publish, handle, ack.
    OneHop,
    /// Publish, handle and publish, handle, ack.
    TwoHops,
    /// The same, where the first handler makes a new message around the payload.
    NewMessage,
    /// One hop in a process that has a log, which does not want the spans of deliveries.
    SpanUnheard,
    /// One hop in a process whose log has the spans of deliveries.
    SpanHeard,
    /// One hop through five layers that do nothing, on the handler.
    HandlerLayers,
    /// One hop through five layers that do nothing, on the router.
    RouterLayers,
    /// One hop through one layer that boxes its future.
    BoxedLayer,
    /// One hop through a handler of a set, without layers.
    Merged,
    /// One hop through a handler of a set with a layer, in a router with one; each wraps the future.
    MergedLayers,
    /// One hop in a router that is measured, in a process with a page of metrics.
    Metrics,
    /// The same with the layer that measures.
    MetricsLayer,
    /// One hop with traces by OpenTelemetry's conventions, of the handler and of whoever publishes to it, where nobody listens.
    TracesUnheard,
    /// The same with OpenTelemetry's layer and its SDK, which drops the spans that have ended.
    TracesHeard,
}

impl Workload {
    /// Every workload.
    pub const ALL: [Self; 15] = [
        Self::Floor,
        Self::OneHop,
        Self::TwoHops,
        Self::NewMessage,
        Self::HandlerLayers,
        Self::RouterLayers,
        Self::BoxedLayer,
        Self::Merged,
        Self::MergedLayers,
        Self::Metrics,
        Self::MetricsLayer,
        Self::SpanUnheard,
        Self::SpanHeard,
        Self::TracesUnheard,
        Self::TracesHeard,
    ];

    /// Its name on the command line and in the figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::OneHop => "publish-handle",
            Self::TwoHops => "publish-handle-publish-handle",
            Self::NewMessage => "publish-handle-new-publish-handle",
            Self::SpanUnheard => "span-unheard",
            Self::SpanHeard => "span-heard",
            Self::HandlerLayers => "layers-5",
            Self::RouterLayers => "router-layers-5",
            Self::BoxedLayer => "boxed-layer",
            Self::Merged => "merged",
            Self::MergedLayers => "merged-layers",
            Self::Metrics => "metrics",
            Self::MetricsLayer => "metrics-layer",
            Self::TracesUnheard => "traces-unheard",
            Self::TracesHeard => "traces-heard",
        }
    }

    /// The log that the workload runs with, until the guard is dropped; to be called once on a thread.
    pub fn log(self) -> Option<DefaultGuard> {
        let filter = match self {
            Self::SpanUnheard => "other=info",
            Self::SpanHeard => "info",
            Self::TracesHeard => return Some(traced()),
            _ => return None,
        };
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::sink);
        Some(tracing::subscriber::set_default(log.finish()))
    }

    /// Sets everything up; the returned [`Running`] moves messages.
    pub async fn start(self) -> Running {
        let counter = Arc::new(Counter::default());
        let state = counter.clone();
        match self {
            Self::Floor => Running { counter, source: Source::Channel(floor(state)), control: None },
            Self::OneHop | Self::SpanUnheard | Self::SpanHeard => {
                let broker = MemoryBroker::new();
                let router = Router::new()
                    .with_state(state)
                    .add(Handler::new("count", count).from(broker.subscriber(), "in"));
                run(counter, broker, router).await
            }
            Self::TwoHops => {
                let broker = MemoryBroker::new();
                let pass =
                    Handler::new("pass", pass).from(broker.subscriber(), "in").to(broker.publisher(), "out");
                let count = Handler::new("count", count).from(broker.subscriber(), "out");
                run(counter, broker, Router::new().with_state(state).add(pass).add(count)).await
            }
            Self::NewMessage => {
                let broker = MemoryBroker::new();
                let renew = Handler::new("renew", renew)
                    .from(broker.subscriber(), "in")
                    .to(broker.publisher(), "out");
                let count = Handler::new("count", count).from(broker.subscriber(), "out");
                run(counter, broker, Router::new().with_state(state).add(renew).add(count)).await
            }
            Self::HandlerLayers => {
                let broker = MemoryBroker::new();
                let handler = Handler::new("count", count)
                    .from(broker.subscriber(), "in")
                    .layer(NoOp)
                    .layer(NoOp)
                    .layer(NoOp)
                    .layer(NoOp)
                    .layer(NoOp);
                run(counter, broker, Router::new().with_state(state).add(handler)).await
            }
            Self::RouterLayers => {
                let broker = MemoryBroker::new();
                let router = Router::new().layer(NoOp).layer(NoOp).layer(NoOp).layer(NoOp).layer(NoOp);
                let router = router
                    .with_state(state)
                    .add(Handler::new("count", count).from(broker.subscriber(), "in"));
                run(counter, broker, router).await
            }
            Self::Metrics => {
                let broker = MemoryBroker::new();
                let router = Metrics::prometheus().on(Router::new());
                let router = router
                    .with_state(state)
                    .add(Handler::new("count", count).from(broker.subscriber(), "in"));
                run(counter, broker, router).await
            }
            Self::MetricsLayer => {
                let broker = MemoryBroker::new();
                let router = Router::new().layer(Metrics::prometheus().layer());
                let router = router
                    .with_state(state)
                    .add(Handler::new("count", count).from(broker.subscriber(), "in"));
                run(counter, broker, router).await
            }
            Self::TracesUnheard | Self::TracesHeard => {
                let (broker, traces) = (MemoryBroker::new(), Traces::new());
                let router = traces
                    .on(Router::new())
                    .with_state(state)
                    .add(Handler::new("count", count).from(broker.subscriber(), "in"));
                run_from(counter, traces.publisher(broker.publisher()), router).await
            }
            Self::BoxedLayer => {
                let broker = MemoryBroker::new();
                let handler = Handler::new("count", count).from(broker.subscriber(), "in").layer(Boxed);
                run(counter, broker, Router::new().with_state(state).add(handler)).await
            }
            Self::Merged => {
                let broker = MemoryBroker::new();
                let set = Handlers::new().add(Handler::new("count", count).from(broker.subscriber(), "in"));
                run(counter, broker, Router::new().with_state(state).merge(set)).await
            }
            Self::MergedLayers => {
                let broker = MemoryBroker::new();
                let set = Handlers::new().add(Handler::new("count", count).from(broker.subscriber(), "in"));
                let router = Router::new().layer(MapOutputs).with_state(state).merge(set.layer(MapOutputs));
                run(counter, broker, router).await
            }
        }
    }
}

/// A handler that only counts.
async fn count(State(counter): State<Arc<Counter>>) {
    counter.add_one();
}

/// A handler that hands a message on.
async fn pass(message: Message) -> Message {
    message
}

/// A handler that makes a new message around a payload.
async fn renew(message: Message) -> Message {
    Message::new(message.payload().clone())
}

/// A workload that is set up.
pub struct Running {
    counter: Arc<Counter>,
    source: Source,
    control: Option<RouterControl>,
}

enum Source {
    Channel(mpsc::Sender<Bytes>),
    Publisher(Box<dyn Publisher>),
}

impl Running {
    /// Moves `messages` messages and waits until the last is handled.
    pub async fn move_messages(&self, messages: u64) {
        let until = self.counter.handled() + messages;
        for _ in 0..messages {
            let body = Bytes::copy_from_slice(&BODY);
            match &self.source {
                Source::Channel(sender) => sender.send(body).await.expect("the receiver runs"),
                Source::Publisher(publisher) => {
                    publisher.publish("in", vec![Message::new(body)]).await.expect("the broker is open");
                }
            }
        }
        self.counter.reached(until).await;
    }

    /// Ends it, without waiting for the end.
    pub fn stop(self) {
        if let Some(control) = self.control {
            control.stop();
        }
    }
}

async fn run<S, L>(counter: Arc<Counter>, broker: MemoryBroker, router: Router<S, L>) -> Running
where
    S: Send + 'static,
    L: Send + Sync + 'static,
{
    run_from(counter, broker.publisher(), router).await
}

async fn run_from<S, L>(
    counter: Arc<Counter>,
    publisher: impl Publisher + 'static,
    router: Router<S, L>,
) -> Running
where
    S: Send + 'static,
    L: Send + Sync + 'static,
{
    let control = router.control();
    tokio::spawn(router.run());
    control.reached(Phase::Running).await;
    Running { counter, source: Source::Publisher(Box::new(publisher)), control: Some(control) }
}

/// OpenTelemetry's layer, as a service has it that exports spans.
fn traced() -> DefaultGuard {
    let provider = SdkTracerProvider::builder().build();
    let bridge = tracing_opentelemetry::layer().with_tracer(provider.tracer("benchmark"));
    tracing::subscriber::set_default(tracing_subscriber::registry().with(bridge))
}

/// How many messages may wait in the channel of the floor, as many as in the in-memory broker.
pub const WAITING_MAX: usize = 1024;

fn floor(counter: Arc<Counter>) -> mpsc::Sender<Bytes> {
    let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
    let mut service = BoxService::new(tower::service_fn(move |_: Bytes| {
        let counter = counter.clone();
        async move {
            counter.add_one();
            Ok::<(), BoxError>(())
        }
    }));
    tokio::spawn(async move {
        while let Some(body) = receiver.recv().await {
            service.ready().await.expect("it is always ready").call(body).await.expect("it never fails");
        }
    });
    sender
}
