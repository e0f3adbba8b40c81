//! [`Router`].

use std::{
    any::type_name,
    fmt,
    future::{Future, pending},
    sync::Arc,
};

use tokio::sync::mpsc;
use tower::{
    Layer,
    layer::util::{Identity, Stack},
};

use super::{
    Handler, HandlerInfo, Handlers, MakeService, MessageService, Plugin, Report, RouterConfig, RouterControl,
    RunError,
    boxed::BoxedService,
    destination::Output,
    factory::SharedLayer,
    handle::RouterHandle,
    handlers::prepare,
    prepared::Prepared,
    source::Source,
    supervisor::{Addition, Closing, Decorators, NamedPlugin, Supervisor},
    topology::Topology,
    try_timer::{TryTimer, TryTimers},
};
use crate::{Publisher, Subscriber, message::Spans, message::spans::SharedSpans};

/// Runs handlers: takes deliveries from their subscriptions, calls them through their layers,
/// publishes what they return, and settles.
///
/// ```
/// use watermill_core::{Handler, Json, MemoryBroker, Message, PublisherExt, Router};
///
/// async fn double(Json(number): Json<u32>) -> Json<u32> {
///     Json(number * 2)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let broker = MemoryBroker::new();
/// let mut doubled = watermill_core::Subscriber::subscribe(&broker.subscriber(), "doubled").await?;
///
/// let router = Router::new().add(
///     Handler::new("double", double).from(broker.subscriber(), "numbers").to(broker.publisher(), "doubled"),
/// );
/// let control = router.control();
/// let running = tokio::spawn(router.run());
/// control.reached(watermill_core::router::Phase::Running).await;
///
/// broker.publisher().publish_one("numbers", Message::json(&21)?).await?;
/// let delivery = futures::StreamExt::next(&mut doubled).await.expect("open")?;
/// assert_eq!(delivery.payload(), "42");
/// delivery.ack();
///
/// control.stop();
/// let report = running.await??;
/// assert_eq!(report.handler("double").expect("it ran").counts.acked, 1);
/// # Ok(())
/// # }
/// ```
///
/// # Order of construction
///
/// State and layers come before the handlers they are for: [`with_state`](Self::with_state) and
/// [`layer`](Self::layer) after the first [`add`](Self::add) are refused when the router runs.
///
/// # What happens to a message
///
/// The handler succeeds: its outputs are published, then the delivery is acked. It fails, panics, or
/// its outputs are not accepted: its [`FailurePolicy`](crate::FailurePolicy) decides; without one the
/// delivery is nacked, and comes again after a delay that grows.
///
/// # Start and end
///
/// Up to 32 handlers subscribe at a time, so that hundreds start in the time of a few. One that ends although
/// nobody asked it to is started again, as the [`RestartPolicy`](super::RestartPolicy) says.
///
/// At its end, and when it could not start, a router closes what it was asked to close, with
/// [`close_publisher_on_stop`](Self::close_publisher_on_stop) and
/// [`close_subscriber_on_stop`](Self::close_subscriber_on_stop), and no more: publishers may be shared with whoever
/// is still at work.
#[must_use = "a router does nothing until it runs"]
pub struct Router<S = (), L = Identity> {
    state: S,
    layers: SharedLayer<L>,
    /// The layers' type names, the outermost first.
    chain: Vec<&'static str>,
    parts: Parts,
}

/// What does not depend on the types of state and layers.
struct Parts {
    config: RouterConfig,
    handlers: Vec<Prepared>,
    plugins: Vec<NamedPlugin>,
    decorators: Decorators,
    closing: Vec<Closing>,
    problems: Vec<String>,
    control: RouterControl,
    additions: (mpsc::Sender<Addition>, mpsc::Receiver<Addition>),
}

/// How many handlers may wait to be added while the router is busy with another.
const ADDITIONS: usize = 16;

impl Router {
    /// A router without state, layers and handlers.
    pub fn new() -> Self {
        let parts = Parts {
            config: RouterConfig::default(),
            handlers: Vec::new(),
            plugins: Vec::new(),
            decorators: Decorators::default(),
            closing: Vec::new(),
            problems: Vec::new(),
            control: RouterControl::new(),
            additions: mpsc::channel(ADDITIONS),
        };
        Self { state: (), layers: SharedLayer::new(Identity::new()), chain: Vec::new(), parts }
    }
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl<S, L> Router<S, L> {
    /// Sets the state that handlers take with [`State`](super::State).
    pub fn with_state<T>(mut self, state: T) -> Router<T, L> {
        self.parts.require_no_handlers("with_state");
        let Self { layers, chain, parts, .. } = self;
        Router { state, layers, chain, parts }
    }

    /// Puts a layer around every handler, outside of the handlers' own. The first added is the
    /// outermost and runs first.
    pub fn layer<N>(mut self, layer: N) -> Router<S, Stack<N, SharedLayer<L>>> {
        self.parts.require_no_handlers("layer");
        let Self { state, layers, mut chain, parts } = self;
        chain.push(type_name::<N>());
        Router { state, layers: SharedLayer::new(Stack::new(layer, layers)), chain, parts }
    }

    /// Sets how the router starts and stops.
    pub fn with_config(mut self, config: RouterConfig) -> Self {
        self.parts.config = config;
        self
    }

    /// Adds a plugin.
    pub fn plugin(mut self, plugin: impl Plugin + 'static) -> Self {
        self.parts.plugins.push(NamedPlugin::new(plugin));
        self
    }

    /// Has the router close this publisher at its end: after the last handler, in the order in which it was asked
    /// to close publishers and subscribers, and before [`run`](Self::run) returns.
    ///
    /// Nothing else is closed, for others may use it: ask for those that only this router uses.
    pub fn close_publisher_on_stop(mut self, publisher: impl Publisher + 'static) -> Self {
        self.parts.closing.push(Closing::Publisher(Arc::new(publisher)));
        self
    }

    /// Has the router close this subscriber at its end, as
    /// [`close_publisher_on_stop`](Self::close_publisher_on_stop) does a publisher. The subscriptions of the
    /// router's own handlers are closed in any case.
    pub fn close_subscriber_on_stop(mut self, subscriber: impl Subscriber + 'static) -> Self {
        self.parts.closing.push(Closing::Subscriber(Arc::new(subscriber)));
        self
    }

    /// Wraps the publisher of every handler. A message passes the decorators in the order in which
    /// they were added, then the publisher.
    pub fn decorate_publishers<P: Publisher + 'static>(
        mut self,
        decorate: impl Fn(Arc<dyn Publisher>) -> P + Send + Sync + 'static,
    ) -> Self {
        self.parts.decorators.publisher.push(Arc::new(move |inner| Arc::new(decorate(inner))));
        self
    }

