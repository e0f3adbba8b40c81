//! The terms of the destination: beginning one.

use std::pin::Pin;

use bytes::Bytes;
use tokio::time::sleep;
use watermill_core::{
    error::{PublishError, PublishErrorKind, chain},
    fenced::Outgoing,
    subscriber::Ordering,
};

use super::{
    batch::Batch,
    engine::{Engine, pause},
    journal::Journal,
};
use crate::{end::End, relay::spans::CallSpan};

impl<'a> Engine<'a> {
    /// Begins a term unless there is one, however long it takes, and sees who was at work in between.
    pub(super) async fn begin<S: Future<Output = ()>>(
        &mut self,
        batch: &mut Batch,
        in_doubt: Option<(Bytes, usize)>,
        mut shutdown: Pin<&mut S>,
    ) -> Result<(), End> {
        if self.term.is_some() {
            return Ok(());
        }
        let (name, topic) = (&*self.forwarder.name, &*self.forwarder.config.topic);
        let term = loop {
            let begun = tokio::select! {
                biased;
                () = &mut shutdown => return Err(End::Shutdown),
                begun = self.forwarder.destination.begin(name) => begun,
                () = sleep(self.forwarder.config.call_timeout) => {
                    Err(PublishError::new(PublishErrorKind::Timeout, name).because("no term has begun"))
                }
            };
            let error = match begun {
                Ok(term) => break term,
                Err(error) if error.kind() == PublishErrorKind::Closed => {
                    return Err(End::PublisherClosed(error));
                }
                Err(error) => error,
            };
            tracing::error!(topic, name, error = %chain(&error), "the destination cannot be taken over yet");
            self.note(&error);
            self.say_status(batch.len());
            let delay = self.forwarder.config.backoff.delay(self.failures);
            self.failures = self.failures.saturating_add(1);
            pause(delay, shutdown.as_mut()).await?;
        };
        let found = term.checkpoint();
        let Some(journal) = &mut self.journal else {
            let in_hand_max = self.forwarder.config.transaction_window(Ordering::None).total();
            let journal = Journal::after(found, in_hand_max).ok_or_else(|| {
                End::Unsuitable(format!("the destination has a checkpoint of {name:?} that is not a relay's"))
            })?;
            self.journal = Some(journal);
            self.checkpoint = found.cloned();
            self.term = Some(term);
            return Ok(());
        };
        match in_doubt {
            Some((checkpoint, size)) if found == Some(&checkpoint) => {
                self.published(batch.take_first(size), checkpoint);
            }
            _ if found != self.checkpoint.as_ref() => return Err(End::Fenced(None)),
            Some((_, size)) => journal.take_back(batch.places(size)),
            None => {}
        }
        self.term = Some(term);
        Ok(())
    }

    /// The span of a commit: to a topic, if all go to one.
    pub(super) fn span(&self, outgoing: &[Outgoing]) -> CallSpan<'a> {
        let forwarder = self.forwarder;
        let ends = (&*forwarder.config.topic, forwarder.destination.backend());
        let destination = match outgoing {
            [only] => Some(&*only.topic),
            _ => None,
        };
        let messages = outgoing.iter().flat_map(|outgoing| &outgoing.messages);
        CallSpan::new(forwarder.spans.as_ref(), ends, destination, messages)
    }
}
