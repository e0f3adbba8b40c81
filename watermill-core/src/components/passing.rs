//! What handlers share that pass messages on: how they fail.

use crate::{
    FailurePolicy, Subscriber,
    error::{BoxError, Permanent, Verdict},
};

/// The policy of a handler that passes messages on. A place that is away is waited for, with growing pauses, and never held
/// against a message. A message that cannot be passed on is rejected where the backend has a place for such, and
/// otherwise nacked: it is not lost in either case.
pub(super) fn policy(subscriber: &dyn Subscriber) -> FailurePolicy {
    let policy = FailurePolicy::nack().classify(|error| match Verdict::of(error) {
        Verdict::GiveUp => Verdict::GiveUp,
        _ => Verdict::Nack,
    });
    if subscriber.capabilities().dead_letters { policy.then_reject() } else { policy }
}

/// A message that has nowhere to go, whenever it is tried.
pub(super) fn nowhere(reason: impl Into<String>) -> BoxError {
    Permanent::new(reason.into()).into()
}
