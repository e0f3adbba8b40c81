//! [`GroupService`]: hands each message of a group to the functions of its name.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tower::{Service, ServiceExt};

use super::{UnknownName, reader::name_of};
use crate::{
    Message, Outputs,
    error::BoxError,
    router::{BoxedService, types::BoxedFuture},
};

/// Which functions handle a name, by their numbers.
#[derive(Clone, Default)]
pub(super) struct Table(HashMap<Box<str>, Vec<usize>>);

impl Table {
    pub(super) fn add(&mut self, names: Vec<String>, member: usize) {
        for name in names {
            let members = self.0.entry(name.into_boxed_str()).or_default();
            if !members.contains(&member) {
                members.push(member);
            }
        }
    }
}

/// The innermost service of a group. It is always ready: whether the layers of a function are is found out when there is a
/// message for it. Asked before, a function would keep what its layers give to whoever is ready, a permit of a limit for
/// instance, until its next message comes, and others that share the limit would wait for that.
pub struct GroupService {
    group: Arc<Functions>,
    /// What this service has called, by number: its own copies, so that a clone of it costs the same however many there are.
    called: HashMap<usize, BoxedService>,
}

struct Functions {
    table: Table,
    services: Vec<Mutex<BoxedService>>,
    unknown: UnknownName,
}

impl GroupService {
    pub(super) fn new(services: Vec<BoxedService>, table: Table, unknown: UnknownName) -> Self {
        let services = services.into_iter().map(Mutex::new).collect();
        Self { group: Arc::new(Functions { table, services, unknown }), called: HashMap::new() }
    }
}

impl Functions {
    fn service(&self, member: usize) -> BoxedService {
        self.services[member].lock().clone()
    }
}

impl Service<Message> for GroupService {
    type Response = Outputs;
    type Error = BoxError;
    type Future = Dispatched;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message) -> Dispatched {
        let Self { group, called } = self;
        let found = name_of(&message).and_then(|name| group.table.0.get(name));
        let Some([first, others @ ..]) = found.map(Vec::as_slice) else {
            let known = || format!("{} names", group.table.0.len());
            let decided = group.unknown.decide(&message, known).map(|()| Outputs::none());
            return Dispatched(State::Decided(Some(decided)));
        };
        if !others.is_empty() {
            // Each begins when it is its turn: a timeout of its layers does not run before.
            let members = found.into_iter().flatten().map(|member| group.service(*member)).collect();
            return Dispatched(State::Waiting(Box::pin(in_turn(members, message))));
        }
        let service = called.entry(*first).or_insert_with(|| group.service(*first));
        // Most have no layer that waits for anything, and are called in place.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Dispatched(State::One(service.call(message))),
            Poll::Ready(Err(error)) => {
                called.remove(first);
                Dispatched(State::Decided(Some(Err(error))))
            }
            Poll::Pending => {
                // With its place in the queue of what it waits for.
                let waiting = called.remove(first).into_iter().collect();
                Dispatched(State::Waiting(Box::pin(in_turn(waiting, message))))
            }
        }
    }
}

async fn in_turn(members: Vec<BoxedService>, message: Message) -> Result<Outputs, BoxError> {
    let mut outputs = Outputs::none();
    for member in members {
        outputs.append(member.oneshot(message.clone()).await?);
    }
    Ok(outputs)
}

impl Clone for GroupService {
    fn clone(&self) -> Self {
        Self { group: self.group.clone(), called: HashMap::new() }
    }
}

impl fmt::Debug for GroupService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupService").field("functions", &self.group.services.len()).finish_non_exhaustive()
    }
}

/// What a group returns.
#[must_use = "futures do nothing unless polled"]
pub struct Dispatched(State);

enum State {
    One(BoxedFuture),
    Waiting(BoxFuture<'static, Result<Outputs, BoxError>>),
    Decided(Option<Result<Outputs, BoxError>>),
}

impl Future for Dispatched {
    type Output = Result<Outputs, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::One(future) => Pin::new(future).poll(cx),
            State::Waiting(future) => future.as_mut().poll(cx),
            State::Decided(result) => Poll::Ready(result.take().expect("polled again after it was ready")),
        }
    }
}

impl fmt::Debug for Dispatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatched").finish_non_exhaustive()
    }
}
