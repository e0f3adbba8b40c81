//! [`Handlers`]: a set of handlers that forgets their types.

use std::{any::type_name, fmt};

use tower::Layer;

use super::{
    Handler, MakeService, MessageService,
    boxed::BoxedService,
    destination::Output,
    factory::{Layered, SharedLayer, WithState},
    prepared::{Prepared, Spec},
    promise::listen,
    runner::{AnyFactory, Run, Runner},
    source::Source,
};

/// A set of handlers, of which only the state that they need is a type: one for each module of a program, say, to
/// be returned from a function, kept in a field, and merged into others and in the end into a
/// [`Router`](crate::Router).
///
/// ```
/// use std::time::Duration;
/// use tower::timeout::TimeoutLayer;
/// use watermill_core::{Handler, Handlers, Json, MemoryBroker, Router, State, middleware::Correlation};
///
/// #[derive(Clone)]
/// struct App {
///     broker: MemoryBroker,
///     cents: u32,
/// }
///
/// mod billing {
///     use super::*;
///
///     pub fn handlers(broker: &MemoryBroker) -> Handlers<App> {
///         Handlers::new()
///             .add(Handler::new("bill", bill).from(broker.subscriber(), "orders").to(broker.publisher(), "invoices"))
///             .layer(TimeoutLayer::new(Duration::from_secs(5)))
///     }
///
///     async fn bill(State(app): State<App>, Json(pieces): Json<u32>) -> Json<u32> {
///         Json(pieces * app.cents)
///     }
/// }
///
/// mod shipping {
///     use super::*;
///
///     pub fn handlers(broker: &MemoryBroker) -> Handlers<App> {
///         Handlers::new().add(Handler::new("ship", ship).from(broker.subscriber().group("shipping"), "orders"))
///     }
///
///     async fn ship(Json(_pieces): Json<u32>) {}
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), watermill_core::router::RunError> {
/// let app = App { broker: MemoryBroker::new(), cents: 250 };
/// let router = Router::new()
///     .layer(Correlation::new())
///     .with_state(app.clone())
///     .merge(billing::handlers(&app.broker).merge(shipping::handlers(&app.broker)));
/// assert_eq!(
///     router.to_string(),
///     "memory:orders -> Correlation > TimeoutLayer > bill -> memory:invoices (on failure: nack)\n\
///      memory:orders -> Correlation > ship (on failure: nack)\n",
/// );
/// router.run_until(async {}).await?;
/// # Ok(())
/// # }
/// ```
///
/// # What it costs
///
/// Nothing where neither the set nor the router has layers. Otherwise a message takes two calls through pointers
/// for the router's layers, and for each call of [`layer`](Self::layer) around its handler: give several layers in
/// one call, with `tower::ServiceBuilder`. It allocates nothing as long as a handler has one message at a time, and
/// a boxed future for each of these else. A handler that is added to the router itself pays nothing of this.
///
/// Services in a set have to be `Clone`, as those of handler functions and of most layers are; tower's rate limit
/// is not, and goes around a handler that is added to the router itself.
#[must_use = "handlers do nothing until they are merged into a router that runs"]
pub struct Handlers<S = ()> {
    parts: Vec<Part<S>>,
}

/// A handler of a set, which waits for its state.
struct Part<S> {
    spec: Spec,
    make: Make<S>,
}

type Make<S> = Box<dyn FnOnce(S) -> Box<dyn AnyFactory> + Send>;

impl<S: Clone + Send + 'static> Handlers<S> {
    /// An empty set.
    pub fn new() -> Self {
        Self { parts: Vec::new() }
    }

    /// Adds a handler. Its name must be unique in the router that the set is merged into in the end, which says
    /// at its start if it is not.
    #[expect(clippy::should_implement_trait, reason = "handlers are added to a set, not summed")]
    pub fn add<M, In, Out, L>(mut self, handler: Handler<M, In, Out, L>) -> Self
    where
        In: Source,
        M: MakeService<S>,
        Out: Output<M::Kind>,
        L: Layer<M::Service> + Send + 'static,
        L::Service: MessageService + Clone,
    {
        let (make, layer, spec) = handler.into_parts();
        let make = move |state| {
            let factory = Layered { inner: WithState { make, state }, layer };
            Box::new(factory) as Box<dyn AnyFactory>
        };
        self.parts.push(Part { spec, make: Box::new(make) });
        self
    }

    /// Adds every handler of another set.
    pub fn merge(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// Puts a layer around every handler that the set has so far: outside of the handlers' own and of those put
    /// around them before, inside of the router's.
    pub fn layer<N>(mut self, layer: N) -> Self
    where
        N: Layer<BoxedService> + Send + Sync + 'static,
        N::Service: MessageService + Clone,
    {
        let layer = SharedLayer::new(layer);
        self.parts = self.parts.into_iter().map(|part| part.layer(layer.clone())).collect();
        self
    }

    /// Gives the handlers their state, so that they fit into a set or a router with another.
    pub fn with_state<T>(self, state: S) -> Handlers<T> {
        let parts = self.parts.into_iter().map(|Part { spec, make }| {
            let state = state.clone();
            Part { spec, make: Box::new(move |_| make(state)) as Make<T> }
        });
        Handlers { parts: parts.collect() }
    }

    /// The names of the handlers, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.spec.name.as_str())
    }

    /// Makes the services, inside of a router's layers.
    pub(super) fn prepare<L>(
        self,
        state: &S,
        layers: &SharedLayer<L>,
        chain: &[&'static str],
    ) -> impl Iterator<Item = Prepared>
    where
        L: Layer<BoxedService> + Send + Sync + 'static,
        L::Service: MessageService,
    {
        self.parts.into_iter().map(move |Part { mut spec, make }| {
            spec.wrap(chain);
            let factory = make(state.clone());
            let (runner, said): (Box<dyn Run>, _) = listen(|| match chain {
                // There are no layers to be put around it: it keeps its own type.
                [] => factory.into_runner(),
                _ => Box::new(Runner::new(Layered { inner: factory.into_boxed(), layer: layers.clone() })),
            });
            spec.compare(&said);
            Prepared { spec, runner }
        })
    }
}

impl<S: 'static> Part<S> {
    fn layer<N>(mut self, layer: SharedLayer<N>) -> Self
    where
        N: Layer<BoxedService> + Send + Sync + 'static,
        N::Service: MessageService + Clone,
    {
        self.spec.wrap(&[type_name::<N>()]);
        let inner = self.make;
        let make = move |state| {
            let factory = Layered { inner: inner(state).into_boxed(), layer };
            Box::new(factory) as Box<dyn AnyFactory>
        };
        Self { spec: self.spec, make: Box::new(make) }
    }
}

impl<S: Clone + Send + 'static> Default for Handlers<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> fmt::Debug for Handlers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts.iter().map(|part| &part.spec.name)).finish()
    }
}

/// Puts the layers around the handler's service and forgets its type.
pub(super) fn prepare<S, L, M, In, Out, HL>(
    handler: Handler<M, In, Out, HL>,
    state: S,
    layers: &SharedLayer<L>,
    chain: &[&'static str],
) -> Prepared
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
    let (make, layer, mut spec) = handler.into_parts();
    spec.wrap(chain);
    let own = Layered { inner: WithState { make, state }, layer };
    let (runner, said) = listen(|| Runner::new(Layered { inner: own, layer: layers.clone() }));
    spec.compare(&said);
    Prepared { spec, runner: Box::new(runner) }
}
