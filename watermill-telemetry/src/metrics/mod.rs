//! Counters, gauges and histograms of handlers, publishers, subscriptions and relays, through the
//! [`metrics`](https://docs.rs/metrics) facade.
//!
//! [`Metrics`] makes what records them: a layer, a decorator for publishers, a watch over routers and relays. `METRICS.md` lists
//! every metric with its type, unit and labels, and [`ALL`] has the same for programs.
//!
//! Go Watermill's three metrics have Go's names, labels and buckets, so that its Grafana dashboard goes on working.
//!
//! # Bounds
//!
//! No label holds an id, a key or an error's text. Topics and destinations are labels by name, [`Metrics::TOPICS_MAX`] of them
//! unless [`MetricsBuilder::topics_max`] says otherwise, and the names of handlers, publishers, subscribers and relays are too,
//! [`Metrics::NAMES_MAX`] of them; what comes later is counted under the label `other`. All other labels have words from a
//! fixed list.
//!
//! # What it costs
//!
//! Figures are registered once for each handler, publisher and topic, never for a message. A handler whose router is measured
//! ([`Metrics::on`]) pays for one or two looks at the clock and one value in a histogram: less than 150 instructions for each message, and
//! no allocation. [`Metrics::layer`] takes twice as much. What a watch reads costs messages nothing.

mod buckets;
mod layer;
mod list;
mod page;
mod publisher;
mod shared;
mod subscriber;
mod timer;
mod watch;
mod words;

use std::{error::Error, fmt, sync::Arc};

use metrics::Recorder;
use watermill_core::{Publisher, Router, Subscriber};

pub use self::{
    layer::{MetricsFuture, MetricsLayer, MetricsService},
    list::{ALL, Kind, Metric, RecordedBy},
    publisher::MeteredPublisher,
    subscriber::MeteredSubscriber,
    watch::Watch,
};
use self::{
    page::Page,
    shared::{Shared, Target},
    timer::HandlerTimer,
    words::Words,
};
use crate::Watched;

/// Where figures go, and what records them. Cheap to clone.
///
/// ```
/// use watermill_core::{Handler, MemoryBroker, Message, Router};
/// use watermill_telemetry::{Metrics, Watched};
///
/// # async fn bill(_: Message) {}
/// let (broker, metrics) = (MemoryBroker::new(), Metrics::prometheus());
/// let router = metrics
///     .on(Router::new())
///     .add(Handler::new("bill", bill).from(broker.subscriber(), "orders"));
/// let watch = metrics.watch(Watched::new().router(router.control()));
///
/// watch.update();
/// println!("{}", metrics.render().expect("it has a page"));
/// ```
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

/// Sets the bounds of a [`Metrics`] before it is made.
#[derive(Clone, Debug)]
#[must_use = "it makes nothing by itself"]
pub struct MetricsBuilder {
    topics_max: usize,
    names_max: usize,
    namespace: String,
    subsystem: String,
}

impl Metrics {
    /// How many topics and destinations are told apart, unless set: 100.
    pub const TOPICS_MAX: usize = 100;

    /// How many names of handlers, publishers, subscribers and relays are told apart, unless set: 1,000.
    pub const NAMES_MAX: usize = 1_000;

    /// Other bounds than the default ones.
    pub const fn builder() -> MetricsBuilder {
        MetricsBuilder {
            topics_max: Self::TOPICS_MAX,
            names_max: Self::NAMES_MAX,
            namespace: String::new(),
            subsystem: String::new(),
        }
    }

    /// Figures go to the recorder of the process, whatever that is: Prometheus's, one that bridges to OpenTelemetry. It is to be
    /// installed first, as figures that are registered without one go nowhere.
    pub fn new() -> Self {
        Self::builder().global()
    }

    /// Figures go to a page of their own, in Prometheus's format: [`Metrics::render`], and `/metrics` of the pages.
    pub fn prometheus() -> Self {
        Self::builder().prometheus()
    }

    /// As [`prometheus`](Self::prometheus), and the page is the recorder of the process too: the application's `counter!` and its
    /// like are on it. A histogram of the application has the buckets of Prometheus's clients.
    ///
    /// # Errors
    ///
    /// The process has a recorder already.
    pub fn install() -> Result<Self, AlreadyInstalled> {
        Self::builder().install()
    }

