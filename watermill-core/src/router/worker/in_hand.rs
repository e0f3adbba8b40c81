//! The job in hand: its handler is polled, and the call that publishes its outputs.

use std::task::{Context, Poll};

use super::{
    job::{AckedAs, Job},
    stage::{Polled, Stage},
    state::State,
};
use crate::{
    Outputs, delivery::Outcome, error::BoxError, handling::while_handling, router::counters::Reason,
};

impl State<'_> {
    /// Takes a job in hand, whose handler is polled now.
    #[inline(always)]
    pub(super) fn take_in_hand(&mut self, job: Job) {
        self.polled = Polled::Handler;
        // Nothing is in hand: there is nothing to drop, and no call to find that out.
        std::mem::forget(self.in_hand.replace(job));
    }

    /// The job in hand.
    #[inline(always)]
    pub(super) fn in_hand(&self) -> Option<&Job> {
        self.in_hand.as_ref()
    }

    /// Takes the job whose handler or publisher has panicked.
    pub(super) fn take_panicked(&mut self) -> Option<(Polled, Job)> {
        self.in_hand.take().map(|job| (self.polled, job))
    }

    /// The handler of the job in hand goes on later.
    pub(super) fn calling(&mut self) {
        if let Some(job) = self.in_hand.take() {
            self.stage = Stage::Calling(job, None);
        }
    }

    /// The handler of the job in hand has returned.
    #[inline]
    pub(super) fn handled(&mut self, result: Result<Outputs, BoxError>, cx: &mut Context<'_>) {
        let Some(job) = &self.in_hand else { return };
        match result {
            Ok(outputs) if !outputs.is_empty() && !self.env.is_batch && !job.settlement.is_lost() => {
                self.publish(outputs, cx);
            }
            result => self.handled_otherwise(result),
        }
    }

    /// Where nothing is published at once.
    #[inline]
    fn handled_otherwise(&mut self, result: Result<Outputs, BoxError>) {
        let Some(mut job) = self.in_hand.take() else { return };
        match result {
            Ok(_) if job.settlement.is_lost() => self.lose(job),
            Ok(outputs) if outputs.is_empty() => match outputs.dead_lettered_as() {
                None => self.succeeded(job),
                Some(reason) => {
                    self.dead_lettered_inside(&mut job, reason);
                    self.decide(job, Outcome::Ack);
                }
            },
            Ok(outputs) => {
                // A layer may have added outputs to those of a dead letter.
                if let Some(reason) = outputs.dead_lettered_as() {
                    self.dead_lettered_inside(&mut job, reason);
                }
                self.stage = Stage::Grouped(job, outputs);
            }
            Err(error) => self.fail(job, error),
        }
    }

    /// A layer has dead-lettered the message. Of the error that the try has ended with, only the reason has come out.
    #[cold]
    fn dead_lettered_inside(&self, job: &mut Job, reason: Reason) {
        if reason == Reason::Panic {
            self.env.counters.panicked.increment();
        }
        job.acked_as = AckedAs::DeadLettered(reason);
    }

    /// Apart, because most of what a handler without outputs would make room for is in here. The call and its first
    /// poll are all there is where nothing is waited for.
    #[inline(never)]
    fn publish(&mut self, mut outputs: Outputs, cx: &mut Context<'_>) {
        self.time_has_passed();
        if let Some(reason) = outputs.dead_lettered_as()
            && let Some(mut job) = self.in_hand.take()
        {
            self.dead_lettered_inside(&mut job, reason);
            self.in_hand = Some(job);
        }
        let Some(job) = &self.in_hand else { return };
        let env = self.env;
        job.name_in(&mut outputs, env);
        self.polled = Polled::Publisher;
        let entered = job.trace.enter();
        let begun = while_handling(|| {
            let mut call = env.sink.publish(outputs)?;
            Ok((call.as_mut().poll(cx), call))
        });
        drop(entered);
        let Some(job) = self.in_hand.take() else { return };
        match begun {
            Ok((Poll::Ready(Ok(())), _)) => self.accepted(job),
            Ok((Poll::Ready(Err(error)), _)) => self.not_accepted(job, error.into()),
            Ok((Poll::Pending, call)) => self.pipeline.push_call(job, call),
            Err(misdirected) => self.fail(job, misdirected),
        }
    }
}
