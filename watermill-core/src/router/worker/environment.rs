//! [`Environment`]: what a worker knows about its handler.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    router::{HandlerInfo, concurrency::Concurrency, counters::Counters, failure::FailurePolicy, sink::Sink},
    subscriber::{Ordering, SubscriberCapabilities},
};

/// Everything a worker knows about its handler, for as long as that lives: through every subscription that it
/// is started with.
pub(in crate::router) struct Environment {
    pub(in crate::router) info: Arc<HandlerInfo>,
    pub(in crate::router) counters: Arc<Counters>,
    /// Cancelled to stop intake; what has begun is finished.
    pub(in crate::router) stop: CancellationToken,
    pub(super) sink: Sink,
    pub(super) policy: FailurePolicy,
    /// Whether the policy can need a message after the handler has consumed it.
    pub(super) keeps_copies: bool,
    /// Whether handlers run on tasks of their own.
    pub(super) spawns: bool,
    pub(super) concurrency: Concurrency,
    pub(super) ordering: Ordering,
    /// How many outputs may be on their way while the next message is handled.
    pub(super) pipeline: usize,
    /// Whether outputs name the delivery that they were made of.
    pub(super) commits_with_ack: bool,
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
        stop: CancellationToken,
    ) -> Self {
        Self {
            info,
            counters: Arc::default(),
            stop,
            keeps_copies: policy.needs_copy(),
            policy,
            spawns: concurrency.spawns(),
            concurrency,
            ordering: subscriber.ordering,
            pipeline: sink.pipeline(pipeline),
            commits_with_ack: sink.commits_with_ack(),
            sink,
        }
    }
}
