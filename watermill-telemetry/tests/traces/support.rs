//! Exported spans, and routers that run until something was settled.

use std::{sync::OnceLock, time::Duration};

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanKind, TracerProvider},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{InMemorySpanExporter, SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use tokio::{
    sync::{Mutex, MutexGuard, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{level_filters::LevelFilter, subscriber::DefaultGuard};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt};
use watermill_core::{Message, Router};
use watermill_telemetry::traces::Traces;
use watermill_testkit::{ScriptedSubscriber, patience};

/// What is exported, as long as this lives.
pub(crate) struct Exported {
    export: Export,
    _listening: Listening,
}

/// Where spans go.
#[derive(Clone)]
struct Export {
    exporter: InMemorySpanExporter,
    provider: SdkTracerProvider,
    ended: watch::Sender<()>,
}

/// What is listened to, until this is dropped.
#[expect(dead_code, reason = "they are held")]
enum Listening {
    ToThread(DefaultGuard),
    /// By one test at a time.
    ToProcess(MutexGuard<'static, ()>),
}

impl Exported {
    pub(crate) fn new() -> Self {
        Self::filtered(Targets::new().with_default(LevelFilter::TRACE))
    }

    /// Of what passes the filter.
    pub(crate) fn filtered(filter: Targets) -> Self {
        let export = Export::new();
        let guard = tracing::subscriber::set_default(export.subscriber(filter));
        Self { export, _listening: Listening::ToThread(guard) }
    }

    /// Of what happens on any thread, for a test with threads that are not its own. A span that ends lets go of its parent
    /// with whoever listens on the thread that it ends on, and where nobody does, its parent never ends.
    pub(crate) async fn everywhere() -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        static EXPORT: OnceLock<Export> = OnceLock::new();
        let turn = TURN.lock().await;
        let export = EXPORT.get_or_init(|| {
            let export = Export::new();
            let all = export.subscriber(Targets::new().with_default(LevelFilter::TRACE));
            tracing::subscriber::set_global_default(all).expect("nobody else has set one");
            export
        });
        export.exporter.reset();
        Self { export: export.clone(), _listening: Listening::ToProcess(turn) }
    }

    /// All that have ended, in the order of their ends.
    pub(crate) fn all(&self) -> Vec<SpanData> {
        self.export.provider.force_flush().unwrap();
        self.export.exporter.get_finished_spans().unwrap()
    }

    /// Waits until spans of these names are exported: whoever else holds one may do so for a moment longer.
    pub(crate) async fn reached(&self, names: &[&str]) {
        let mut ended = self.export.ended.subscribe();
        let reached = async {
            while !names.iter().all(|name| !self.named(name).is_empty()) {
                ended.changed().await.unwrap();
            }
        };
        timeout(patience(), reached).await.unwrap_or_else(|_| panic!("{names:?} are not exported"));
    }

    /// All of that name.
    pub(crate) fn named(&self, name: &str) -> Vec<SpanData> {
        self.all().into_iter().filter(|span| span.name == name).collect()
    }

    /// The one of that name.
    pub(crate) fn one(&self, name: &str) -> SpanData {
        let mut named = self.named(name);
        let names = || self.all().iter().map(|span| span.name.to_string()).collect::<Vec<_>>();
        assert_eq!(named.len(), 1, "{name} among {:?}", names());
        named.remove(0)
    }
}

impl Export {
    fn new() -> Self {
        let exporter = InMemorySpanExporter::default();
        let ended = watch::Sender::new(());
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .with_span_processor(Ended(ended.clone()))
            .build();
        Self { exporter, provider, ended }
    }

    fn subscriber(&self, filter: Targets) -> impl tracing::Subscriber + Send + Sync + 'static {
        let bridge = tracing_opentelemetry::layer().with_tracer(self.provider.tracer("test"));
        tracing_subscriber::registry().with(bridge.with_filter(filter))
    }
}

/// Tells, after a span was exported.
#[derive(Debug)]
struct Ended(watch::Sender<()>);

impl SpanProcessor for Ended {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, _: SpanData) {
        self.0.send_replace(());
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The text of an attribute.
pub(crate) fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name)?;
    Some(found.value.to_string())
}

/// Asserts what the attributes are.
pub(crate) fn assert_attributes(span: &SpanData, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(attribute(span, name).as_deref(), Some(*value), "{name} of {}", span.name);
    }
}

/// The contexts that a span links to.
pub(crate) fn links(span: &SpanData) -> Vec<SpanContext> {
    span.links.iter().map(|link| link.span_context.clone()).collect()
}

/// Whether `span` has exactly these links.
pub(crate) fn assert_links(span: &SpanData, to: &[&SpanData]) {
    let ids = |contexts: Vec<SpanContext>| -> Vec<_> {
        contexts.iter().map(|context| (context.trace_id(), context.span_id())).collect()
    };
    let to = to.iter().map(|span| span.span_context.clone()).collect();
    assert_eq!(ids(links(span)), ids(to), "the links of {}", span.name);
}

pub(crate) fn assert_is_child(span: &SpanData, of: &SpanData) {
    assert_eq!(span.parent_span_id, of.span_context.span_id(), "{} in {}", span.name, of.name);
    assert_eq!(span.span_context.trace_id(), of.span_context.trace_id());
}

pub(crate) fn assert_is_root(span: &SpanData) {
    assert_eq!(span.parent_span_id, opentelemetry::trace::SpanId::INVALID, "{}", span.name);
}

/// What a message carries of that span.
pub(crate) fn traceparent(of: &SpanData) -> String {
    let context = &of.span_context;
    format!("00-{}-{}-01", context.trace_id(), context.span_id())
}

/// Where a message says that it comes from.
pub(crate) const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A message that a publisher elsewhere has made.
pub(crate) fn carrying(id: &str) -> Message {
    Message::with_id(id, "{}").with_metadata("traceparent", PARENT)
}

/// Whether a span has a link to [`PARENT`] and no other.
pub(crate) fn assert_links_to_parent(span: &SpanData) {
    let [link] = &links(span)[..] else { panic!("the links of {}: {:?}", span.name, links(span)) };
    assert_eq!(format!("00-{}-{}-01", link.trace_id(), link.span_id()), PARENT);
}

/// Runs a router until `source` has seen so many settlements.
pub(crate) async fn run<S: Send + 'static, L: Send + Sync + 'static>(
    router: Router<S, L>,
    source: &ScriptedSubscriber,
    settled: usize,
) {
    let stop = CancellationToken::new();
    let stopped = async {
        source.settled(settled).await;
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(router.run_until(stop.cancelled()), stopped);
    ran.unwrap();
}

/// A router that is traced.
pub(crate) fn router() -> Router {
    Traces::new().on(Router::new())
}

pub(crate) const CONSUMER: SpanKind = SpanKind::Consumer;
