//! [`Group`]: one subscription for several types.

use std::{collections::BTreeSet, fmt, marker::PhantomData};

use tower::{Layer, layer::util::Identity};

use super::{
    Decode, Kind, Named, PayloadFn, Processor, UnknownName,
    codec::Codec,
    describe::Documents,
    dispatch::{GroupService, Table},
    handling::PayloadService,
    processor::{claims, no_topic},
    reader::Reader,
};
use crate::{
    Handler,
    router::{
        BoxedService, MakeService, MessageService,
        types::{FromTopic, RouterState},
    },
};

/// One subscription for several types, which keeps the order of all of them: an event group. Made by
/// [`Processor::group`].
///
/// Each message goes to the functions whose type it is called like, found in constant time however many types there are.
/// Functions of one type are called one after another, in the order in which they were added. The first that fails ends it,
/// and the message has failed: all of them are called again when it is tried again.
///
/// ```
/// # use watermill_core::{MemoryBroker, Router, cqrs::Named};
/// use watermill_core::cqrs::{EventProcessor, Topics};
///
/// # #[derive(serde::Deserialize)]
/// # struct RoomBooked;
/// # impl Named for RoomBooked { const NAME: &'static str = "RoomBooked"; }
/// # #[derive(serde::Deserialize)]
/// # struct BookingCancelled;
/// # impl Named for BookingCancelled { const NAME: &'static str = "BookingCancelled"; }
/// async fn booked(event: RoomBooked) {}
/// async fn cancelled(event: BookingCancelled) {}
///
/// # let broker = MemoryBroker::new();
/// let events = EventProcessor::new(broker.subscriber(), Topics::one("events"));
/// let report = events.group("report").on(booked).on(cancelled).handler();
/// # let _ =
/// Router::new().add(report);
/// ```
///
/// All types of a group lie on one topic. Its functions return the same kind of thing: nothing, messages, or messages that name
/// their topics; a group that returns messages is given a destination, like any [`Handler`].
#[must_use = "a group does nothing until its `handler` is added to a router"]
pub struct Group<'p, K, C, S, Out> {
    pub(super) processor: &'p Processor<K, C>,
    name: String,
    unknown: UnknownName,
    members: Vec<Member<S>>,
    table: Table,
    topics: BTreeSet<String>,
    problems: Vec<String>,
    claims: Vec<String>,
    pub(super) documents: Documents,
    out: PhantomData<fn() -> Out>,
}

/// Makes the service of one function.
type Member<S> = Box<dyn FnMut(S) -> BoxedService + Send>;

/// A group on its way to become a service.
pub struct MakeGroup<S, Out> {
    members: Vec<Member<S>>,
    table: Table,
    unknown: UnknownName,
    out: PhantomData<fn() -> Out>,
}

impl<'p, K: Kind, C: Codec, S: Clone + Send + 'static, Out: 'static> Group<'p, K, C, S, Out> {
    pub(super) fn new(processor: &'p Processor<K, C>, name: String, unknown: UnknownName) -> Self {
        Self {
            processor,
            name,
            unknown,
            members: Vec::new(),
            table: Table::default(),
            topics: BTreeSet::new(),
            problems: Vec::new(),
            claims: Vec::new(),
            documents: Documents::default(),
            out: PhantomData,
        }
    }

    /// Adds a function for the type of its first argument.
    pub fn on<F, Args>(self, function: F) -> Self
    where
        F: PayloadFn<Args, S, Payload: Named, Kind = Out>,
        C: Decode<F::Payload>,
        Args: 'static,
    {
        self.on_layered(Identity::new(), function)
    }

    /// Adds a function with a layer around it: what is to happen to messages of this type alone, a
    /// [`Retry`](crate::middleware::Retry), a [`PoisonQueue`](crate::middleware::PoisonQueue), a timeout. For several
    /// layers give a `tower::ServiceBuilder`'s.
    pub fn on_layered<F, Args, L>(mut self, layer: L, function: F) -> Self
    where
        F: PayloadFn<Args, S, Payload: Named, Kind = Out>,
        C: Decode<F::Payload>,
        Args: 'static,
        L: Layer<PayloadService<F, Args, S, F::Payload, C>> + Send + 'static,
        L::Service: MessageService + Clone,
    {
        let names = self.processor.marshaler.shared.names.read_as::<F::Payload>();
        match self.processor.topics.of(&names[0]) {
            Some(topic) => {
                self.topics.insert(topic.into_owned());
            }
            None => self.problems.push(no_topic::<K>(&names[0])),
        }
        let claims = claims::<K>(&names);
        if let Some(twice) = claims.iter().find(|claim| self.claims.contains(claim)) {
            self.problems.push(format!("two of its functions {twice}; one does"));
        }
        self.claims.extend(claims);
        self.table.add(names, self.members.len());
        let reader = Reader::new(&self.processor.marshaler);
        self.members.push(Box::new(move |state| {
            let service = PayloadService::new(function.clone(), reader.clone(), None, state);
            BoxedService::new(layer.layer(service))
        }));
        self
    }

    /// What becomes of messages whose name no function handles. By default what the processor says, and else they are
    /// [refused](UnknownName::Refuse).
    pub fn unknown(mut self, unknown: UnknownName) -> Self {
        self.unknown = unknown;
        self
    }

    /// The handler of the group, with the group's name. That its types lie on no topic, or on several, is said when the
    /// router is to run.
    pub fn handler(self) -> Handler<MakeGroup<S, Out>, FromTopic> {
        let Self { processor, name, unknown, members, table, topics, out, .. } = self;
        let (mut problems, mut claims, documents) = (self.problems, self.claims, self.documents);
        // Two functions of one command are said to be two already.
        claims.sort_unstable();
        claims.dedup();
        if topics.len() > 1 {
            let topics = topics.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            problems
                .push(format!("a group reads one topic, and its types lie on {topics}: use `Topics::one`"));
        }
        if members.is_empty() {
            problems.push("it has no functions".to_owned());
        }
        let topic = topics.into_iter().next().unwrap_or_else(|| name.clone());
        let make = MakeGroup { members, table, unknown, out };
        documents.of(processor.finish(name, make, topic)).with_problems(problems).with_claims(claims)
    }
}

impl<S, R, Out> MakeService<R> for MakeGroup<S, Out>
where
    S: Clone + Send + 'static,
    Out: 'static,
    R: RouterState<S>,
{
    type Kind = Out;
    type Service = GroupService;

    fn make_service(&mut self, state: R) -> Option<GroupService> {
        let state = state.into_state();
        let members = self.members.iter_mut().map(|make| make(state.clone())).collect();
        Some(GroupService::new(members, self.table.clone(), self.unknown))
    }
}

impl<K, C, S, Out> fmt::Debug for Group<'_, K, C, S, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<S, Out> fmt::Debug for MakeGroup<S, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MakeGroup").field("functions", &self.members.len()).finish_non_exhaustive()
    }
}
