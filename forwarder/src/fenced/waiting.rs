//! [`Waiting`]: what was refused and is tried again later, while others are committed without it.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::time::Instant;

use super::batch::{Batch, Pending};
use crate::{ForwarderStatus, Held};

/// Messages that were refused, and those that must not overtake them, in the order of their deliveries.
#[derive(Default)]
pub(super) struct Waiting {
    messages: Vec<Pending>,
    /// Destinations that take nothing, and keys of destinations; with the error, and since when.
    refused: BTreeMap<(Option<String>, Option<Bytes>), (String, Instant)>,
    until: Option<Instant>,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// When they are to be tried again.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether that is now.
    pub(super) fn is_due(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// Lets messages wait, the first of them refused because of `error`; the whole destination if it is that
    /// which takes nothing.
    pub(super) fn push(
        &mut self,
        messages: Vec<Pending>,
        of_the_destination: bool,
        error: String,
        until: Instant,
    ) {
        if let Some(first) = messages.first() {
            let key = first.item.key().filter(|_| !of_the_destination).cloned();
            if of_the_destination || key.is_some() {
                let refused = self.refused.entry((first.destination.clone(), key));
                refused.and_modify(|refused| refused.0.clone_from(&error)).or_insert((error, Instant::now()));
            }
        }
        self.messages.extend(messages);
        self.until = Some(self.until.map_or(until, |other| other.min(until)));
    }

    /// Keeps what has to wait behind others, and leaves the rest.
    pub(super) fn keep(&mut self, batch: &mut Batch) {
        if !self.messages.is_empty() {
            let held = batch.take(|pending| self.holds(pending));
            self.messages.extend(held);
        }
    }

    fn holds(&self, pending: &Pending) -> bool {
        let of =
            |key: Option<&Bytes>| self.refused.contains_key(&(pending.destination.clone(), key.cloned()));
        of(None) || pending.item.key().is_some_and(|key| of(Some(key)))
    }

    /// Everything, to be tried again. What is refused again says so again.
    pub(super) fn take(&mut self) -> Batch {
        self.until = None;
        let mut batch = Batch::default();
        batch.put_back(std::mem::take(&mut self.messages));
        batch
    }

    /// Everything was tried: what is not there any more was accepted or given up.
    pub(super) fn tidy(&mut self) {
        let messages = &self.messages;
        self.refused.retain(|(destination, key), _| {
            messages.iter().any(|pending| {
                pending.destination == *destination
                    && key.as_ref().is_none_or(|key| pending.item.key() == Some(key))
            })
        });
    }

    /// What waits, by destination and key.
    pub(super) fn held(&self) -> Vec<Held> {
        let of = |destination: &Option<String>, key: &Option<Bytes>| {
            let (destination, key) = (destination.clone(), key.clone());
            self.messages.iter().filter(move |pending| {
                pending.destination == destination
                    && key.as_ref().is_none_or(|key| pending.item.key() == Some(key))
            })
        };
        let refused = self.refused.iter().take(ForwarderStatus::HELD_MAX);
        refused
            .map(|((destination, key), (error, since))| Held {
                destination: destination.clone(),
                key: key.clone(),
                messages: of(destination, key).count(),
                attempts: of(destination, key).map(|pending| pending.item.refusals).max().unwrap_or(0),
                error: error.clone(),
                since: since.elapsed(),
                paused: false,
            })
            .collect()
    }
}
