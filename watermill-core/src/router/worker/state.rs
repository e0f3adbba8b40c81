//! [`State`]: what a lane has in hand, and what becomes of it.

use std::{
    collections::VecDeque,
    future::Future,
    sync::OnceLock,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::sleep;

use super::{
    Environment,
    job::{Job, Outcome, Stage},
    pipeline::{Pipeline, poll_call},
};
use crate::{
    Delivery, Message, Outputs,
    error::{BoxError, PublishError, PublishErrorKind, chain, find},
    handling::while_handling,
    panic::catch,
    router::failure::Decision,
};

/// The messages of a lane: at most one being handled, some whose outputs are on their way before it,
/// some that wait behind it.
///
/// After a failure that ends in a nack, everything of the lane behind it is nacked too, so that the
/// failed message comes again before any later one.
pub(super) struct State<'w> {
    env: &'w Environment,
    /// Set by what no other message can escape.
    broken: &'w OnceLock<String>,
    stage: Stage,
    pipeline: Pipeline<'w>,
    waiting: VecDeque<Delivery>,
    /// An earlier message goes back or has failed: what is handled now goes back too, and nothing more
    /// is taken until nothing is in hand.
    doomed: bool,
    /// Its outputs were not accepted; it is tried again in place, or put aside, once what was being
    /// handled behind it has gone back.
    failed: Option<(Job, BoxError)>,
    /// No retry is waited for any more.
    hurried: bool,
}

impl<'w> State<'w> {
    pub(super) fn new(env: &'w Environment, broken: &'w OnceLock<String>) -> Self {
        Self {
            env,
            broken,
            stage: Stage::Idle,
            pipeline: Pipeline::default(),
            waiting: VecDeque::new(),
            doomed: false,
            failed: None,
            hurried: false,
        }
    }

