//! What a lane does about failures: of the handler, of its outputs, of dead letters.

use std::{error::Error, time::Duration};

use super::{
    job::{AckedAs, Job, NACK_NOW},
    stage::{Earlier, Recalled, Stage},
    state::State,
};
use crate::{
    delivery::Outcome,
    error::{BoxError, Panicked, PublishError, PublishErrorKind, chain, find},
    router::{counters::Reason, failure::Decision},
};

impl State<'_> {
    /// A try has failed: asks the policy.
    #[cold]
    pub(super) fn fail(&mut self, mut job: Job, error: BoxError) {
        if job.settlement.is_lost() {
            return self.lose(job);
        }
        let env = self.env;
        self.count_panic(&*error);
        job.trace.failed(&*error, env);
        let decision = env.policy.decide(&*error, job.tries, job.attempt());
        let text = chain(&*error);
        // A dead letter is still published in it.
        if !matches!(decision, Decision::DeadLetter(_)) {
            job.trace.end(env);
        }
        match decision {
            Decision::RetryAfter(delay) => {
                tracing::debug!(
                    handler = env.info.name,
                    message_id = job.trace.message_id(),
                    tries = job.tries,
                    ?delay,
                    error = text,
                    "the handler failed and is tried again in place"
                );
                let pause = job.pause(delay);
                self.stage = Stage::RetryWait(job, pause);
            }
            Decision::Nack(delay) => {
                tracing::warn!(
                    handler = env.info.name,
                    topic = env.info.subscribe_topic,
                    message_id = job.trace.message_id(),
                    attempt = job.attempt(),
                    ?delay,
                    error = text,
                    "the handler failed; the message will be delivered again"
                );
                self.count_failure(&job);
                self.decide(job, Outcome::Nack { delay });
            }
            Decision::DeadLetter(dead_letter) => {
                let acked_as = match dead_letter.delay() {
                    None => {
                        tracing::warn!(
                            handler = env.info.name,
                            topic = env.info.subscribe_topic,
                            message_id = job.trace.message_id(),
                            dead_letter_topic = dead_letter.topic(),
                            tries = job.tries,
                            error = text,
                            "the handler failed; the message goes to the dead-letter topic"
                        );
                        AckedAs::DeadLettered(Reason::of(&*error))
                    }
                    Some(delay) => {
                        tracing::warn!(
                            handler = env.info.name,
                            topic = env.info.subscribe_topic,
                            message_id = job.trace.message_id(),
                            retry_topic = dead_letter.topic(),
                            tries = job.tries,
                            ?delay,
                            error = text,
                            "the handler failed; the message will be handled again from the retry topic"
                        );
                        AckedAs::Postponed
                    }
                };
                let (message, dead_letter) = (job.message(), dead_letter.clone());
                let attempts = job.tries.max(job.attempt());
                let job = job.acked_as(acked_as);
                let send = async move { dead_letter.send(message, error, attempts).await };
                self.stage = Stage::DeadLettering(job, None, Box::pin(send));
            }
            Decision::Reject => self.decide(job, Outcome::Reject { reason: text }),
            Decision::Drop => {
                tracing::error!(
                    handler = env.info.name,
                    topic = env.info.subscribe_topic,
                    message_id = job.trace.message_id(),
                    error = text,
                    "the handler failed; the message is dropped, as its policy says"
                );
                self.decide(job.acked_as(AckedAs::Dropped), Outcome::Ack);
            }
        }
    }

    /// The outputs of a message were refused at once. Those before it are none the worse for it: it fails
    /// when its turn comes.
    pub(super) fn not_accepted(&mut self, job: Job, error: BoxError) {
        if self.pipeline.is_empty() {
            return self.publish_failed(job, error);
        }
        self.stage = Stage::Draining;
        self.pipeline.push_last(job, Err(error));
    }

    /// The outputs of a message were not accepted, and those of all before it were. Whatever comes after
    /// it in the lane goes back, even if its own outputs have been accepted: order before the fewest
    /// duplicates. The message itself is the policy's.
    pub(super) fn publish_failed(&mut self, mut job: Job, error: BoxError) {
        if job.settlement.is_lost() {
            return self.lose(job);
        }
        let closed =
            find::<PublishError>(&*error).is_some_and(|error| error.kind() == PublishErrorKind::Closed);
        let delay = if closed {
            // No later message has more luck: the handler ends, with this one and those behind it back
            // in the subscription.
            let _ = self.broken.set(chain(&*error));
            self.env.stop.tell();
            self.env.policy.nack_delay(job.attempt())
        } else {
            match self.env.policy.decide(&*error, job.tries, job.attempt()) {
                Decision::Nack(delay) => {
                    self.count_panic(&*error);
                    delay
                }
                _ => return self.fail_in_place(job, error),
            }
        };
        tracing::warn!(
            handler = self.env.info.name,
            topic = self.env.info.subscribe_topic,
            message_id = job.trace.message_id(),
            behind = self.pipeline.len(),
            ?delay,
            error = chain(&*error),
            "outputs could not be published; the message and those after it will be delivered again"
        );
        job.trace.failed(&*error, self.env);
        job.trace.end(self.env);
        self.count_failure(&job);
        self.go_back(job, delay);
    }

    /// A message of which all before it are settled goes back after `delay`, and all behind it in the lane too.
    pub(super) fn go_back(&mut self, job: Job, delay: Duration) {
        let waits = self.env.waits_before_nack && !delay.is_zero() && !self.closing;
        if !waits {
            self.settle(job, Outcome::Nack { delay });
            if let Some(running) = self.give_back_behind() {
                *running = Some(Box::new(Earlier::GoneBack));
            }
            return;
        }
        // Nacked before it, those behind it would come again before it.
        let mut jobs = vec![job];
        jobs.extend(self.pipeline.abandon());
        match self.take_stage() {
            Stage::Calling(running, _) => {
                let earlier = Some(Box::new(Earlier::GoesBack(jobs, delay)));
                self.stage = Stage::Calling(running, earlier);
            }
            Stage::DeadLettering(running, _, call) => {
                let earlier = Some(Box::new(Earlier::GoesBack(jobs, delay)));
                self.stage = Stage::DeadLettering(running, earlier, call);
            }
            stage => {
                jobs.extend(stage.into_job());
                self.wait_before_nack(jobs, delay);
            }
        }
    }

    /// A message whose outputs were not accepted is tried again, or put aside, where it is: once what is being
    /// handled behind it has gone back.
    fn fail_in_place(&mut self, job: Job, error: BoxError) {
        match self.give_back_behind() {
            Some(running) => *running = Some(Box::new(Earlier::Failed(job, error))),
            None => self.fail(job, error),
        }
    }

    /// Nacks what comes behind a message that goes back or has failed. What cannot be stopped in the middle is
    /// nacked when it ends: returns the place to note it.
    fn give_back_behind(&mut self) -> Option<&mut Recalled> {
        for job in self.pipeline.abandon() {
            self.settle(job, NACK_NOW);
        }
        if !matches!(self.stage, Stage::Calling(..) | Stage::DeadLettering(..))
            && let Some(job) = self.take_stage().into_job()
        {
            self.settle(job, NACK_NOW);
        }
        match &mut self.stage {
            Stage::Calling(_, recalled) | Stage::DeadLettering(_, recalled, _) => Some(recalled),
            _ => None,
        }
    }

    /// The handler has returned for a message that goes back all the same.
    pub(super) fn handled_in_vain(&mut self, job: Job, earlier: Earlier) {
        match earlier {
            // Behind those before it, in order.
            Earlier::GoesBack(mut jobs, delay) => {
                jobs.push(job);
                self.wait_before_nack(jobs, delay);
            }
            earlier => {
                self.settle(job, NACK_NOW);
                self.recall(Some(Box::new(earlier)));
            }
        }
    }

    /// What ran behind an earlier message has ended: it is the earlier one's turn.
    pub(super) fn recall(&mut self, recalled: Recalled) {
        match recalled.map(|earlier| *earlier) {
            None | Some(Earlier::GoneBack) => {}
            Some(Earlier::Failed(job, error)) => self.fail(job, error),
            Some(Earlier::GoesBack(mut jobs, delay)) => {
                // A dead letter that could not be published waits for the same.
                if let Stage::NackWait(later, _) = self.take_stage() {
                    jobs.extend(later);
                }
                self.wait_before_nack(jobs, delay);
            }
        }
    }

    pub(super) fn dead_lettered(&mut self, job: Job, result: Result<(), BoxError>) {
        let Err(error) = result else {
            return self.decide(job, Outcome::Ack);
        };
        let delay = self.env.policy.nack_delay(job.attempt());
        tracing::error!(
            handler = self.env.info.name,
            topic = self.env.info.subscribe_topic,
            message_id = job.trace.message_id(),
            ?delay,
            error = chain(&*error),
            "the dead letter could not be published; the message will be delivered again"
        );
        self.count_failure(&job);
        self.decide(job, Outcome::Nack { delay });
    }

    fn wait_before_nack(&mut self, jobs: Vec<Job>, delay: Duration) {
        if let Some(first) = jobs.first() {
            let pause = first.pause(delay);
            self.stage = Stage::NackWait(jobs, pause);
        }
    }

    fn count_panic(&self, error: &(dyn Error + 'static)) {
        if find::<Panicked>(error).is_some() {
            self.env.counters.panicked.increment();
        }
    }

    fn count_failure(&self, job: &Job) {
        if let Some(attempts) = &self.env.attempts
            && let Some(id) = job.trace.id()
        {
            attempts.note(id, job.attempt());
        }
    }
}

impl Stage {
    /// The job of a stage that can be given up.
    fn into_job(self) -> Option<Job> {
        match self {
            Self::RetryWait(job, _) | Self::RetryDue(job) | Self::Grouped(job, _) => Some(job),
            Self::Idle
            | Self::Draining
            | Self::Calling(..)
            | Self::DeadLettering(..)
            | Self::NackWait(..) => None,
        }
    }
}
