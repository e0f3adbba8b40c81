//! [`Job`]: a message in hand.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::sleep;

use super::{Environment, trace::Trace};
use crate::{
    Message, Outputs, Settlement,
    delivery::Outcome,
    router::counters::{Counter, Counters, Reason},
};

/// A message in hand.
pub(super) struct Job {
    pub(super) settlement: Settlement,
    /// For retries and dead letters; only kept where the policy can need it, and boxed because jobs
    /// are moved more often than copied.
    pub(super) copy: Option<Box<Message>>,
    pub(super) trace: Trace,
    /// Tries in place so far.
    pub(super) tries: u32,
    /// What its ack means.
    pub(super) acked_as: AckedAs,
}

/// Why a message is acked.
#[derive(Clone, Copy, Debug)]
pub(super) enum AckedAs {
    Done,
    DeadLettered(Reason),
    /// It comes again from a retry topic.
    Postponed,
    Dropped,
}

/// Deliver it again, at once.
pub(super) const NACK_NOW: Outcome = Outcome::Nack { delay: Duration::ZERO };

impl Job {
    /// The same job, whose ack means something else.
    pub(super) fn acked_as(mut self, acked_as: AckedAs) -> Self {
        self.acked_as = acked_as;
        self
    }

    /// Names in outputs the delivery that they were made of, for a publisher that commits it with the ack, and their
    /// handler, for one that is measured.
    #[inline]
    pub(super) fn name_in(&self, outputs: &mut Outputs, env: &Environment) {
        if env.outputs_name_something {
            self.name_in_each(outputs, env);
        }
    }

    /// Apart, as few outputs name anything.
    #[inline(never)]
    fn name_in_each(&self, outputs: &mut Outputs, env: &Environment) {
        if env.commits_with_ack {
            outputs.iter_mut().for_each(|message| message.set_delivery(self.settlement.info().clone()));
        }
        if env.timer.is_some() {
            let unnamed = outputs.iter_mut().filter(|message| message.handler().is_none());
            unnamed.for_each(|message| message.set_handler(env.info.clone()));
        }
    }

    /// Takes a message in hand, for its first try.
    #[inline(always)]
    pub(super) fn new(message: &mut Message, mut settlement: Settlement, env: &Environment) -> Self {
        if let Some(attempts) = &env.attempts {
            let failed = attempts.failed(|| message.id());
            count(message, &mut settlement, failed);
        }
        let info = settlement.info();
        if info.redelivered() || info.attempt() > 1 {
            env.counters.redelivered.increment();
        }
        message.set_handler(env.info.clone());
        let copy = env.keeps_copies.then(|| Box::new(message.clone()));
        let trace = Trace::of(message, settlement.info().attempt(), env);
        Self { settlement, copy, trace, tries: 1, acked_as: AckedAs::Done }
    }

    /// Which delivery this is, as far as somebody counts.
    pub(super) fn attempt(&self) -> u32 {
        self.settlement.info().attempt()
    }

    /// The message again, for another try or a dead letter.
    pub(super) fn message(&self) -> Message {
        (**self.copy.as_ref().expect("a policy that needs the message again keeps a copy")).clone()
    }

    /// A wait that is over at once if the delivery is lost meanwhile.
    pub(super) fn pause(&self, delay: Duration) -> BoxFuture<'static, ()> {
        let lost = self.settlement.info().cancellation();
        Box::pin(async move {
            lost.run_until_cancelled(sleep(delay)).await;
        })
    }
}

impl AckedAs {
    pub(super) fn counter(self, counters: &Counters) -> &Counter {
        match self {
            Self::Done => &counters.acked,
            Self::DeadLettered(reason) => counters.dead_lettered(reason),
            Self::Postponed => &counters.postponed,
            Self::Dropped => &counters.dropped,
        }
    }
}

/// Where deliveries that failed are counted here: the delivery says so from now on.
fn count(message: &mut Message, settlement: &mut Settlement, failed: u32) {
    let info = settlement.info();
    let attempt = failed.saturating_add(1);
    if attempt > info.attempt() {
        let info = info.clone().with_attempt(attempt);
        message.set_delivery(info.clone());
        settlement.set_info(info);
    }
}