    pub(super) fn env(&self) -> &'w Environment {
        self.env
    }

    /// Whether the next message can be handed to the service now.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.stage, Stage::Idle) && !self.doomed && self.pipeline.len() <= self.env.pipeline
    }

    /// Whether nothing is in hand.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.stage, Stage::Idle) && self.pipeline.is_empty() && self.waiting.is_empty()
    }

    /// Whether there is a message that needs the service: a retry, or one whose turn has come.
    pub(super) fn has_call_due(&self) -> bool {
        matches!(self.stage, Stage::RetryDue(_)) || (!self.waiting.is_empty() && self.is_free())
    }

    /// How many deliveries wait their turn.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is nothing to go on with: the usual state between two messages.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle) && self.pipeline.is_empty() && !self.doomed
    }

    pub(super) fn is_calling(&self) -> bool {
        matches!(self.stage, Stage::Calling(_))
    }

    pub(super) fn set_stage(&mut self, stage: Stage) {
        self.stage = stage;
    }

    pub(super) fn wait_turn(&mut self, delivery: Delivery) {
        self.waiting.push_back(delivery);
    }

    /// Waits for no retry any more: what would have been tried again is nacked.
    pub(super) fn hurry(&mut self) {
        self.hurried = true;
    }

    /// The handler is at its end: what has not begun is given back.
    pub(super) fn give_back(&mut self) {
        self.hurried = true;
        self.give_back_waiting();
    }

    /// Takes a delivery in hand, for its first try.
    #[inline(always)]
    pub(super) fn begin(&self, delivery: Delivery) -> (Message, Job) {
        let attempt = delivery.info().attempt();
        let (mut message, settlement) = delivery.split();
        message.set_handler(self.env.info.clone());
        let copy = self.env.keeps_copies.then(|| Box::new(message.clone()));
        (message, Job { settlement, copy, tries: 1, attempt })
    }

    /// Takes what needs the service.
    pub(super) fn take_due(&mut self) -> Option<(Message, Job)> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::RetryDue(mut job) => {
                job.tries += 1;
                self.env.counters.retried.increment();
                let message = job.copy.clone().expect("a policy that retries keeps a copy");
                Some((*message, job))
            }
            stage => {
                self.stage = stage;
                let delivery = self.waiting.pop_front()?;
                Some(self.begin(delivery))
            }
        }
    }

    /// Settles what has reached its turn.
    pub(super) fn poll_pipeline(&mut self, cx: &mut Context<'_>) {
        if self.pipeline.is_empty() && !self.doomed {
            return;
        }
        while let Poll::Ready(Some((job, turn))) = self.pipeline.poll_next(cx) {
            match turn {
                Ok(outcome) => self.settle(job, outcome),
                Err(error) => self.publish_failed(job, error),
            }
        }
        if self.doomed && self.pipeline.is_empty() && matches!(self.stage, Stage::Idle) {
            self.doomed = false;
            if let Some((job, error)) = self.failed.take() {
                self.fail(job, error);
            }
        }
    }

    /// Moves everything but a running handler by one step. Ready when something has changed.
    pub(super) fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.stage {
            Stage::DeadLettering(_, call) => {
                let result = ready!(poll_call(call, cx));
                let Stage::DeadLettering(job, _) = std::mem::replace(&mut self.stage, Stage::Idle) else {
                    return Poll::Ready(());
                };
                self.dead_lettered(job, result);
            }
            Stage::Waiting(_, sleep) => {
                if !self.hurried {
                    ready!(sleep.as_mut().poll(cx));
                }
                if let Stage::Waiting(job, _) = std::mem::replace(&mut self.stage, Stage::Idle) {
                    self.stage = Stage::RetryDue(job);
                }
            }
            Stage::RetryDue(_) if self.hurried => {
                if let Stage::RetryDue(job) = std::mem::replace(&mut self.stage, Stage::Idle) {
                    self.decide(job, Outcome::Nack(Duration::ZERO));
                }
            }
            Stage::Idle | Stage::Calling(_) | Stage::RetryDue(_) => return Poll::Pending,
        }
        Poll::Ready(())
    }

    /// Takes the job whose handler has returned.
    pub(super) fn take_called(&mut self) -> Option<Job> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Calling(job) => Some(job),
            stage => {
                self.stage = stage;
                None
            }
        }
    }

    /// The handler has returned.
    #[inline]
    pub(super) fn handled(&mut self, job: Job, result: Result<Outputs, BoxError>, cx: &mut Context<'_>) {
        match result {
            Ok(_) if self.doomed => self.settle(job, Outcome::Nack(Duration::ZERO)),
            Ok(outputs) if outputs.is_empty() => self.succeeded(job),
            Ok(outputs) => self.publish(job, outputs, cx),
            Err(error) => self.fail(job, error),
        }
    }

    /// A try has failed: asks the policy.
    pub(super) fn fail(&mut self, job: Job, error: BoxError) {
        let env = self.env;
        if self.doomed {
            return self.settle(job, Outcome::Nack(Duration::ZERO));
        }
        let decision = env.policy.decide(&*error, job.tries, job.attempt);
        let text = chain(&*error);
        match decision {
            Decision::RetryAfter(delay) => {
                tracing::debug!(
                    handler = env.info.name,
                    tries = job.tries,
                    ?delay,
                    error = text,
                    "the handler failed and is tried again in place"
                );
                self.stage = Stage::Waiting(job, Box::pin(sleep(delay)));
            }
            Decision::Nack(delay) => {
                tracing::warn!(
                    handler = env.info.name,
                    topic = env.info.subscribe_topic,
                    attempt = job.attempt,
                    ?delay,
                    error = text,
                    "the handler failed; the message will be delivered again"
                );
                self.decide(job, Outcome::Nack(delay));
            }
            Decision::DeadLetter(dead_letter) => {
                tracing::warn!(
                    handler = env.info.name,
                    topic = env.info.subscribe_topic,
                    dead_letter_topic = dead_letter.topic(),
                    tries = job.tries,
                    error = text,
                    "the handler failed; the message goes to the dead-letter topic"
                );
                let message = *job.copy.clone().expect("a policy with a dead letter keeps a copy");
                let dead_letter = dead_letter.clone();
                let attempts = job.tries.max(job.attempt);
                let send = async move { dead_letter.send(message, error, attempts).await };
                self.stage = Stage::DeadLettering(job, Box::pin(send));
            }
            Decision::Reject => self.decide(job, Outcome::Rejected(text)),
            Decision::Drop => {
                tracing::error!(
                    handler = env.info.name,
                    topic = env.info.subscribe_topic,
                    error = text,
                    "the handler failed; the message is dropped, as its policy says"
                );
                self.decide(job, Outcome::Dropped);
            }
        }
    }

    fn publish(&mut self, job: Job, mut outputs: Outputs, cx: &mut Context<'_>) {
        let env = self.env;
        if env.commits_with_ack
            && let Some(info) = job.settlement.info()
        {
            outputs.iter_mut().for_each(|message| message.set_delivery(info.clone()));
        }
        // One net for the call and its first poll, which is also the last where nothing is waited for.
        let begun = catch(|| {
            while_handling(|| {
                let mut call = env.sink.publish(outputs)?;
                Ok(match call.as_mut().poll(cx) {
                    Poll::Ready(result) => Begun::Over(result),
                    Poll::Pending => Begun::GoesOn(call),
                })
            })
        });
        match begun {
            Ok(Ok(Begun::Over(Ok(())))) => self.succeeded(job),
            Ok(Ok(Begun::Over(Err(error)))) => self.not_accepted(job, error.into()),
            Ok(Ok(Begun::GoesOn(call))) => self.pipeline.push_call(job, call),
            Ok(Err(misdirected)) => self.fail(job, misdirected),
            Err(panicked) => self.not_accepted(job, panicked.into()),
        }
    }

    /// The outputs of a message were refused at once. Those before it are none the worse for it: it fails
    /// when its turn comes.
    fn not_accepted(&mut self, job: Job, error: BoxError) {
        if self.pipeline.is_empty() {
            return self.publish_failed(job, error);
        }
        self.doomed = true;
        self.pipeline.push_turn(job, Err(error));
    }

    /// The outputs of a message were not accepted, and those of all before it were. Whatever comes after
    /// it in the lane goes back, even if its own outputs have been accepted: order before the fewest
    /// duplicates. The message itself is the policy's.
    fn publish_failed(&mut self, job: Job, error: BoxError) {
        let closed =
            find::<PublishError>(&*error).is_some_and(|error| error.kind() == PublishErrorKind::Closed);
        if closed {
            // No later message has more luck: the handler ends, with this one and those behind it back
            // in the subscription.
            let _ = self.broken.set(chain(&*error));
        }
        let alone = self.pipeline.is_empty() && matches!(self.stage, Stage::Idle);
        if alone && !closed {
            self.doomed = false;
            return self.fail(job, error);
        }
        let delay = match self.env.policy.decide(&*error, job.tries, job.attempt) {
            _ if closed => self.env.policy.nack_delay(job.attempt),
            Decision::Nack(delay) => delay,
            _ => {
                self.give_back_behind();
                if matches!(self.stage, Stage::Idle) {
                    self.doomed = false;
                    self.fail(job, error);
                } else {
                    self.failed = Some((job, error));
                }
                return;
            }
        };
        tracing::warn!(
            handler = self.env.info.name,
            topic = self.env.info.subscribe_topic,
            behind = self.pipeline.len(),
            ?delay,
            error = chain(&*error),
            "outputs could not be published; the message and those after it will be delivered again"
        );
        self.settle(job, Outcome::Nack(delay));
        self.give_back_behind();
    }

    /// Nacks what comes behind a message whose outputs were not accepted.
    fn give_back_behind(&mut self) {
        let behind: Vec<Job> = self.pipeline.abandon().collect();
        for job in behind {
            self.settle(job, Outcome::Nack(Duration::ZERO));
        }
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Waiting(job, _) | Stage::RetryDue(job) => self.settle(job, Outcome::Nack(Duration::ZERO)),
            // What cannot be stopped in the middle is nacked when it ends.
            stage @ (Stage::Calling(_) | Stage::DeadLettering(..)) => {
                self.doomed = true;
                self.stage = stage;
            }
            Stage::Idle => {}
        }
    }

    fn dead_lettered(&mut self, job: Job, result: Result<(), BoxError>) {
        let outcome = match result {
            Ok(()) => Outcome::DeadLettered,
            Err(error) => {
                let delay = self.env.policy.nack_delay(job.attempt);
                tracing::error!(
                    handler = self.env.info.name,
                    topic = self.env.info.subscribe_topic,
                    ?delay,
                    error = chain(&*error),
                    "the dead letter could not be published; the message will be delivered again"
                );
                Outcome::Nack(delay)
            }
        };
        self.decide(job, outcome);
    }

    /// The usual end, without the choices of the others.
    #[inline]
    fn succeeded(&mut self, job: Job) {
        if self.pipeline.is_empty() {
            self.env.counters.acked.increment();
            job.settlement.ack();
        } else {
            self.pipeline.push_turn(job, Ok(Outcome::Ack));
        }
    }

    /// Settles a job now, or when those before it are settled.
    fn decide(&mut self, job: Job, outcome: Outcome) {
        if self.pipeline.is_empty() {
            self.settle(job, outcome);
            return;
        }
        self.doomed |= matches!(outcome, Outcome::Nack(_));
        self.pipeline.push_turn(job, Ok(outcome));
    }

    fn settle(&mut self, job: Job, outcome: Outcome) {
        let counters = &self.env.counters;
        match outcome {
            Outcome::Ack => {
                counters.acked.increment();
                job.settlement.ack();
            }
            Outcome::DeadLettered => {
                counters.dead_lettered.increment();
                job.settlement.ack();
            }
            Outcome::Dropped => {
                counters.dropped.increment();
                job.settlement.ack();
            }
            Outcome::Rejected(reason) => {
                counters.rejected.increment();
                job.settlement.reject(reason);
            }
            Outcome::Nack(delay) => {
                counters.nacked.increment();
                job.settlement.nack_after(delay);
                self.give_back_waiting();
            }
        }
    }

    fn give_back_waiting(&mut self) {
        for delivery in self.waiting.drain(..) {
            self.env.counters.nacked.increment();
            delivery.nack();
        }
    }
}

/// A publish call after its first poll.
enum Begun<'w> {
    Over(Result<(), PublishError>),
    GoesOn(BoxFuture<'w, Result<(), PublishError>>),
}
