//! [`Handler`]: a handler function, where its messages come from and where its outputs go.

use std::{fmt, marker::PhantomData, num::NonZeroUsize, sync::Arc, time::Duration};

use tower::layer::util::{Identity, Stack};

use super::{
    BatchFn, HandlerFn, HandlerService, MakeService, MessageService,
    batch::{BatchSize, MakeBatch},
    concurrency::Concurrency,
    destination::{IntoSink, NoOutput, ToPublisher, ToTopic, ToTopics, sink},
    failure::FailurePolicy,
    outputs::Unknown,
    prepared::Spec,
    service::RouterState,
    source::{FromTopic, NoSource, Source, topic},
    topology::Documents,
};
use crate::{Publisher, Subscriber};

/// What a router runs: a function, its source, its destination, and how it is run.
///
/// The types keep it honest: a handler without a source, one that returns messages without having a
/// publisher, and one that has a publisher and returns nothing, do not compile as arguments of
/// [`Router::add`](crate::Router::add).
///
/// ```compile_fail
/// # use watermill_core::{Handler, MemoryBroker, Message, Router};
/// async fn produces() -> Message {
///     Message::new("hello")
/// }
/// let broker = MemoryBroker::new();
/// Router::new().add(Handler::new("produces", produces).from(broker.subscriber(), "in")); // where to?
/// ```
///
/// ```
/// # use watermill_core::{Handler, MemoryBroker, Message, Router};
/// # async fn produces() -> Message { Message::new("hello") }
/// # let broker = MemoryBroker::new();
/// Router::new().add(
///     Handler::new("produces", produces)
///         .from(broker.subscriber(), "in")
///         .to(broker.publisher(), "out"),
/// );
/// ```
#[must_use = "a handler does nothing until it is added to a router"]
pub struct Handler<M, In = NoSource, Out = NoOutput, L = Identity> {
    make: M,
    source: In,
    output: Out,
    layer: L,
    settings: Settings,
}

/// Everything about a handler that is not a type.
struct Settings {
    name: String,
    group: Option<String>,
    concurrency: Concurrency,
    policy: FailurePolicy,
    pipeline: usize,
    /// The layers' type names, the outermost first.
    chain: Vec<&'static str>,
    documents: Documents,
    problems: Vec<String>,
    claims: Vec<String>,
}

/// How many outputs may be on their way while later messages are handled, unless told otherwise.
const PIPELINE: usize = 1_000;

impl<F, Args, S> Handler<MakeHandler<F, Args, S>> {
    /// A handler of single messages. `name` must be unique in its router.
    pub fn new(name: impl Into<String>, function: F) -> Self
    where
        F: HandlerFn<Args, S>,
    {
        Self::with(name, MakeHandler { function, args: PhantomData }, Concurrency::default())
    }
}

impl<F, Args, S> Handler<MakeBatch<F, Args, S>> {
    /// A handler of batches: up to `max` messages, or those that came within `linger` after the first.
    ///
    /// Every message has its own outcome, and layers work on single messages as everywhere. Batches do
    /// not overlap. A batch is handed out in order; where one of its messages fails, the later ones of
    /// the batch have been handled with it, and only the failed one comes again.
    ///
    /// What comes out of the layers is published with one call for each topic, in the order of the batch. Where
    /// some of a call is not accepted, the messages that it was made of have failed, and those behind them in the
    /// batch whose outputs have the same key.
    pub fn batch(name: impl Into<String>, max: usize, linger: Duration, function: F) -> Self
    where
        F: BatchFn<Args, S>,
    {
        let size = NonZeroUsize::new(max);
        let batch = BatchSize { max: size.unwrap_or(NonZeroUsize::MIN), linger };
        let make = MakeBatch { function, size: batch, args: PhantomData };
        let mut handler = Self::with(name, make, Concurrency::Batch(batch.max));
        handler.require(size.is_some(), "a batch needs room for at least one message");
        handler
    }
}

impl<S: MessageService> Handler<MakeReady<S>> {
    /// A handler that is a tower service already.
    ///
    /// There is no other, should it fail: the handler is not started again then. [`make`](Self::make) one where
    /// it can be.
    pub fn service(name: impl Into<String>, service: S) -> Self {
        Self::with(name, MakeReady(Some(service)), Concurrency::default())
    }
}

impl<M> Handler<M> {
    /// A handler whose service is made of the router's state: see [`MakeService`], whose `Kind` says which
    /// destinations fit.
    pub fn make(name: impl Into<String>, make: M) -> Self {
        Self::with(name, make, Concurrency::default())
    }

