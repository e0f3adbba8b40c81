//! [`Batch`]: messages in hand, in order, and what they are published as.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use watermill_core::{
    HandlerInfo, Message,
    error::{NotAccepted, PublishError},
    fenced::Outgoing,
};

use super::journal::Place;
use crate::relay::item::Item;

/// The most bytes of messages of one transaction, or one message however large it is: few large ones make it as long as many
/// small ones.
pub(super) const BYTES_MAX: usize = 16 * 1024 * 1024;

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
    /// How large it came.
    pub(super) bytes: usize,
    /// Whether it was not looked for yet in what an earlier relay has published.
    new: bool,
}

impl Pending {
    pub(super) fn new(item: Item, place: Place, destination: Option<String>) -> Self {
        let bytes = item.outer.payload().len();
        Self { item, place, destination, dead_letter: None, bytes, new: true }
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

    /// When it was written into the source, if that says so.
    pub(super) fn written_at(&self) -> Option<SystemTime> {
        self.item.written_at()
    }

    /// Whether this is asked for the first time.
    pub(super) fn is_new(&mut self) -> bool {
        std::mem::take(&mut self.new)
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.dead_letter.is_some()
    }

    /// What is published of it.
    fn outgoing(&self) -> &Message {
        match (&self.dead_letter, &self.item.inner) {
            (Some(letter), _) => letter,
            (None, Ok(message)) => message,
            (None, Err(_)) => unreachable!("what is no envelope is given up when it is taken"),
        }
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

    /// Takes one out.
    pub(super) fn remove(&mut self, at: usize) -> Option<Pending> {
        (at < self.0.len()).then(|| self.0.remove(at))
    }

    /// Puts it back to where it was.
    pub(super) fn insert(&mut self, at: usize, pending: Pending) {
        self.0.insert(at, pending);
    }

    /// Takes out what must not overtake `other`, which was there before it was taken out.
    pub(super) fn take_behind(&mut self, at: usize, other: &Pending) -> Vec<Pending> {
        self.0.extract_if(at.., |pending| pending.is_behind(other)).collect()
    }

    /// Takes the first ones out, which have been published.
    pub(super) fn take_first(&mut self, count: usize) -> Vec<Pending> {
        self.0.drain(..count.min(self.0.len())).collect()
    }

    /// The same, as a batch of their own.
    pub(super) fn split_first(&mut self, count: usize) -> Self {
        Self(self.take_first(count))
    }

    pub(super) fn into_all(self) -> Vec<Pending> {
        self.0
    }

    pub(super) fn first(&self, count: usize) -> impl Iterator<Item = &Pending> {
        self.0.iter().take(count)
    }

    /// How many of the first ones are committed together, at most `max` and no more than [`BYTES_MAX`]. What was refused before is tried alone: with others, it
    /// would fail them as well, and be searched for among them again, by one failed transaction after another.
    pub(super) fn together(&self, max: usize) -> usize {
        let was_refused = |pending: &&Pending| pending.item.refused_at.is_some();
        match self.0.first().filter(was_refused) {
            Some(_) => 1,
            None => {
                let mut bytes = 0_usize;
                let fits = |(at, pending): &(usize, &Pending)| {
                    bytes = bytes.saturating_add(pending.bytes);
                    *at == 0 || bytes <= BYTES_MAX && !was_refused(pending)
                };
                self.0.iter().take(max).enumerate().take_while(fits).count()
            }
        }
    }

    /// Puts messages before all others.
    pub(super) fn put_back(&mut self, pending: Vec<Pending>) {
        self.0.splice(0..0, pending);
    }

    /// Whether anything is in both.
    pub(super) fn has_any_of(&self, other: &Self) -> bool {
        let places: HashSet<Place> = other.places(other.len()).collect();
        self.places(self.len()).any(|place| places.contains(&place))
    }

    /// The places of the first ones.
    pub(super) fn places(&self, count: usize) -> impl Iterator<Item = Place> {
        self.0.iter().take(count).map(|pending| pending.place)
    }

    /// The first ones by topic, each topic's in order.
    pub(super) fn outgoing(&self, count: usize, dead_letter_topic: &str) -> Vec<Outgoing> {
        let by_topic = self.by_topic(count, dead_letter_topic).into_iter();
        let outgoing = by_topic.map(|(topic, places)| Outgoing {
            topic: topic.to_owned(),
            messages: places.into_iter().map(|place| self.0[place].outgoing().clone()).collect(),
        });
        outgoing.collect()
    }

    /// The one of the first ones that is at fault, if the destination says that it is that one alone.
    pub(super) fn blamed(
        &self,
        count: usize,
        error: &PublishError,
        dead_letter_topic: &str,
    ) -> Option<usize> {
        let NotAccepted::At(positions) = error.not_accepted() else { return None };
        let [position] = positions[..] else { return None };
        let by_topic = self.by_topic(count, dead_letter_topic).into_iter();
        by_topic.flat_map(|(_, places)| places).nth(position)
    }

    fn by_topic<'b>(&'b self, count: usize, dead_letter_topic: &'b str) -> Vec<(&'b str, Vec<usize>)> {
        let mut by_topic: Vec<(&str, Vec<usize>)> = Vec::new();
        let mut positions: HashMap<&str, usize> = HashMap::new();
        // Most often it is that of the one before.
        let mut last = 0;
        for (place, pending) in self.0.iter().take(count).enumerate() {
            let topic = match (&pending.dead_letter, &pending.destination) {
                (None, Some(destination)) => &**destination,
                _ => dead_letter_topic,
            };
            if by_topic.get(last).is_none_or(|(of_last, _)| *of_last != topic) {
                last = *positions.entry(topic).or_insert_with(|| {
                    by_topic.push((topic, Vec::new()));
                    by_topic.len() - 1
                });
            }
            by_topic[last].1.push(place);
        }
        by_topic
    }
}
