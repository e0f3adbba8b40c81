//! [`Processor`]: makes the handlers of commands or events.

use std::{fmt, marker::PhantomData, sync::Arc};

use super::{
    Commands, Decode, Events, JsonCodec, Kind, Marshaler, Named, PayloadFn, Topics, UnknownName,
    codec::Codec, group::Group, handling::MakePayload, reader::Reader, unknown::Known,
};
use crate::{Handler, Subscriber, router::types::FromTopic};

/// Makes handlers of commands: one for each command. See [`Processor`].
pub type CommandProcessor<C = JsonCodec> = Processor<Commands, C>;

/// Makes handlers of events: any number for each event. See [`Processor`].
pub type EventProcessor<C = JsonCodec> = Processor<Events, C>;

/// Makes handlers of commands ([`CommandProcessor`]) or events ([`EventProcessor`]) of async functions whose first
/// argument is the command or the event.
///
/// What it makes is a [`Handler`] like any other: it has a failure policy, layers, concurrency and a destination of its own, and
/// is added to a [`Router`](crate::Router).
///
/// ```
/// # use std::time::Duration;
/// # use tower::timeout::TimeoutLayer;
/// # use watermill_core::{MemoryBroker, cqrs::Named};
/// use watermill_core::{FailurePolicy, Router, State, cqrs::{CommandProcessor, Topics}};
///
/// # #[derive(serde::Deserialize)]
/// # struct BookRoom { room: u32 }
/// # impl Named for BookRoom { const NAME: &'static str = "BookRoom"; }
/// async fn book_room(command: BookRoom, State(rooms): State<u32>) {
///     println!("room {} of {rooms} is booked", command.room);
/// }
///
/// # let broker = MemoryBroker::new();
/// let commands = CommandProcessor::new(broker.subscriber(), Topics::prefixed("commands."));
/// let router = Router::new().with_state(40_u32).add(
///     commands
///         .handler("book_room", book_room)
///         .layer(TimeoutLayer::new(Duration::from_secs(5)))
///         .on_failure(FailurePolicy::retry(3).then_dead_letter(broker.publisher(), "commands.dead")),
/// );
/// assert!(router.to_string().starts_with("memory:commands.BookRoom -> TimeoutLayer > book_room"));
/// ```
///
/// # One handler for a command
///
/// A router that has two handlers of one command, whoever has made them, refuses to run, and a running router refuses
/// the second.
///
/// # Groups
///
/// Each handler consumes for a consumer group of its own, which is named like the handler, so that every handler hears of
/// every message on its topic. Handlers of two services that are named alike are one group then, and each hears of a part only:
/// where services share a broker put the service's name in front, `.groups(|handler| format!("billing.{handler}"))`.
/// [`groups`](Self::groups) names them otherwise, and
/// [`keep_group`](Self::keep_group) leaves the subscriber's, for a backend without groups for instance.
///
/// # Unknown names
///
/// What is not called like the handler's type is refused, where each name has its own topic: somebody has sent it to the wrong
/// place. Where names share a topic ([`Topics::one`], or several that are listed [with](Topics::with) one) it is skipped.
/// [`unknown`](Self::unknown) says otherwise.
pub struct Processor<K, C = JsonCodec> {
    subscriber: Arc<dyn Subscriber>,
    pub(super) topics: Topics,
    pub(super) marshaler: Marshaler<C>,
    groups: Groups,
    unknown: Option<UnknownName>,
    kind: PhantomData<fn() -> K>,
}

#[derive(Clone)]
enum Groups {
    OfHandlers(Arc<dyn Fn(&str) -> String + Send + Sync>),
    OfSubscriber,
}

impl<K: Kind> Processor<K> {
    /// A processor that reads JSON.
    pub fn new(subscriber: impl Subscriber + 'static, topics: Topics) -> Self {
        Self {
            subscriber: Arc::new(subscriber),
            topics,
            marshaler: Marshaler::json(),
            groups: Groups::OfHandlers(Arc::new(str::to_owned)),
            unknown: None,
            kind: PhantomData,
        }
    }
}