    fn with(name: impl Into<String>, make: M, concurrency: Concurrency) -> Self {
        let settings = Settings {
            name: name.into(),
            group: None,
            concurrency,
            policy: FailurePolicy::default(),
            pipeline: PIPELINE,
            chain: Vec::new(),
            documents: Documents::default(),
            problems: Vec::new(),
            claims: Vec::new(),
        };
        let mut handler =
            Self { make, source: NoSource(()), output: NoOutput(()), layer: Identity::new(), settings };
        let named = !handler.settings.name.is_empty();
        handler.require(named, "a handler needs a name");
        handler
    }
}

impl<M, Out, L> Handler<M, NoSource, Out, L> {
    /// Consumes `topic`.
    pub fn from(
        self,
        subscriber: impl Subscriber + 'static,
        topic: impl Into<String>,
    ) -> Handler<M, FromTopic, Out, L> {
        let source = FromTopic { subscriber: Arc::new(subscriber), topic: topic.into() };
        let Self { make, output, layer, settings, .. } = self;
        Handler { make, source, output, layer, settings }
    }
}

impl<M, In, L> Handler<M, In, NoOutput, L> {
    /// Publishes what the handler returns to `topic`.
    ///
    /// The publisher stays yours to close, after the router has ended; or ask the router to close it, with
    /// [`Router::close_publisher_on_stop`](crate::Router::close_publisher_on_stop).
    pub fn to(
        self,
        publisher: impl Publisher + 'static,
        topic: impl Into<String>,
    ) -> Handler<M, In, ToPublisher, L> {
        let output = ToPublisher { publisher: Arc::new(publisher), topic: topic.into() };
        let Self { make, source, layer, settings, .. } = self;
        Handler { make, source, output, layer, settings }
    }

    /// Publishes what the handler returns to `topic`, and leaves the publishing to a layer: one that opens a
    /// transaction, say, and publishes in it before it commits.
    ///
    /// The layer finds the topic in the message's [`HandlerInfo`](super::HandlerInfo), takes the outputs of the
    /// service inside of it and returns [`Outputs::none`](super::Outputs::none). It
    /// [promises](super::Promise::publishes) so; without such a layer, of the handler's own or of its router, the router
    /// is not built. If outputs come out of the outermost layer all the same, their message has failed, with a
    /// [`Permanent`](crate::error::Permanent) error that says so.
    pub fn to_topic(self, topic: impl Into<String>) -> Handler<M, In, ToTopic, L> {
        let output = ToTopic { topic: topic.into() };
        let Self { make, source, layer, settings, .. } = self;
        Handler { make, source, output, layer, settings }
    }

    /// Publishes what the handler returns to the topics it names with [`To`](super::To).
    pub fn to_topics(self, publisher: impl Publisher + 'static) -> Handler<M, In, ToTopics, L> {
        let output = ToTopics { publisher: Arc::new(publisher) };
        let Self { make, source, layer, settings, .. } = self;
        Handler { make, source, output, layer, settings }
    }
}

impl<M, In, Out, L> Handler<M, In, Out, L> {
    /// Puts a layer around the handler. The first added is the outermost and runs first; the router's
    /// layers are outside of all of them.
    pub fn layer<N>(mut self, layer: N) -> Handler<M, In, Out, Stack<N, L>> {
        self.settings.chain.push(std::any::type_name::<N>());
        let Self { make, source, output, layer: outer, settings } = self;
        // tower's `Stack` applies its first part first: the newest layer is the innermost.
        Handler { make, source, output, layer: Stack::new(layer, outer), settings }
    }

