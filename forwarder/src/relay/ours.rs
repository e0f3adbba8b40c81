//! Whether what is in hand is still ours, before and while something is published of it: a process that was stopped goes on with
//! what another has by then, and so does what its client has queued.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use watermill_core::{
    Publisher,
    error::{PublishError, PublishErrorKind},
};

use super::{item::Item, lane::SLOW_AFTER};
use crate::control::Shared;

/// How often a call without an answer is looked at: whether what is in it is still ours.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A look that comes so much too late was kept from it: the process was stopped.
const STOPPED: Duration = Duration::from_secs(1);

/// What came of a call.
pub(super) enum Answer<T> {
    Answered(T),
    /// Nothing of it is ours any more.
    Lost,
    /// It may not be ours.
    InDoubt(PublishError),
    /// There was none in time.
    Late(PublishError),
}

/// Refuses to publish what may be with another since, as far as the clock tells.
pub(super) fn check(shared: &Shared, topic: &str) -> Result<(), PublishError> {
    if shared.is_owner() { Ok(()) } else { Err(not_ours(PublishErrorKind::Unavailable, topic)) }
}

/// Waits for a call of `publisher`, that publishes something of `items`, for as long as those are ours and `call_timeout` at
/// most. What it has queued is taken back where they are not.
pub(super) async fn while_ours<T>(
    shared: &Shared,
    publisher: &dyn Publisher,
    (topic, items): (&str, &[Item]),
    call_timeout: Duration,
    call: impl Future<Output = T>,
) -> Answer<T> {
    if let Err(error) = check(shared, topic) {
        return Answer::InDoubt(error);
    }
    tokio::select! {
        biased;
        answer = call => Answer::Answered(answer),
        () = all_lost(items) => {
            publisher.take_back();
            Answer::Lost
        }
        // What its client had queued goes on by itself when a process goes on: it is called back first.
        () = stopped_for_too_long(shared) => {
            publisher.take_back();
            Answer::InDoubt(not_ours(PublishErrorKind::Timeout, topic))
        }
        () = sleep(call_timeout) => {
            let why = format!("the publisher has not answered within {call_timeout:?}");
            Answer::Late(PublishError::new(PublishErrorKind::Timeout, topic).because(why))
        }
    }
}

/// Ends when nothing of a call is ours any more: dropped then, a client may forget what it has not sent.
async fn all_lost(items: &[Item]) {
    sleep(SLOW_AFTER).await;
    while !items.iter().all(Item::is_lost) {
        sleep(LOOK_INTERVAL).await;
    }
}

/// Ends when the process was stopped, and what it has in hand may be with others since.
async fn stopped_for_too_long(shared: &Shared) {
    loop {
        let looked = Instant::now();
        sleep(LOOK_INTERVAL).await;
        if looked.elapsed() >= LOOK_INTERVAL + STOPPED && !shared.is_owner() {
            return;
        }
    }
}

fn not_ours(kind: PublishErrorKind, topic: &str) -> PublishError {
    let why =
        "the lease of the source is over and was not renewed: what is in hand may be with another relay";
    PublishError::new(kind, topic).because(why)
}
