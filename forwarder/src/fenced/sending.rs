//! Sending what is in hand: a transaction is filled while the one before it is committed.

use std::{
    future::pending,
    pin::{Pin, pin},
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use tokio::time::Instant;
use tracing::Instrument;
use watermill_core::{
    error::{PublishError, PublishErrorKind},
    fenced::{Commit, Outgoing},
};

use super::{
    batch::{Batch, Pending},
    engine::{Engine, pause},
};
use crate::{
    end::End,
    relay::{source::Source, spans::CallSpan},
    wait::until,
};

/// The least part of a full transaction that is sent while another is committed. Less waits for that, and is joined by what comes
/// meanwhile: a transaction has a fixed price.
const OVERLAPPING_MIN: usize = 4;

/// A transaction: what is in it, and until when it has time.
struct Transaction<'a> {
    checkpoint: Bytes,
    until: Instant,
    span: CallSpan<'a>,
}

/// One that was sent, whose commit is on its way.
struct Committing<'a> {
    batch: Batch,
    transaction: Transaction<'a>,
    commit: BoxFuture<'static, Result<(), PublishError>>,
}

/// Where it has come to.
enum Step<'a> {
    /// The one before is committed, if there was one, and the next one was sent or refused.
    Sent(Result<Commit, PublishError>, Transaction<'a>),
    /// The one before was not committed, and so the next one will never be.
    NotCommitted(PublishError, Committing<'a>),
    /// Nothing was to be sent: the one before is committed, or enough has come to be sent meanwhile.
    Waited,
}

impl<'a> Engine<'a> {
    /// Publishes a batch, and what comes meanwhile, however long it takes.
    pub(super) async fn forward<S: Future<Output = ()>>(
        &mut self,
        mut batch: Batch,
        source: &mut Source,
        mut shutdown: Pin<&mut S>,
    ) -> Result<(), End> {
        // What it is to come behind may have been refused after it was taken.
        self.waiting.keep(&mut batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.begin(&mut batch, None, shutdown.as_mut()).await?;
        self.pass_known(&mut batch);
        let mut last: Option<Committing<'a>> = None;
        loop {
            if batch.is_empty() && self.may_overlap(last.as_ref()) {
                batch = self.absorb();
            }
            // What somebody else has now is for them to publish.
            drop(batch.take(|pending| pending.item.is_lost()));
            self.trying_again = self.trying_again.min(batch.len());
            let waits = self.stop.is_some() || (last.is_some() && self.is_out_of_the_ordinary());
            let size = if waits { 0 } else { batch.together(self.size.get()) };
            if size == 0 && last.is_none() {
                return if self.stop.is_some() { Err(End::Shutdown) } else { Ok(()) };
            }
            self.say_status(batch.len() + last.as_ref().map_or(0, |last| last.batch.len()));
            if last.is_none() {
                self.wait_while_paused(&batch, size, shutdown.as_mut()).await?;
            }
            let next = (size > 0).then(|| self.prepare(&batch, size));
            match self.step(next, &mut last, source, shutdown.as_mut()).await {
                Step::Waited => {}
                Step::Sent(Ok(commit), transaction) => {
                    let commit = commit.ended().instrument(transaction.span.get()).boxed();
                    last = Some(Committing { batch: batch.split_first(size), transaction, commit });
                }
                Step::Sent(Err(error), transaction) => {
                    self.go_on_after(error, (&mut batch, size), transaction, shutdown.as_mut()).await?;
                }
                Step::NotCommitted(error, Committing { batch: sent, transaction, .. }) => {
                    // What was sent behind it is never committed.
                    if let Some(journal) = &mut self.journal {
                        journal.take_back(batch.places(size));
                    }
                    let size = sent.len();
                    batch.put_back(sent.into_all());
                    self.go_on_after(error, (&mut batch, size), transaction, shutdown.as_mut()).await?;
                }
            }
        }
    }

    /// Acks what is known to be published.
    fn pass_known(&mut self, batch: &mut Batch) {
        let journal = self.journal.as_mut().expect("the first term begins one");
        let known = batch.take(|pending| pending.is_new() && journal.is_known(pending.place));
        self.report.repeated += known.len() as u64;
        self.record(known);
    }

    /// Whether one transaction is ended before anything else is sent.
    fn is_out_of_the_ordinary(&self) -> bool {
        self.failures > 0
            || self.trying_again > 0
            || self.waiting.is_due()
            || !self.forwarder.control.shared.pauses().is_empty()
    }

    /// Whether what was taken meanwhile is sent while a commit is on its way. Nothing of it may be in that commit, taken away from us
    /// and delivered again: nobody knows yet whether that is published.
    fn may_overlap(&self, last: Option<&Committing<'_>>) -> bool {
        let enough = self.forwarder.config.transaction_size().div_ceil(OVERLAPPING_MIN);
        self.stop.is_none()
            && self.unsuitable.is_none()
            && self.ahead.is_ordinary()
            && self.ahead.batch.len() >= enough
            && !self.is_out_of_the_ordinary()
            && last.is_some_and(|last| !self.ahead.batch.has_any_of(&last.batch))
    }

    /// What was taken meanwhile, without what waits or is published already.
    fn absorb(&mut self) -> Batch {
        let mut batch = std::mem::take(&mut self.ahead).batch;
        self.waiting.keep(&mut batch);
        self.pass_known(&mut batch);
        batch
    }

    fn prepare(&mut self, batch: &Batch, size: usize) -> (Vec<Outgoing>, Transaction<'a>) {
        let journal = self.journal.as_mut().expect("the first term begins one");
        let checkpoint = journal.publish(batch.places(size));
        let outgoing = batch.outgoing(size, &self.forwarder.config.dead_letter_topic);
        let span = self.span(&outgoing);
        let until = Instant::now() + self.forwarder.config.call_timeout;
        (outgoing, Transaction { checkpoint, until, span })
    }

    /// Sends a transaction, if there is one, while the last is committed. Meanwhile the source records what was published before,
    /// and what comes next is taken. Each has the time that a call may take, or that a stop leaves to it.
    async fn step<S: Future<Output = ()>>(
        &mut self,
        next: Option<(Vec<Outgoing>, Transaction<'a>)>,
        last: &mut Option<Committing<'a>>,
        source: &mut Source,
        shutdown: Pin<&mut S>,
    ) -> Step<'a> {
        let (outgoing, next) = next.unzip();
        let mut term = self.term.take().expect("a term has begun");
        let (sent, not_committed) = {
            let publish = async {
                match (outgoing, &next) {
                    (Some(outgoing), Some(Transaction { checkpoint, span, .. })) => {
                        term.publish(outgoing, checkpoint.clone()).instrument(span.get()).await
                    }
                    _ => pending().await,
                }
            };
            self.run_step(publish, next.as_ref(), last, source, shutdown).await
        };
        self.term = Some(term);
        match (not_committed, sent, next) {
            (Some((error, last)), ..) => Step::NotCommitted(error, last),
            (None, Some(sent), Some(next)) => Step::Sent(sent, next),
            _ => Step::Waited,
        }
    }

    /// Returns what became of the next, if it has come so far, and of the last, if it was not committed.
    async fn run_step<S: Future<Output = ()>>(
        &mut self,
        publish: impl Future<Output = Result<Commit, PublishError>>,
        next: Option<&Transaction<'a>>,
        last: &mut Option<Committing<'a>>,
        source: &mut Source,
        mut shutdown: Pin<&mut S>,
    ) -> (Option<Result<Commit, PublishError>>, Option<(PublishError, Committing<'a>)>) {
        let mut publish = pin!(publish);
        let mut sent = None;
        loop {
            if last.is_none() && (sent.is_some() || next.is_none())
                || next.is_none() && self.may_overlap(last.as_ref())
            {
                return (sent, None);
            }
            let has_room = self.stop.is_none() && self.has_room() && !source.has_ended();
            let stop = self.stop.map(|stop| stop.drained);
            let limit = |transaction: &Transaction<'_>| stop.unwrap_or(transaction.until);
            let sent_by = next.filter(|_| sent.is_none()).map(limit);
            let committed_by = last.as_ref().map(|last| limit(&last.transaction));
            tokio::select! {
                biased;
                ended = committed(last) => match (ended, last.take()) {
                    (Ok(()), Some(last)) => self.committed(last),
                    (Err(error), Some(last)) => return (sent, Some((error, last))),
                    (_, None) => {}
                },
                result = &mut publish, if sent.is_none() => sent = Some(result),
                () = &mut shutdown, if self.stop.is_none() => {
                    self.stop = Some(self.forwarder.config.stop_deadlines());
                }
                () = until(committed_by) => if let Some(last) = last.take() {
                    return (sent, Some((self.late(), last)));
                },
                () = until(sent_by) => sent = Some(Err(self.late())),
                Some(recorded) = self.recording.next() => self.on_recorded(recorded),
                taken = source.next(), if has_room => if let Some(delivery) = taken {
                    self.take_ready(delivery, source).await;
                },
            }
        }
    }

    fn late(&mut self) -> PublishError {
        self.report.cut_short = self.stop.is_some();
        let why = if self.stop.is_some() { "the relay stops" } else { "a commit has not come back" };
        PublishError::new(PublishErrorKind::Timeout, &*self.forwarder.name).because(why)
    }

    fn committed(&mut self, Committing { batch, transaction, .. }: Committing<'_>) {
        let Transaction { checkpoint, span, .. } = transaction;
        let published = batch.into_all();
        span.ended(Some(published.iter().filter_map(Pending::written_at).min()), None);
        self.published(published, checkpoint);
    }

    /// The first messages of a batch were not published, and the term is over.
    async fn go_on_after<S: Future<Output = ()>>(
        &mut self,
        error: PublishError,
        (batch, size): (&mut Batch, usize),
        Transaction { checkpoint, span, .. }: Transaction<'_>,
        mut shutdown: Pin<&mut S>,
    ) -> Result<(), End> {
        span.ended(None, Some(&error));
        if self.stop.is_some() {
            return Err(match error.kind() {
                PublishErrorKind::Fenced => End::Fenced(Some(error)),
                _ => End::Shutdown,
            });
        }
        self.term = None;
        let in_doubt = self.failed(batch, size, (error, checkpoint), shutdown.as_mut()).await?;
        self.say_status(batch.len());
        if self.failures > 0 {
            let delay = self.forwarder.config.backoff.delay(self.failures - 1);
            pause(delay, shutdown.as_mut()).await?;
        }
        self.begin(batch, in_doubt, shutdown).await
    }

    /// Waits for as long as anything of the next transaction is paused.
    async fn wait_while_paused<S: Future<Output = ()>>(
        &mut self,
        batch: &Batch,
        size: usize,
        mut shutdown: Pin<&mut S>,
    ) -> Result<(), End> {
        let forwarder = self.forwarder;
        let shared = &forwarder.control.shared;
        loop {
            let pauses = shared.pauses();
            let is_paused = |pending: &Pending| {
                let (destination, key) =
                    (pending.destination.clone().unwrap_or_default(), pending.item.key());
                key.is_some_and(|key| pauses.contains(&(destination.clone(), Some(key.clone()))))
                    || pauses.contains(&(destination, None))
            };
            if pauses.is_empty() || !batch.first(size).any(is_paused) {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = &mut shutdown => return Err(End::Shutdown),
                () = shared.pauses_changed() => {}
            }
        }
    }
}

/// The end of a commit that is on its way.
async fn committed(last: &mut Option<Committing<'_>>) -> Result<(), PublishError> {
    match last {
        Some(last) => last.commit.as_mut().await,
        None => pending().await,
    }
}