    /// Has a router tell how long each try of each handler takes, all layers included, and measures the publishers that take
    /// their outputs, which are then not to be wrapped once more. Where a layer publishes
    /// ([`Handler::to_topic`](watermill_core::Handler::to_topic)), its publisher is not the router's to wrap.
    pub fn on<S, L>(&self, router: Router<S, L>) -> Router<S, L> {
        let (shared, metrics) = (Arc::clone(&self.shared), self.clone());
        router
            .time_tries(move |handler| HandlerTimer::new(&shared, &handler.name))
            .decorate_publishers(move |publisher| metrics.publisher(publisher))
    }

    /// A layer that measures how long each try takes without the layers outside of it: for a part of a router's handlers,
    /// for what is inside of a retry, or for a service without a router. In a router that is measured
    /// [as a whole](Self::on) it would count the same tries twice.
    pub fn layer(&self) -> MetricsLayer {
        MetricsLayer { shared: Arc::clone(&self.shared) }
    }

    /// Measures the calls to a publisher that is not that of a handler of a measured router.
    pub fn publisher<P: Publisher>(&self, publisher: P) -> MeteredPublisher<P> {
        MeteredPublisher::new(publisher, Arc::clone(&self.shared))
    }

    /// Counts what becomes of deliveries, where no router does.
    pub fn subscriber<S: Subscriber>(&self, subscriber: S) -> MeteredSubscriber<S> {
        MeteredSubscriber::new(subscriber, Arc::clone(&self.shared))
    }

    /// Figures of what routers, relays and subscriptions say of themselves.
    pub fn watch(&self, watched: Watched) -> Watch {
        Watch::new(Arc::clone(&self.shared), watched)
    }

    /// The page as it is now, in Prometheus's text format; `None` where the figures go somewhere else.
    pub fn render(&self) -> Option<String> {
        self.shared.page().map(|page| page.render())
    }
}

impl MetricsBuilder {
    /// Sets how many topics and destinations are told apart. Those that come later have the label `other`.
    pub const fn topics_max(mut self, topics: usize) -> Self {
        self.topics_max = topics;
        self
    }

    /// Sets how many names of handlers, publishers, subscribers and relays are told apart. Those that come later have the
    /// label `other`.
    pub const fn names_max(mut self, names: usize) -> Self {
        self.names_max = names;
        self
    }

    /// Puts a namespace before the names of Go Watermill's three metrics, as its `NewPrometheusMetricsBuilder` does:
    /// `shop` makes `shop_publish_time_seconds`. The others keep their names, which begin with `watermill_`. The dashboard
    /// and the rules of this crate name all of them without.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Puts a subsystem between the namespace and the name, in the same way.
    pub fn subsystem(mut self, subsystem: impl Into<String>) -> Self {
        self.subsystem = subsystem.into();
        self
    }

    /// As [`Metrics::new`].
    pub fn global(self) -> Metrics {
        self.to(Target::Global)
    }

    /// As [`Metrics::prometheus`].
    pub fn prometheus(self) -> Metrics {
        self.to(Target::Page(Arc::new(Page::default())))
    }

    /// As [`Metrics::install`].
    ///
    /// # Errors
    ///
    /// The process has a recorder already.
    pub fn install(self) -> Result<Metrics, AlreadyInstalled> {
        let page = Arc::new(Page::default());
        metrics::set_global_recorder(Arc::clone(&page)).map_err(|_| AlreadyInstalled(()))?;
        Ok(self.to(Target::Page(page)))
    }

    /// Figures go to this recorder, whatever that of the process is.
    pub fn recorder(self, recorder: impl Recorder + Send + Sync + 'static) -> Metrics {
        self.to(Target::Own(Arc::new(recorder)))
    }

    fn to(self, target: Target) -> Metrics {
        let prefix: String = [&self.namespace, &self.subsystem]
            .into_iter()
            .filter(|part| !part.is_empty())
            .map(|part| format!("{part}_"))
            .collect();
        let (topics, names) = (Words::new(self.topics_max), Words::new(self.names_max));
        Metrics { shared: Arc::new(Shared::new(target, topics, names, prefix)) }
    }
}

/// The process has a recorder already: [`Metrics::new`] records into it.
#[derive(Debug)]
pub struct AlreadyInstalled(());

impl fmt::Display for AlreadyInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("install the recorder of metrics: the process has one already")
    }
}

impl Error for AlreadyInstalled {}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("has_page", &self.shared.page().is_some()).finish()
    }
}
