//! [`Batch`]: messages in hand, in order, and what they are published as.

use std::{collections::HashMap, sync::Arc};

use watermill_core::{HandlerInfo, Message, error::PublishError, fenced::Outgoing};

use super::journal::Place;
use crate::relay::item::Item;

/// Messages in hand, in the order of their deliveries. Dropped, they are nacked.
#[derive(Default)]
pub(super) struct Batch(Vec<Pending>);

/// A message in hand, and where it is going.
pub(super) struct Pending {
    pub(super) item: Item,
    pub(super) place: Place,
    /// `None` for what is no envelope.
    pub(super) destination: Option<String>,
    /// What is published instead, to the dead-letter topic.
    dead_letter: Option<Message>,
    /// Whether it was not looked for yet in what an earlier relay has published.
    new: bool,
}

impl Pending {
    pub(super) fn new(item: Item, place: Place, destination: Option<String>) -> Self {
        Self { item, place, destination, dead_letter: None, new: true }
    }

    /// Gives it up where nobody else keeps its dead letter: that is published instead. The error is that of
    /// its destination.
    pub(super) fn give_up(&mut self, handler: &Arc<HandlerInfo>, error: Option<&PublishError>) {
        self.dead_letter = Some(self.item.dead_letter(handler, error, self.item.refusals.max(1)));
    }

    /// Whether it has to stay behind `other`: they have a destination and a key in common.
    pub(super) fn is_behind(&self, other: &Self) -> bool {
        self.destination == other.destination
            && self.item.key().is_some()
            && self.item.key() == other.item.key()
    }

    /// Whether this is asked for the first time.
    pub(super) fn is_new(&mut self) -> bool {
        std::mem::take(&mut self.new)
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.dead_letter.is_some()
    }
}

impl Batch {
    pub(super) fn push(&mut self, pending: Pending) {
        self.0.push(pending);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out what `matches`, and keeps the order of both parts.
    pub(super) fn take(&mut self, matches: impl FnMut(&mut Pending) -> bool) -> Vec<Pending> {
        self.0.extract_if(.., matches).collect()
    }

    /// Takes the first ones out, which have been published.
    pub(super) fn take_first(&mut self, count: usize) -> Vec<Pending> {
        self.0.drain(..count.min(self.0.len())).collect()
    }

    pub(super) fn first(&self, count: usize) -> impl Iterator<Item = &Pending> {
        self.0.iter().take(count)
    }

    /// Puts messages before all others.
    pub(super) fn put_back(&mut self, pending: Vec<Pending>) {
        self.0.splice(0..0, pending);
    }

    /// The places of the first ones.
    pub(super) fn places(&self, count: usize) -> impl Iterator<Item = Place> {
        self.0.iter().take(count).map(|pending| pending.place)
    }

    /// The first ones by topic, each topic's in order.
    pub(super) fn outgoing(&self, count: usize, dead_letter_topic: &str) -> Vec<Outgoing> {
        let mut outgoing: Vec<Outgoing> = Vec::new();
        let mut positions: HashMap<&str, usize> = HashMap::new();
        for pending in self.0.iter().take(count) {
            let (topic, message) = match (&pending.dead_letter, &pending.destination, &pending.item.inner) {
                (Some(letter), ..) => (dead_letter_topic, letter),
                (None, Some(destination), Ok(message)) => (&**destination, message),
                (None, ..) => unreachable!("what is no envelope is given up when it is taken"),
            };
            let at = *positions.entry(topic).or_insert_with(|| {
                outgoing.push(Outgoing { topic: topic.to_owned(), messages: Vec::new() });
                outgoing.len() - 1
            });
            outgoing[at].messages.push(message.clone());
        }
        outgoing
    }
}
