//! [`Environment`]: what a worker knows about its handler.

use std::sync::Arc;

use super::{attempts::Attempts, trouble::Trouble};
use crate::{
    router::{
        HandlerInfo, TryTimer, concurrency::Concurrency, counters::Counters, failure::FailurePolicy,
        sink::Sink, stop::Stop,
    },
    subscriber::{Ordering, SubscriberCapabilities},
};

/// Everything a worker knows about its handler, for as long as that lives: through every subscription that it
/// is started with.
pub(in crate::router) struct Environment {
    pub(in crate::router) info: Arc<HandlerInfo>,
    pub(in crate::router) counters: Arc<Counters>,
    /// What ails the subscription just now.
    pub(in crate::router) trouble: Arc<Trouble>,
    /// Asked for, intake stops; what has begun is finished.
    pub(in crate::router) stop: Stop,
    pub(super) sink: Sink,
    pub(super) policy: FailurePolicy,
    /// Whether the policy can need a message after the handler has consumed it.
    pub(super) keeps_copies: bool,
    pub(super) concurrency: Concurrency,
    /// Whether handlers run on tasks of their own.
    pub(super) spawns: bool,
    /// Whether outputs are published together with those of their batch.
    pub(super) is_batch: bool,
    pub(super) ordering: Ordering,
    /// How many outputs of a lane may be on their way while the next message is handled.
    pub(super) pipeline: usize,
    /// Whether outputs name the delivery that they were made of.
    pub(super) commits_with_ack: bool,
    /// Whether they name anything.
    pub(super) outputs_name_something: bool,
    /// Whether the delay of a nack is waited for here, because the backend does not.
    pub(super) waits_before_nack: bool,
    /// Who is told how long tries take, and whom outputs name their handler for.
    pub(super) timer: Option<Box<dyn TryTimer>>,
    /// Where the backend does not count deliveries.
    pub(super) attempts: Option<Attempts>,
}

impl Environment {
    /// Of a handler that takes from a subscriber with these capabilities. `pipeline` is how many outputs it
    /// wants to have on their way.
    pub(in crate::router) fn new(
        info: Arc<HandlerInfo>,
        sink: Sink,
        policy: FailurePolicy,
        concurrency: Concurrency,
        pipeline: usize,
        subscriber: &SubscriberCapabilities,
        stop: Stop,
    ) -> Self {
        let concurrency = concurrency.with(subscriber.ordering);
        Self {
            info,
            counters: Arc::default(),
            trouble: Arc::default(),
            stop,
            keeps_copies: policy.needs_copy(),
            policy,
            spawns: concurrency.spawns(),
            is_batch: concurrency.is_batch(),
            concurrency,
            ordering: subscriber.ordering,
            pipeline: concurrency.pipeline(&sink, pipeline),
            commits_with_ack: sink.commits_with_ack(),
            outputs_name_something: sink.commits_with_ack(),
            waits_before_nack: !subscriber.nack_delay,
            timer: None,
            attempts: (!subscriber.attempts).then(Attempts::default),
            sink,
        }
    }

    /// Of one whose tries somebody wants to time.
    pub(in crate::router) fn timed(mut self, timer: Option<Box<dyn TryTimer>>) -> Self {
        self.outputs_name_something |= timer.is_some();
        self.timer = timer;
        self
    }
}
