//! Assertions that say which obligation of the contract is broken, and what it promises here.
//!
//! Each takes a sentence that begins with the numbers: `"S10: after a drop, the old owner's ack does not
//! count"`. It is what stands in a panic before what was seen instead.

use std::{
    fmt,
    future::{Future, IntoFuture},
    time::Duration,
};

use futures::StreamExt;
use tokio::time;
use watermill_core::{
    Message, Subscription,
    delivery::Outcome,
    error::{PublishError, PublishErrorKind, SettleError, SubscribeErrorKind},
    subscriber::Ordering,
};

use crate::{Collector, patience};

/// How long a test looks when nothing must come. The only waits that take their full time: too short
/// a look can miss a fault, and never makes a test fail that should pass.
pub(super) const QUIET: Duration = Duration::from_millis(100);

/// What was promised must hold.
#[track_caller]
pub(super) fn require(obligation: &str, holds: bool) {
    if !holds {
        broken(obligation, "it does not hold");
    }
}

/// What was seen must be what was promised.
#[track_caller]
pub(super) fn equal<T: fmt::Debug + PartialEq<U>, U: fmt::Debug>(obligation: &str, seen: T, expected: U) {
    if seen != expected {
        broken(obligation, format_args!("expected {expected:?} and saw {seen:?}"));
    }
}

/// Every message must have come as often as it was published, unchanged and in order, and no other.
#[track_caller]
pub(super) fn exactly(obligation: &str, seen: &Collector, expected: &[Message], ordering: Ordering) {
    with_duplicates(obligation, seen, expected, ordering, 0);
}

/// The same, when up to `duplicates` may have come again.
#[track_caller]
pub(super) fn with_duplicates(
    obligation: &str,
    seen: &Collector,
    expected: &[Message],
    ordering: Ordering,
    duplicates: usize,
) {
    if let Err(differences) = seen.check(expected, ordering, duplicates) {
        broken(obligation, differences);
    }
}

/// Awaits within the patience.
pub(super) async fn within<F: IntoFuture>(obligation: &str, future: F) -> F::Output {
    match time::timeout(patience(), future).await {
        Ok(output) => output,
        Err(_) => broken(obligation, format_args!("waited {:?} in vain", patience())),
    }
}

/// Awaits within the patience what must succeed.
pub(super) async fn ok<T, E: fmt::Debug + fmt::Display>(
    obligation: &str,
    future: impl Future<Output = Result<T, E>>,
) -> T {
    match within(obligation, future).await {
        Ok(output) => output,
        Err(error) => broken(obligation, format_args!("{error} ({error:?})")),
    }
}

/// Awaits within the patience what must fail.
pub(super) async fn refused<T, E>(obligation: &str, future: impl Future<Output = Result<T, E>>) -> E {
    match within(obligation, future).await {
        Ok(_) => broken(obligation, "it succeeded"),
        Err(error) => error,
    }
}

/// A call must be refused, with nothing of it sent.
pub(super) async fn refused_publish(
    obligation: &str,
    kind: PublishErrorKind,
    call: impl Future<Output = Result<(), PublishError>>,
) {
    let error = refused(obligation, call).await;
    equal(obligation, error.kind(), kind);
}

/// A late word on a delivery must be answered with "lost".
pub(super) async fn lost(obligation: &str, settled: impl Future<Output = Result<(), SettleError>>) {
    let error = refused(obligation, settled).await;
    equal(obligation, error.kind(), watermill_core::error::SettleErrorKind::Lost);
}

/// Groups must be refused where there are none.
#[track_caller]
pub(super) fn groups_refused(obligation: &str, subscriber: &dyn watermill_core::Subscriber) {
    match subscriber.in_group("any") {
        Ok(_) => broken(obligation, "it succeeded"),
        Err(error) => equal(obligation, error.kind(), SubscribeErrorKind::Unsupported),
    }
}

/// Nothing must come.
pub(super) async fn quiet(obligation: &str, subscription: &mut Subscription) {
    if let Ok(next) = time::timeout(QUIET, subscription.next()).await {
        broken(obligation, format_args!("nothing should come, but this did: {next:?}"));
    }
}

/// The future must wait.
pub(super) async fn waits<F: Future + Unpin>(obligation: &str, future: &mut F) {
    require(obligation, time::timeout(QUIET, future).await.is_err());
}

/// The stream must end.
pub(super) async fn ended(obligation: &str, subscription: &mut Subscription) {
    let next = within(obligation, subscription.next()).await;
    require(obligation, next.is_none());
}

/// A nack without a delay.
pub(super) const NACK: Outcome = Outcome::Nack { delay: Duration::ZERO };

/// Ends the test.
#[track_caller]
pub(super) fn broken(obligation: &str, seen: impl fmt::Display) -> ! {
    let numbered = obligation.split(['.', ':', ',']).next().is_some_and(|number| {
        let digits = number.strip_prefix(['P', 'S']);
        digits.is_some_and(|digits| digits.parse::<u8>().is_ok_and(|number| number > 0))
    });
    assert!(numbered, "an assertion of the suite begins with an obligation's number: {obligation:?}");
    panic!("{obligation}: {seen}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "S2: one at a time: expected 1 and saw 2")]
    fn what_is_broken_is_named_with_what_was_promised_and_what_was_seen() {
        equal("S2: one at a time", 2, 1);
    }

    #[test]
    #[should_panic(expected = "begins with an obligation's number")]
    fn a_promise_without_a_number_is_none() {
        require("one at a time", false);
    }
}
