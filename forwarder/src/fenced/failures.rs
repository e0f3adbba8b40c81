//! What becomes of what was not published: what is away is waited for, what is refused is set aside.

use std::pin::{Pin, pin};

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use watermill_core::error::{PublishError, PublishErrorKind, chain};

use super::{
    batch::{Batch, Pending},
    engine::Engine,
};
use crate::{
    end::End,
    relay::{dead_letters::Placed, item::Item, lanes::REFUSED_IN_A_ROW_MAX},
    report,
};

impl Engine<'_> {
    /// Decides what becomes of messages that were not published; returns the checkpoint that may have been
    /// committed all the same.
    pub(super) async fn failed<S: Future<Output = ()>>(
        &mut self,
        batch: &mut Batch,
        size: usize,
        (error, checkpoint): (PublishError, Bytes),
        shutdown: Pin<&mut S>,
    ) -> Result<Option<(Bytes, usize)>, End> {
        let topic = &*self.forwarder.config.topic;
        tracing::warn!(topic, messages = size, error = %chain(&error), "not published");
        match error.kind() {
            PublishErrorKind::Fenced => return Err(End::Fenced(Some(error))),
            PublishErrorKind::Closed => return Err(End::PublisherClosed(error)),
            _ => {}
        }
        if error.is_retryable() {
            self.note(&error);
            self.failures = self.failures.saturating_add(1);
        }
        if error.kind() == PublishErrorKind::Timeout {
            self.size.timed_out(size);
            return Ok(Some((checkpoint, size)));
        }
        if let Some(journal) = &mut self.journal {
            journal.take_back(batch.places(size));
        }
        if error.is_retryable() {
            return Ok(None);
        }
        let missing = |pending: &Pending| pending.destination.as_deref() == Some(error.topic());
        if error.kind() == PublishErrorKind::Topic && batch.first(size).any(missing) {
            let refused = batch.take(|pending| missing(pending));
            self.wait(refused, true, &error);
        } else if let Some(at) = batch.blamed(size, &error, &self.forwarder.config.dead_letter_topic) {
            self.refused(batch, at, error, shutdown).await?;
        } else if size > 1 {
            self.size.narrow(size);
        } else {
            self.refused(batch, 0, error, shutdown).await?;
        }
        Ok(None)
    }

    /// One message was refused: alone, or the destination says that it was that one.
    async fn refused<S: Future<Output = ()>>(
        &mut self,
        batch: &mut Batch,
        at: usize,
        error: PublishError,
        shutdown: Pin<&mut S>,
    ) -> Result<(), End> {
        let Some(mut first) = batch.remove(at) else { return Ok(()) };
        if first.item.refusals == 0 {
            self.refused_in_a_row = self.refused_in_a_row.saturating_add(1);
        }
        first.item.refusals = first.item.refusals.saturating_add(1);
        let refused_at = *first.item.refused_at.get_or_insert(self.commits);
        let believed =
            error.kind() == PublishErrorKind::Message && self.refused_in_a_row <= REFUSED_IN_A_ROW_MAX;
        let for_itself = self.commits > refused_at || believed;
        let attempts_max = self.forwarder.config.attempts;
        if for_itself && !first.is_given_up() && attempts_max.is_some_and(|max| first.item.refusals >= max) {
            return self.give_up(batch, at, first, &error, shutdown).await;
        }
        if self.refused_in_a_row > REFUSED_IN_A_ROW_MAX {
            // Nothing passes: what is behind it is tried ever less often.
            self.note(&error);
            self.failures = self.failures.saturating_add(1);
        }
        let mut refused = batch.take_behind(at, &first);
        refused.insert(0, first);
        self.wait(refused, false, &error);
        Ok(())
    }

    fn wait(&mut self, mut refused: Vec<Pending>, of_the_destination: bool, error: &PublishError) {
        if of_the_destination {
            for pending in &mut refused {
                pending.item.refusals = pending.item.refusals.saturating_add(1);
            }
        }
        let attempts = refused.first().map_or(1, |first| first.item.refusals.max(1));
        let until = Instant::now() + self.forwarder.config.backoff.delay(attempts - 1);
        self.waiting.push(refused, of_the_destination, chain(error), until);
    }

    /// Dead-letters a message: where dead letters are kept, or by the next commit.
    async fn give_up<S: Future<Output = ()>>(
        &mut self,
        batch: &mut Batch,
        at: usize,
        mut pending: Pending,
        error: &PublishError,
        shutdown: Pin<&mut S>,
    ) -> Result<(), End> {
        if !self.forwarder.dead_letters.have_a_place() {
            pending.give_up(&self.forwarder.handler, Some(error));
            batch.insert(at, pending);
            return Ok(());
        }
        let Pending { item, place, destination, .. } = pending;
        let attempts = item.refusals;
        match self.put(item, Some(error), attempts, shutdown).await? {
            Placed::Kept => self.report.gave_up(destination.as_deref(), 1, report::reason(Some(error))),
            Placed::Lost => {}
            Placed::Refused(item, trouble) => {
                tracing::error!(error = %chain(&trouble), "not dead-lettered, the message is held");
                let pending = Pending::new(*item, place, destination);
                let mut refused = batch.take_behind(at, &pending);
                refused.insert(0, pending);
                self.wait(refused, false, &trouble);
            }
        }
        self.go_on()
    }

    /// Dead-letters what is no envelope.
    pub(super) async fn dead_letter_unreadable<S: Future<Output = ()>>(
        &mut self,
        item: Item,
        shutdown: Pin<&mut S>,
    ) -> Result<(), End> {
        match self.put(item, None, 1, shutdown).await? {
            Placed::Kept => self.report.gave_up(None, 1, report::reason(None)),
            Placed::Lost => {}
            Placed::Refused(item, trouble) => {
                // It comes again, and no sooner than the source has been asked for other things.
                tracing::error!(error = %chain(&trouble), "not dead-lettered, the message goes back");
                item.nack_after(self.forwarder.config.backoff.delay(0));
            }
        }
        self.go_on()
    }

    /// Takes a message to where dead letters are kept, within the time that a stop leaves to it: the source may not
    /// record it for as long as it is away. What it was told by then it records with everything else.
    async fn put<S: Future<Output = ()>>(
        &mut self,
        item: Item,
        error: Option<&PublishError>,
        attempts: u32,
        shutdown: Pin<&mut S>,
    ) -> Result<Placed, End> {
        let forwarder = self.forwarder;
        let mut put = pin!(forwarder.dead_letters.put(item, error, attempts, &forwarder.control.shared));
        let deadline = tokio::select! {
            biased;
            placed = &mut put => return Ok(placed),
            () = shutdown => self.stop.insert(forwarder.config.stop_deadlines()).drained,
        };
        timeout_at(deadline, put).await.map_err(|_| End::Shutdown)
    }

    /// Unless it was asked to stop.
    fn go_on(&self) -> Result<(), End> {
        if self.stop.is_some() { Err(End::Shutdown) } else { Ok(()) }
    }
}
