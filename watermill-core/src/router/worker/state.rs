//! [`State`]: what a lane has in hand, and how it goes on.

use std::{
    collections::VecDeque,
    sync::OnceLock,
    task::{Context, Poll, ready},
};

use super::{
    Environment,
    job::{AckedAs, Job, NACK_NOW},
    pipeline::{Pipeline, poll_call},
    readiness::Readiness,
    stage::{Polled, Recalled, Stage},
    timing::Timing,
};
use crate::{
    Delivery, Message, Outputs, Settlement, delivery::Outcome, error::BoxError, message::spans::MadeIn,
};

/// The messages of a lane: at most one being handled, some whose outputs are on their way before it,
/// and as a rule none that waits behind it.
///
/// After a failure that ends in a nack, everything of the lane behind it is nacked too, so that the
/// failed message comes again before any later one. What becomes of failures is in [`failing`](super::failing).
pub(super) struct State<'w> {
    pub(super) env: &'w Environment,
    /// Set by what no other message can escape.
    pub(super) broken: &'w OnceLock<String>,
    pub(super) stage: Stage,
    pub(super) pipeline: Pipeline<'w>,
    /// Deliveries that have not begun.
    pub(super) waiting: VecDeque<Delivery>,
    /// The job whose handler or publisher is being polled. Where that panics, whoever has caught the panic finds the
    /// job here: one net is enough for all messages of a poll, where one for each would be 60 instructions.
    pub(super) in_hand: Option<Job>,
    pub(super) polled: Polled,
    pub(super) timing: Timing,
    /// The worker is at its end: no retry and no nack is waited for any more.
    pub(super) closing: bool,
}

impl<'w> State<'w> {
    pub(super) fn new(env: &'w Environment, broken: &'w OnceLock<String>) -> Self {
        Self {
            env,
            broken,
            stage: Stage::Idle,
            pipeline: Pipeline::new(env.pipeline),
            waiting: VecDeque::new(),
            in_hand: None,
            polled: Polled::Handler,
            timing: Timing::new(env.concurrency.is_sequential()),
            closing: false,
        }
    }

    /// Whether the next message can be handed to the service now.
    #[inline]
    pub(super) fn is_free(&self) -> bool {
        matches!(self.stage, Stage::Idle) && self.pipeline.has_room()
    }

    /// What can be done next.
    #[inline]
    pub(super) fn readiness(&self) -> Readiness {
        if self.is_free() {
            return if self.waiting.is_empty() { Readiness::Room } else { Readiness::CallDue };
        }
        if matches!(self.stage, Stage::RetryDue(_)) { Readiness::CallDue } else { Readiness::Busy }
    }

