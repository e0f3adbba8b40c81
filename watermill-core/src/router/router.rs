//! [`Router`].

use std::{
    any::type_name,
    fmt,
    future::{Future, pending},
    sync::Arc,
};

use futures::FutureExt;
use tokio::{sync::mpsc, task::JoinSet};
use tower::{
    Layer,
    layer::util::{Identity, Stack},
};

use super::{
    Handler, MakeService, MessageService, Plugin, Report, RouterConfig, RouterControl, RunError,
    destination::{Output, sink},
    handle::RouterHandle,
    source::{Source, topic},
    supervisor::{Addition, DecoratePublisher, DecorateSubscriber, Prepared, Supervisor},
    worker::drive,
};
use crate::{Publisher, Subscriber};

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
    plugins: Vec<Box<dyn Plugin>>,
    decorate_publisher: Vec<DecoratePublisher>,
    decorate_subscriber: Vec<DecorateSubscriber>,
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
            decorate_publisher: Vec::new(),
            decorate_subscriber: Vec::new(),
            problems: Vec::new(),
            control: RouterControl::new(),
            additions: mpsc::channel(ADDITIONS),
        };
        Self { state: (), layers: SharedLayer(Arc::new(Identity::new())), chain: Vec::new(), parts }
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
        Router { state, layers: SharedLayer(Arc::new(Stack::new(layer, layers))), chain, parts }
    }

    /// Sets how the router starts and stops.
    pub fn with_config(mut self, config: RouterConfig) -> Self {
        self.parts.config = config;
        self
    }

    /// Adds a plugin.
    pub fn plugin(mut self, plugin: impl Plugin + 'static) -> Self {
        self.parts.plugins.push(Box::new(plugin));
        self
    }

    /// Wraps the publisher of every handler. A message passes the decorators in the order in which
    /// they were added, then the publisher.
    pub fn decorate_publishers<P: Publisher + 'static>(
        mut self,
        decorate: impl Fn(Arc<dyn Publisher>) -> P + Send + Sync + 'static,
    ) -> Self {
        self.parts.decorate_publisher.push(Arc::new(move |inner| Arc::new(decorate(inner))));
        self
    }

    /// Wraps the subscriber of every handler. A message passes the subscriber, then the decorators in
    /// the order in which they were added.
    pub fn decorate_subscribers<T: Subscriber + 'static>(
        mut self,
        decorate: impl Fn(Arc<dyn Subscriber>) -> T + Send + Sync + 'static,
    ) -> Self {
        self.parts.decorate_subscriber.push(Arc::new(move |inner| Arc::new(decorate(inner))));
        self
    }

    /// Adds a handler.
    #[expect(clippy::should_implement_trait, reason = "handlers are added to a router, not summed")]
    pub fn add<M, In, Out, HL>(mut self, handler: Handler<M, In, Out, HL>) -> Self
    where
        S: Clone,
        In: Source,
        M: MakeService<S>,
        Out: Output<M::Kind>,
        HL: Layer<M::Service>,
        L: Layer<HL::Service>,
        L::Service: MessageService,
    {
        self.parts.handlers.push(prepare(handler, self.state.clone(), &self.layers, &self.chain));
        self
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
        let Parts {
            config,
            handlers,
            plugins,
            decorate_publisher,
            decorate_subscriber,
            problems,
            control,
            additions,
        } = self.parts;
        let supervisor = Supervisor {
            config,
            control,
            plugins,
            decorate_publisher,
            decorate_subscriber,
            additions: additions.1,
            tasks: JoinSet::new(),
            publishers: Vec::new(),
            report: Report::default(),
        };
        Box::pin(supervisor.run(handlers, problems, signal)).await
    }
}

impl Parts {
    fn require_no_handlers(&mut self, method: &str) {
        if let Some(handler) = self.handlers.last() {
            self.problems.push(format!(
                "`{method}` was called after handler {:?} was added and would not apply to it; call it before `add`",
                handler.name
            ));
        }
    }
}

impl<S, L> fmt::Display for Router<S, L> {
    /// One line for each handler: its source, what a message passes through, its destination.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for handler in &self.parts.handlers {
            let backend = handler.subscriber.capabilities().backend;
            write!(f, "{backend}:{} -> {}", handler.topic, handler.chain)?;
            match (&handler.sink.publisher, &handler.sink.topic) {
                (Some(publisher), Some(topic)) => {
                    write!(f, " -> {}:{topic}", publisher.capabilities().backend)?
                }
                (Some(publisher), None) => write!(f, " -> {}", publisher.capabilities().backend)?,
                _ => {}
            }
            writeln!(f, " (on failure: {})", handler.policy)?;
        }
        Ok(())
    }
}

impl<S, L> fmt::Debug for Router<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.parts.handlers.iter().map(|handler| &handler.name).collect();
        f.debug_struct("Router").field("handlers", &names).finish_non_exhaustive()
    }
}

/// A layer that a router shares with its handles; no layer needs to be `Clone`.
#[derive(Debug)]
pub struct SharedLayer<L>(Arc<L>);

impl<L: Layer<S>, S> Layer<S> for SharedLayer<L> {
    type Service = L::Service;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.layer(inner)
    }
}

impl<L> Clone for SharedLayer<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Puts the layers around the service and forgets its type.
pub(super) fn prepare<S, L, M, In, Out, HL>(
    handler: Handler<M, In, Out, HL>,
    state: S,
    layers: &SharedLayer<L>,
    chain: &[&'static str],
) -> Prepared
where
    In: Source,
    M: MakeService<S>,
    Out: Output<M::Kind>,
    HL: Layer<M::Service>,
    L: Layer<HL::Service>,
    L::Service: MessageService,
{
    let Handler { make, source, output, layer, settings } = handler;
    let source = topic(source);
    let mut service = layers.layer(layer.layer(make.make_service(state)));
    let names = chain.iter().chain(&settings.chain).map(|name| short(name));
    let chain = names.chain([settings.name.as_str()]).collect::<Vec<_>>().join(" > ");
    Prepared {
        name: settings.name,
        subscriber: source.subscriber,
        topic: source.topic,
        group: settings.group,
        sink: sink(output),
        policy: settings.policy,
        concurrency: settings.concurrency,
        pipeline: settings.pipeline,
        chain,
        problems: settings.problems,
        drive: Box::new(move |subscription, env| {
            async move { drive(&mut service, subscription, &env).await }.boxed()
        }),
    }
}

/// A type name without its path and parameters: `watermill_core::middleware::retry::Retry` is `Retry`.
fn short(name: &'static str) -> &'static str {
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}
