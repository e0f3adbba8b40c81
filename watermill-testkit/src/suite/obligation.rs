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
pub(super) fn require(promise: &str, holds: bool) {
    if !holds {
        broken(promise, "it does not hold");
    }
}

/// What was seen must be what was promised.
#[track_caller]
pub(super) fn equal<T: fmt::Debug + PartialEq<U>, U: fmt::Debug>(promise: &str, seen: T, expected: U) {
    if seen != expected {
        broken(promise, format_args!("expected {expected:?} and saw {seen:?}"));
    }
}

/// Every message must have come as often as it was published, unchanged and in order, and no other.
#[track_caller]
pub(super) fn exactly(promise: &str, seen: &Collector, expected: &[Message], ordering: Ordering) {
    with_duplicates(promise, seen, expected, ordering, 0);
}

/// The same, when up to `duplicates` may have come again.
#[track_caller]
pub(super) fn with_duplicates(
    promise: &str,
    seen: &Collector,
    expected: &[Message],
    ordering: Ordering,
    duplicates: usize,
) {
    if let Err(differences) = seen.check(expected, ordering, duplicates) {
        broken(promise, differences);
    }
}

/// Awaits within the patience.
pub(super) async fn within<F: IntoFuture>(promise: &str, future: F) -> F::Output {
    match time::timeout(patience(), future).await {
        Ok(output) => output,
        Err(_) => broken(promise, format_args!("waited {:?} in vain", patience())),
    }
}

/// Awaits within the patience what must succeed.
pub(super) async fn ok<T, E: fmt::Debug + fmt::Display>(
    promise: &str,
    future: impl Future<Output = Result<T, E>>,
) -> T {
    match within(promise, future).await {
        Ok(output) => output,
        Err(error) => broken(promise, format_args!("{error} ({error:?})")),
    }
}

/// Awaits within the patience what must fail.
pub(super) async fn refused<T, E>(promise: &str, future: impl Future<Output = Result<T, E>>) -> E {
    match within(promise, future).await {
        Ok(_) => broken(promise, "it succeeded"),
        Err(error) => error,
    }
}

/// A call must be refused, with nothing of it sent.
pub(super) async fn refused_publish(
    promise: &str,
    kind: PublishErrorKind,
    call: impl Future<Output = Result<(), PublishError>>,
) {
    let error = refused(promise, call).await;
    equal(promise, error.kind(), kind);
}

/// A late word on a delivery must be answered with "lost".
pub(super) async fn lost(promise: &str, settled: impl Future<Output = Result<(), SettleError>>) {
    let error = refused(promise, settled).await;
    equal(promise, error.kind(), watermill_core::error::SettleErrorKind::Lost);
}

/// Groups must be refused where there are none.
#[track_caller]
pub(super) fn groups_refused(promise: &str, subscriber: &dyn watermill_core::Subscriber) {
    match subscriber.in_group("any") {
        Ok(_) => broken(promise, "it succeeded"),
        Err(error) => equal(promise, error.kind(), SubscribeErrorKind::Unsupported),
    }
}

/// Nothing must come.
pub(super) async fn quiet(promise: &str, subscription: &mut Subscription) {
    if let Ok(next) = time::timeout(QUIET, subscription.next()).await {
        broken(promise, format_args!("nothing should come, but this did: {next:?}"));
    }
}

/// The future must wait.
pub(super) async fn waits<F: Future + Unpin>(promise: &str, future: &mut F) {
    require(promise, time::timeout(QUIET, future).await.is_err());
}

/// The stream must end.
pub(super) async fn ended(promise: &str, subscription: &mut Subscription) {
    let next = within(promise, subscription.next()).await;
    require(promise, next.is_none());
}

/// A nack without a delay.
pub(super) const NACK: Outcome = Outcome::Nack { delay: Duration::ZERO };

/// Ends the test.
#[track_caller]
pub(super) fn broken(promise: &str, seen: impl fmt::Display) -> ! {
    let numbered = promise.split(['.', ':', ',']).next().is_some_and(|number| {
        let digits = number.strip_prefix(['P', 'S']);
        digits.is_some_and(|digits| digits.parse::<u8>().is_ok_and(|number| number > 0))
    });
    assert!(numbered, "an assertion of the suite begins with an obligation's number: {promise:?}");
    panic!("{promise}: {seen}");
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
