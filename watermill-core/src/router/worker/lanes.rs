//! [`Lanes`]: all lanes of a handler.

use std::{panic::resume_unwind, pin::Pin, sync::OnceLock, task::Context};

use super::{Environment, lane::Lane, readiness::Readiness, table::Table};
use crate::{Message, Settlement, panic::Payload, router::MessageService};

/// One lane that is polled with the worker, or a table of lanes each with a waker of its own.
pub(super) enum Lanes<'w, S: MessageService> {
    One(Pin<Box<Lane<'w, S>>>),
    Many(Box<Table<'w, S>>),
}

impl<'w, S: MessageService> Lanes<'w, S> {
    pub(super) fn new(env: &'w Environment, broken: &'w OnceLock<String>) -> Self {
        if env.concurrency.is_sequential() {
            Self::One(Box::pin(Lane::new(env, broken)))
        } else {
            Self::Many(Box::new(Table::new(env, broken)))
        }
    }

    /// Remembers whom to wake.
    pub(super) fn register(&self, cx: &Context<'_>) {
        if let Self::Many(table) = self {
            table.register(cx);
        }
    }

    /// Goes on wherever it is possible.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::One(lane) => {
                lane.as_mut().state_mut().time_has_passed();
                lane.as_mut().poll(cx);
            }
            Self::Many(table) => table.poll(cx),
        }
    }

    /// What can be done next.
    #[inline]
    pub(super) fn readiness(&mut self) -> Readiness {
        match self {
            Self::One(lane) => lane.state().readiness(),
            Self::Many(table) => table.readiness(),
        }
    }

    /// Whether nothing is in hand anywhere.
    pub(super) fn is_quiet(&self) -> bool {
        match self {
            Self::One(lane) => lane.state().is_quiet(),
            Self::Many(table) => table.is_quiet(),
        }
    }

    /// Hands a message to its lane, and goes on there; the service is ready, and there is room.
    #[inline(always)]
    pub(super) fn accept(
        &mut self,
        message: Message,
        settlement: Settlement,
        service: &mut S,
        cx: &mut Context<'_>,
    ) {
        match self {
            Self::One(lane) => lane.as_mut().begin(message, settlement, service, cx),
            Self::Many(table) => table.accept(message, settlement, service),
        }
    }

    /// Calls the service, which is ready, for a message that needs it; says whether there was one.
    pub(super) fn call_due(&mut self, service: &mut S, cx: &mut Context<'_>) -> bool {
        match self {
            Self::One(lane) => lane.as_mut().call_due(service, cx),
            Self::Many(table) => table.call_due(service),
        }
    }

    /// Something has panicked in here: the handler of a lane, which goes on when it is polled again, or what is not
    /// ours to handle.
    #[cold]
    pub(super) fn panicked(&mut self, payload: Payload) {
        match self {
            Self::One(lane) => lane.as_mut().panicked(payload),
            // It has caught those of its lanes.
            Self::Many(_) => resume_unwind(payload),
        }
    }

    /// The worker is at its end: gives back what has not begun, waits for no retry any more, and lets the rest
    /// end.
    pub(super) fn give_back(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::One(lane) => {
                lane.as_mut().give_back();
                lane.as_mut().poll(cx);
            }
            Self::Many(table) => table.give_back(),
        }
    }
}
