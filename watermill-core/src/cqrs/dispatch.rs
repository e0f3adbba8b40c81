//! [`GroupService`]: hands each message of a group to the functions of its name.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::future::BoxFuture;
use tower::{Service, ServiceExt};

use super::{Unknown, reader::name_of};
use crate::{
    Message, Outputs,
    error::BoxError,
    router::{BoxedService, types::BoxedFuture},
};

/// Which functions handle a name, by their numbers.
#[derive(Clone, Default)]
pub(super) struct Table(Arc<HashMap<Box<str>, Vec<usize>>>);

impl Table {
    pub(super) fn add(&mut self, names: Vec<String>, member: usize) {
        let table = Arc::make_mut(&mut self.0);
        for name in names {
            let members = table.entry(name.into_boxed_str()).or_default();
            if !members.contains(&member) {
                members.push(member);
            }
        }
    }
}

/// The innermost service of a group. It is ready when all of its functions' layers are.
pub struct GroupService {
    table: Table,
    members: Vec<BoxedService>,
    /// Those that have been called since they were ready, or never were: to ask all of them before each message would take
    /// longer the more there are.
    unready: Vec<usize>,
    unknown: Unknown,
}

impl GroupService {
    pub(super) fn new(members: Vec<BoxedService>, table: Table, unknown: Unknown) -> Self {
        let unready = (0..members.len()).collect();
        Self { table, members, unready, unknown }
    }
}

impl Service<Message> for GroupService {
    type Response = Outputs;
    type Error = BoxError;
    type Future = Dispatched;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        while let Some(member) = self.unready.last() {
            ready!(self.members[*member].poll_ready(cx))?;
            self.unready.pop();
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message) -> Dispatched {
        let found = name_of(&message).and_then(|name| self.table.0.get(name));
        let Some([first, others @ ..]) = found.map(Vec::as_slice) else {
            let known = || format!("{} names", self.table.0.len());
            let decided = self.unknown.decide(&message, known).map(|()| Outputs::none());
            return Dispatched(State::Decided(Some(decided)));
        };
        self.unready.push(*first);
        if others.is_empty() {
            return Dispatched(State::One(self.members[*first].call(message)));
        }
        // The others begin when it is their turn: a timeout of theirs does not run before.
        let others = others.iter().map(|member| self.members[*member].clone()).collect();
        let first = self.members[*first].call(message.clone());
        Dispatched(State::Several(Box::pin(in_turn(first, others, message))))
    }
}

async fn in_turn(
    first: BoxedFuture,
    others: Vec<BoxedService>,
    message: Message,
) -> Result<Outputs, BoxError> {
    let mut outputs = first.await?;
    for other in others {
        outputs.append(other.oneshot(message.clone()).await?);
    }
    Ok(outputs)
}

impl Clone for GroupService {
    /// No member of the clone is ready: readiness is not shared.
    fn clone(&self) -> Self {
        Self::new(self.members.clone(), self.table.clone(), self.unknown)
    }
}

impl fmt::Debug for GroupService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupService").field("functions", &self.members.len()).finish_non_exhaustive()
    }
}

/// What a group returns.
#[must_use = "futures do nothing unless polled"]
pub struct Dispatched(State);

enum State {
    One(BoxedFuture),
    Several(BoxFuture<'static, Result<Outputs, BoxError>>),
    Decided(Option<Result<Outputs, BoxError>>),
}

impl Future for Dispatched {
    type Output = Result<Outputs, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::One(future) => Pin::new(future).poll(cx),
            State::Several(future) => future.as_mut().poll(cx),
            State::Decided(result) => Poll::Ready(result.take().expect("polled again after it was ready")),
        }
    }
}

impl fmt::Debug for Dispatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatched").finish_non_exhaustive()
    }
}