    /// Consumes for this group, whatever group the subscriber was made for.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.settings.group = Some(group.into());
        self
    }

    /// What to do when the handler fails. Without it, [`FailurePolicy::nack`].
    pub fn on_failure(mut self, policy: FailurePolicy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// Handles up to `n` messages at once, each on a task of its own, in any order.
    ///
    /// Without this and [`ordered_by_key`](Self::ordered_by_key), messages are handled one at a time
    /// in each ordering scope (a Kafka partition, an SQL topic), up to 64 scopes at once. From a subscriber that
    /// keeps [no order](crate::subscriber::Ordering::None), a queue for instance, each message is a scope of its
    /// own: up to 64 at once, all on the handler's own task. [`scopes`](Self::scopes) sets another number, and
    /// `scopes(1)` handles one message at a time from anywhere.
    ///
    /// However many run at once, a message that has not begun is in the subscription and not here: free for
    /// others, and given back by a stop.
    pub fn concurrency(self, n: usize) -> Self {
        self.run(n, Concurrency::Unordered, "concurrency must be at least one")
    }

    /// Handles up to `n` messages at once, each on a task of its own, those of one
    /// [key](crate::Message::key) in order, one after another. Messages without a key have no order.
    ///
    /// To find a message for a free lane, those whose lane is busy are taken and wait: up to `n` of them in all.
    pub fn ordered_by_key(self, n: usize) -> Self {
        self.run(n, Concurrency::Keyed, "the number of key lanes must be at least one")
    }

    /// Handles one message at a time in each ordering scope, and up to `n` scopes at once; up to `n` messages
    /// where there is no order. 64 by default.
    pub fn scopes(self, n: usize) -> Self {
        self.run(n, Concurrency::Scopes, "the number of scopes must be at least one")
    }

    /// How many messages may have outputs on their way while the next is handled, in each ordering
    /// scope, where the publisher keeps the order of calls; 1,000 by default, 0 waits for every
    /// output. After a crash, at most this many messages of a scope are handled again.
    ///
    /// It bounds all scopes together too: what is handed out and not settled is at most this and the number of
    /// lanes ([`Window::total`](crate::Window::total)), 1,064 by default. A backend derives its prefetch from it.
    /// Messages that may run in any order, and those of a batch, count as running until their outputs are
    /// accepted.
    pub fn pipeline(mut self, outputs: usize) -> Self {
        self.settings.pipeline = outputs;
        self
    }

    /// What its service is made of.
    #[cfg(feature = "asyncapi")]
    pub(crate) fn make_ref(&self) -> &M {
        &self.make
    }

    /// Sets what its types tell of its payloads.
    pub(crate) fn with_documents(
        mut self,
        consumes: impl Fn(&mut super::topology::Payloads) + Send + Sync + 'static,
        produces: impl Fn(&mut super::topology::Payloads) + Send + Sync + 'static,
    ) -> Self {
        self.settings.documents =
            Documents { consumes: Some(Arc::new(consumes)), produces: Some(Arc::new(produces)) };
        self
    }

    fn run(mut self, n: usize, concurrency: fn(NonZeroUsize) -> Concurrency, problem: &str) -> Self {
        self.require(
            !matches!(self.settings.concurrency, Concurrency::Batch(_)),
            "a batch handler runs one batch at a time",
        );
        self.require(n > 0, problem);
        self.settings.concurrency = concurrency(NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN));
        self
    }

    fn require(&mut self, holds: bool, problem: &str) {
        if !holds {
            self.settings.problems.push(problem.to_owned());
        }
    }

    /// What its router is to refuse it for.
    pub(crate) fn with_problems(mut self, problems: impl IntoIterator<Item = String>) -> Self {
        self.settings.problems.extend(problems);
        self
    }

    /// What no other handler of its router may do as well, in words that read after "both".
    pub(crate) fn with_claims(mut self, claims: impl IntoIterator<Item = String>) -> Self {
        self.settings.claims.extend(claims);
        self
    }
}

/// A handler function on its way to become a service.
pub struct MakeHandler<F, Args, S> {
    function: F,
    args: PhantomData<fn() -> (Args, S)>,
}

/// A service that needs no state, and is the only one.
#[derive(Debug)]
pub struct MakeReady<S>(Option<S>);

impl<F, Args, S, R> MakeService<R> for MakeHandler<F, Args, S>
where
    F: HandlerFn<Args, S>,
    S: Clone + Send + 'static,
    Args: 'static,
    R: RouterState<S>,
{
    type Kind = F::Kind;
    type Service = HandlerService<F, Args, S>;

    fn make_service(&mut self, state: R) -> Option<Self::Service> {
        Some(HandlerService::new(self.function.clone(), state.into_state()))
    }
}

impl<Svc: MessageService, S> MakeService<S> for MakeReady<Svc> {
    type Kind = Unknown;
    type Service = Svc;

    fn make_service(&mut self, _state: S) -> Option<Svc> {
        self.0.take()
    }
}

impl<M, In: Source, Out: IntoSink, L> Handler<M, In, Out, L> {
    /// What runs, what is around it, and everything else.
    pub(super) fn into_parts(self) -> (M, L, Spec) {
        let Self { make, source, output, layer, settings } = self;
        let source = topic(source);
        let spec = Spec {
            name: settings.name,
            subscriber: source.subscriber,
            topic: source.topic,
            group: settings.group,
            sink: sink(output),
            policy: settings.policy,
            concurrency: settings.concurrency,
            pipeline: settings.pipeline,
            layers: settings.chain,
            documents: settings.documents,
            problems: settings.problems,
            claims: settings.claims,
            retry_of: None,
        };
        (make, layer, spec)
    }
}

impl<M, In, Out, L> fmt::Debug for Handler<M, In, Out, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("name", &self.settings.name).finish_non_exhaustive()
    }
}
