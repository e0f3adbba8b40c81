//! [`Job`]: a message in hand.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::sleep;

use super::{Environment, trace::Trace};
use crate::{
    Message, Settlement,
    delivery::Outcome,
    router::counters::{Counter, Counters},
};

/// A message in hand.
pub(super) struct Job {
    pub(super) settlement: Settlement,
    /// For retries and dead letters; only kept where the policy can need it, and boxed because jobs
    /// are moved more often than copied.
    pub(super) copy: Option<Box<Message>>,
    /// Tries in place so far.
    pub(super) tries: u32,
    /// Which delivery this is, as far as somebody counts.
    pub(super) attempt: u32,
    /// What its ack means.
    pub(super) acked_as: AckedAs,
    pub(super) trace: Trace,
}

/// Why a message is acked.
#[derive(Clone, Copy, Debug)]
pub(super) enum AckedAs {
    Done,
    DeadLettered,
    Dropped,
}

/// Deliver it again, at once.
pub(super) const NACK_NOW: Outcome = Outcome::Nack { delay: Duration::ZERO };

impl Job {
    /// Takes a message in hand, for its first try.
    #[inline(always)]
    pub(super) fn new(message: &mut Message, settlement: Settlement, env: &Environment) -> Self {
        let attempt = match &env.attempts {
            None => message.delivery().map_or(1, crate::DeliveryInfo::attempt),
            Some(attempts) => {
                let failed = attempts.failed(|| message.id());
                count(message, failed)
            }
        };
        message.set_handler(env.info.clone());
        let copy = env.keeps_copies.then(|| Box::new(message.clone()));
        let trace = Trace::of(message, attempt, env);
        Self { settlement, copy, tries: 1, attempt, acked_as: AckedAs::Done, trace }
    }

    /// The message again, for another try or a dead letter.
    pub(super) fn message(&self) -> Message {
        (**self.copy.as_ref().expect("a policy that needs the message again keeps a copy")).clone()
    }

    /// A wait that is over at once if the delivery is lost meanwhile.
    pub(super) fn pause(&self, delay: Duration) -> BoxFuture<'static, ()> {
        let lost = self.settlement.info().map(|info| info.cancellation());
        Box::pin(async move {
            match lost {
                Some(lost) => drop(lost.run_until_cancelled(sleep(delay)).await),
                None => sleep(delay).await,
            }
        })
    }
}

impl AckedAs {
    pub(super) fn counter(self, counters: &Counters) -> &Counter {
        match self {
            Self::Done => &counters.acked,
            Self::DeadLettered => &counters.dead_lettered,
            Self::Dropped => &counters.dropped,
        }
    }
}

/// The attempt, where deliveries that failed are counted here; the message says so from now on.
fn count(message: &mut Message, failed: u32) -> u32 {
    let Some(info) = message.delivery() else { return 1 };
    let attempt = info.attempt().max(failed.saturating_add(1));
    if attempt > info.attempt() {
        let info = info.clone().with_attempt(attempt);
        message.set_delivery(info);
    }
    attempt
}