    /// Wraps the subscriber of every handler. A message passes the subscriber, then the decorators in
    /// the order in which they were added.
    pub fn decorate_subscribers<T: Subscriber + 'static>(
        mut self,
        decorate: impl Fn(Arc<dyn Subscriber>) -> T + Send + Sync + 'static,
    ) -> Self {
        self.parts.decorators.subscriber.push(Arc::new(move |inner| Arc::new(decorate(inner))));
        self
    }

    /// Has somebody else make the spans of what the handlers do, in place of the router's `delivery`: a bridge to a
    /// tracing system, such as `Traces` of `watermill-telemetry`. The last one given counts.
    pub fn spans(mut self, spans: impl Spans) -> Self {
        self.parts.decorators.spans = Some(SharedSpans(Arc::new(spans)));
        self
    }

    /// Has somebody told how long each try of each handler took: `make` is called once for each handler. Its outputs then name
    /// their handler to the publisher. The last one given counts.
    ///
    /// A router whose tries nobody times looks at no clock.
    pub fn time_tries<T: TryTimer>(
        mut self,
        make: impl Fn(&HandlerInfo) -> T + Send + Sync + 'static,
    ) -> Self {
        self.parts.decorators.timers = Some(TryTimers::new(make));
        self
    }

    /// Adds a handler.
    #[expect(clippy::should_implement_trait, reason = "handlers are added to a router, not summed")]
    pub fn add<M, In, Out, HL>(mut self, handler: Handler<M, In, Out, HL>) -> Self
    where
        S: Clone + Send + 'static,
        In: Source,
        M: MakeService<S>,
        Out: Output<M::Kind>,
        HL: Layer<M::Service> + Send + 'static,
        L: Layer<HL::Service> + Send + Sync + 'static,
        HL::Service: MessageService,
        L::Service: MessageService,
    {
        let prepared = prepare(handler, self.state.clone(), &self.layers, &self.chain);
        self.parts.handlers.extend(prepared.with_retries());
        self
    }

    /// Adds every handler of a set, inside of the router's layers.
    pub fn merge(mut self, handlers: Handlers<S>) -> Self
    where
        S: Clone + Send + 'static,
        L: Layer<BoxedService> + Send + Sync + 'static,
        L::Service: MessageService,
    {
        let prepared = handlers.prepare(&self.state, &self.layers, &self.chain);
        self.parts.handlers.extend(prepared.flat_map(Prepared::with_retries));
        self
    }

    /// What the router is made of so far, to print: see [`topology`](super::topology). Nothing is connected to.
    pub fn describe(&self) -> Topology {
        Topology::of(&self.parts.handlers)
    }

    /// A handle to stop the router and to look at it.
    pub fn control(&self) -> RouterControl {
        self.parts.control.clone()
    }

    /// A handle that can also add handlers while the router runs.
    pub fn handle(&self) -> RouterHandle<S, L>
    where
        S: Clone,
    {
        RouterHandle {
            state: self.state.clone(),
            layers: self.layers.clone(),
            chain: self.chain.clone(),
            control: self.parts.control.clone(),
            additions: self.parts.additions.0.clone(),
        }
    }

    /// Runs until [`RouterControl::stop`], or until every handler has failed.
    ///
    /// # Errors
    ///
    /// [`RunError`] names what was put together wrongly, who could not start, who failed, or what was
    /// abandoned at the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is an abort: handlers are dropped where they stand, and their messages are
    /// delivered again.
    pub async fn run(self) -> Result<Report, RunError> {
        self.run_until(pending::<()>()).await
    }

    /// Runs until `signal` completes, then drains.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn run_until(self, signal: impl Future) -> Result<Report, RunError> {
        let Parts { config, handlers, plugins, decorators, closing, problems, control, additions } =
            self.parts;
        // The router's own sender goes: what can be added comes from its handles.
        let (_, additions) = additions;
        let supervisor = Supervisor::new(config, control, plugins, decorators, closing, additions);
        Box::pin(supervisor.run(handlers, problems, signal)).await
    }
}

impl Parts {
    fn require_no_handlers(&mut self, method: &str) {
        if let Some(handler) = self.handlers.last() {
            self.problems.push(format!(
                "`{method}` was called after handler {:?} was added and would not apply to it; call it before `add`",
                handler.spec.name
            ));
        }
    }
}

impl<S, L> fmt::Display for Router<S, L> {
    /// As its [description](Self::describe): one line for each handler, with its source, what a message passes through, its
    /// destination.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe().fmt(f)
    }
}

impl<S, L> fmt::Debug for Router<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.parts.handlers.iter().map(|handler| &handler.spec.name).collect();
        f.debug_struct("Router").field("handlers", &names).finish_non_exhaustive()
    }
}