    /// Whether nothing is in hand.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_idle() && self.waiting.is_empty()
    }

    /// Whether there is nothing to go on with: the usual state between two messages.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle) && self.pipeline.is_empty()
    }

    /// How many deliveries wait their turn.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The job whose handler runs.
    pub(super) fn called(&self) -> Option<&Job> {
        match &self.stage {
            Stage::Calling(job, _) => Some(job),
            _ => None,
        }
    }

    /// The worker is at its end: what has not begun is given back, and nothing is waited for but what runs.
    pub(super) fn give_back(&mut self) {
        self.closing = true;
        self.give_back_waiting();
    }

    /// A delivery that is not to begin, because another owner has its message by now.
    #[cold]
    pub(super) fn lost_unbegun(&self, settlement: Settlement) {
        self.env.counters.lost.increment();
        settlement.nack();
    }

    /// Takes what needs the service.
    pub(super) fn take_due(&mut self) -> Option<(Message, Job)> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::RetryDue(job) if job.settlement.is_lost() => {
                self.lose(job);
                None
            }
            Stage::RetryDue(mut job) => {
                job.tries += 1;
                // What the try before was to be acked as, when its outputs were refused.
                job.acked_as = AckedAs::Done;
                self.env.counters.retried.increment();
                let message = job.message();
                job.trace.next_try(&message, self.env);
                Some((message, job))
            }
            stage => {
                self.stage = stage;
                let delivery = self.waiting.pop_front()?;
                if delivery.is_lost() {
                    self.lost_unbegun(delivery.settlement);
                    return None;
                }
                let (mut message, settlement) = delivery.split();
                let job = Job::new(&mut message, settlement, self.env);
                Some((message, job))
            }
        }
    }

    /// Takes the job whose handler has returned.
    pub(super) fn take_called(&mut self) -> Option<(Job, Recalled)> {
        match self.take_stage() {
            Stage::Calling(job, recalled) => Some((job, recalled)),
            stage => {
                self.stage = stage;
                None
            }
        }
    }

    /// Settles what has reached its turn.
    pub(super) fn poll_pipeline(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some((job, turn))) = self.pipeline.poll_next(cx) {
            if self.pipeline.is_empty() && matches!(self.stage, Stage::Draining) {
                self.stage = Stage::Idle;
            }
            match turn {
                Ok(Outcome::Nack { delay }) => self.go_back(job, delay),
                Ok(outcome) => self.settle(job, outcome),
                Err(error) => self.publish_failed(job, error),
            }
        }
    }

    /// Moves everything but a running handler by one step. Ready when something has changed.
    pub(super) fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.stage {
            Stage::DeadLettering(job, _, call) => {
                let entered = job.trace.enter();
                let polled = poll_call(call, cx);
                drop(entered);
                let result = ready!(polled);
                if let Stage::DeadLettering(job, recalled, _) = self.take_stage() {
                    self.dead_lettered(job, result);
                    self.recall(recalled);
                }
            }
            Stage::RetryWait(_, pause) => {
                if !self.closing {
                    ready!(pause.as_mut().poll(cx));
                }
                if let Stage::RetryWait(job, _) = self.take_stage() {
                    if job.settlement.is_lost() {
                        self.lose(job);
                    } else {
                        self.stage = Stage::RetryDue(job);
                    }
                }
            }
            Stage::RetryDue(_) if self.closing => {
                if let Stage::RetryDue(job) = self.take_stage() {
                    self.decide(job, NACK_NOW);
                }
            }
            Stage::NackWait(_, pause) => {
                if !self.closing {
                    ready!(pause.as_mut().poll(cx));
                }
                if let Stage::NackWait(jobs, _) = self.take_stage() {
                    jobs.into_iter().for_each(|job| self.settle(job, NACK_NOW));
                }
            }
            Stage::Idle | Stage::Draining | Stage::Calling(..) | Stage::RetryDue(_) | Stage::Grouped(..) => {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// The outputs that are to be published with others, and the span that they were made in. Those of a lost delivery
    /// are not.
    pub(super) fn take_grouped(&mut self) -> Option<(Outputs, Option<MadeIn>)> {
        let Stage::Grouped(job, outputs) = &mut self.stage else { return None };
        if job.settlement.is_lost() {
            if let Stage::Grouped(job, _) = self.take_stage() {
                self.lose(job);
            }
            return None;
        }
        let mut outputs = std::mem::replace(outputs, Outputs::none());
        job.name_in(&mut outputs, self.env);
        let mut made_in = None;
        if self.env.info.spans().is_some() {
            for message in outputs.iter_mut() {
                made_in = message.extensions_mut().remove::<MadeIn>().or(made_in);
            }
        }
        Some((outputs, made_in))
    }

    /// Whether outputs wait to be published with others.
    pub(super) fn has_grouped(&self) -> bool {
        matches!(&self.stage, Stage::Grouped(_, outputs) if !outputs.is_empty())
    }

    /// What became of the outputs that were published with others.
    pub(super) fn published(&mut self, result: Result<(), BoxError>) {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Grouped(job, _) => match result {
                Ok(()) => self.accepted(job),
                Err(error) => self.publish_failed(job, error),
            },
            stage => self.stage = stage,
        }
    }

    /// The outputs of a job were accepted.
    #[inline]
    pub(super) fn accepted(&mut self, job: Job) {
        match job.acked_as {
            AckedAs::Done => self.succeeded(job),
            AckedAs::DeadLettered(_) | AckedAs::Postponed | AckedAs::Dropped => {
                self.decide(job, Outcome::Ack)
            }
        }
    }

    /// The usual end, without the choices of the others.
    #[inline(always)]
    pub(super) fn succeeded(&mut self, job: Job) {
        if self.pipeline.is_empty() {
            self.env.counters.acked.increment();
            self.forget_attempts(&job);
            job.settlement.ack();
        } else {
            self.pipeline.push_outcome(job, Outcome::Ack);
        }
    }

    /// Settles a job now, or when those before it are settled.
    pub(super) fn decide(&mut self, job: Job, outcome: Outcome) {
        match outcome {
            Outcome::Nack { delay } if self.pipeline.is_empty() => self.go_back(job, delay),
            outcome if self.pipeline.is_empty() => self.settle(job, outcome),
            Outcome::Nack { .. } => {
                self.stage = Stage::Draining;
                self.pipeline.push_last(job, Ok(outcome));
            }
            outcome => self.pipeline.push_outcome(job, outcome),
        }
    }

    pub(super) fn settle(&mut self, job: Job, outcome: Outcome) {
        if job.settlement.is_lost() {
            return self.lose(job);
        }
        let counters = &self.env.counters;
        match &outcome {
            Outcome::Ack => {
                job.acked_as.counter(counters).increment();
                self.forget_attempts(&job);
            }
            Outcome::Reject { .. } => {
                counters.rejected.increment();
                self.forget_attempts(&job);
            }
            Outcome::Nack { .. } => {
                counters.nacked.increment();
                self.give_back_waiting();
            }
        }
        job.settlement.settle(outcome);
    }

    /// Another owner has the message: nothing more is done for it.
    #[cold]
    pub(super) fn lose(&self, job: Job) {
        self.env.counters.lost.increment();
        tracing::warn!(
            handler = self.env.info.name,
            topic = self.env.info.subscribe_topic,
            message_id = job.trace.message_id(),
            "the subscription has lost the message; nothing more is done for it here"
        );
        // Ignored by the backend; not a delivery that was forgotten.
        job.settlement.nack();
    }

    pub(super) fn give_back_waiting(&mut self) {
        for delivery in std::mem::take(&mut self.waiting) {
            if delivery.is_lost() {
                self.lost_unbegun(delivery.settlement);
            } else {
                self.env.counters.nacked.increment();
                delivery.nack();
            }
        }
    }

    pub(super) fn take_stage(&mut self) -> Stage {
        std::mem::replace(&mut self.stage, Stage::Idle)
    }

    #[inline]
    fn forget_attempts(&self, job: &Job) {
        if let Some(attempts) = &self.env.attempts
            && let Some(id) = job.trace.id()
        {
            attempts.forget(id);
        }
    }
}