impl<K: Kind, C: Codec> Processor<K, C> {
    /// Reads messages with this marshaler.
    #[must_use]
    pub fn with_marshaler<D: Codec>(self, marshaler: Marshaler<D>) -> Processor<K, D> {
        let Self { subscriber, topics, groups, unknown, kind, .. } = self;
        Processor { subscriber, topics, marshaler, groups, unknown, kind }
    }

    /// Names the consumer group of each handler, by the handler's name. By default it is that name.
    #[must_use]
    pub fn groups(mut self, group: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.groups = Groups::OfHandlers(Arc::new(group));
        self
    }

    /// Leaves handlers in the group of the subscriber. Handlers that read one topic compete for its messages then.
    #[must_use]
    pub fn keep_group(mut self) -> Self {
        self.groups = Groups::OfSubscriber;
        self
    }

    /// What becomes of messages whose name is not handled.
    #[must_use]
    pub fn unknown(mut self, unknown: UnknownName) -> Self {
        self.unknown = Some(unknown);
        self
    }

    /// A handler of one type: that of the function's first argument. `name` must be unique in its router.
    ///
    /// That there is no topic for the type is said when the router is to run.
    pub fn handler<F, Args, S>(
        &self,
        name: impl Into<String>,
        function: F,
    ) -> Handler<MakePayload<F, Args, S, F::Payload, C>, FromTopic>
    where
        F: PayloadFn<Args, S, Payload: Named>,
        C: Decode<F::Payload>,
    {
        let names = self.marshaler.shared.names.read_as::<F::Payload>();
        let topic = self.topics.of(&names[0]).map(String::from);
        let problem = topic.is_none().then(|| no_topic::<K>(&names[0]));
        // Its absence is said in words of its own.
        let topic = topic.unwrap_or_else(|| names[0].clone());
        let claims = claims::<K>(&names);
        let shared = if self.topics.share(&topic) { UnknownName::Skip } else { UnknownName::Refuse };
        let policy = self.unknown.unwrap_or(shared);
        let make = MakePayload {
            function,
            reader: Reader::new(&self.marshaler),
            known: Arc::new(Known { names, policy }),
            args: PhantomData,
        };
        self.finish(name.into(), make, topic).with_problems(problem).with_claims(claims)
    }

    /// Begins a group: one subscription, and so one order, for several types. See [`Group`].
    pub fn group<S, Out>(&self, name: impl Into<String>) -> Group<'_, K, C, S, Out>
    where
        S: Clone + Send + 'static,
        Out: 'static,
    {
        Group::new(self, name.into(), self.unknown.unwrap_or(UnknownName::Refuse))
    }

    /// A handler of what lies on a topic, in its group.
    pub(super) fn finish<M>(&self, name: String, make: M, topic: String) -> Handler<M, FromTopic> {
        let group = match &self.groups {
            Groups::OfHandlers(group) => Some(group(&name)),
            Groups::OfSubscriber => None,
        };
        let handler = Handler::make(name, make).from(self.subscriber.clone(), topic);
        match group {
            Some(group) => handler.group(group),
            None => handler,
        }
    }
}

pub(super) fn no_topic<K: Kind>(name: &str) -> String {
    format!("there is no topic for the {} {name:?}: add it to its `Topics`", K::NOUN)
}

/// What no other handler of a router may do as well.
pub(super) fn claims<K: Kind>(names: &[String]) -> Vec<String> {
    let claim = |name: &String| format!("handle the {} {name:?}", K::NOUN);
    if K::HAS_ONE_HANDLER { names.iter().map(claim).collect() } else { Vec::new() }
}

impl<K, C: Clone> Clone for Processor<K, C> {
    fn clone(&self) -> Self {
        Self {
            subscriber: self.subscriber.clone(),
            topics: self.topics.clone(),
            marshaler: self.marshaler.clone(),
            groups: self.groups.clone(),
            unknown: self.unknown,
            kind: PhantomData,
        }
    }
}

impl<K: Kind, C: fmt::Debug> fmt::Debug for Processor<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processor")
            .field("of", &K::NOUN)
            .field("topics", &self.topics)
            .field("marshaler", &self.marshaler)
            .finish_non_exhaustive()
    }
}
