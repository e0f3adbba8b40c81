//! [`Topic`]: the groups of one topic, its history, and the publishers that wait for room.
//!
//! One lock guards all of it. So a message enters every group or none, all groups see the same
//! order, and a publish, a poll and a settlement each take the lock once. Nothing is awaited, woken
//! or dropped that could run foreign code while it is held.

use std::{collections::VecDeque, sync::Arc, task::Waker, time::SystemTime};

use parking_lot::{Mutex, MutexGuard};

use super::{
    config::{History, MemoryConfig},
    group::Group,
    marshaler::{Confirm, Record, Remains},
};
use crate::{
    Message, Window,
    backend::{DeliveryMaker, Next, Wakers},
    delivery::{Outcome, Token},
};

pub(super) struct Topic {
    pub(super) name: Box<str>,
    config: MemoryConfig,
    /// Not the standard library's, whose looks at whether a thread panics are 13 instructions, three times a message.
    state: Mutex<State>,
}

/// The messages of one call.
pub(super) struct Batch {
    pub(super) messages: Vec<Message>,
    pub(super) confirm: Option<Confirm>,
}

/// What became of a batch that was offered.
pub(super) enum Offer {
    /// It was taken.
    Accepted,
    /// There is no room, or others wait already.
    Full,
    /// The broker does not know this topic any more: look for its successor.
    Forgotten,
}

/// Names a reader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) group: u64,
    pub(super) member: u64,
}

struct State {
    /// Sorted by id. A vector: nearly always one, and a publish goes through all of them.
    groups: Vec<Group>,
    history: VecDeque<Record>,
    /// Calls that wait for room, in the order in which they were made. Admitted from the front only.
    waiting: VecDeque<Waiting>,
    next_sequence: u64,
    next_group: u64,
    next_ticket: u64,
    /// Set when the broker forgets the topic, for publishers that still have it at hand.
    forgotten: bool,
}

struct Waiting {
    ticket: u64,
    batch: Batch,
    waker: Option<Waker>,
}

impl Topic {
    pub(super) fn new(name: &str, config: MemoryConfig) -> Self {
        let state = State {
            groups: Vec::new(),
            history: VecDeque::new(),
            waiting: VecDeque::new(),
            next_sequence: 0,
            next_group: 0,
            next_ticket: 0,
            forgotten: false,
        };
        Self { name: name.into(), config, state: Mutex::new(state) }
    }

    /// Accepts messages at once and takes them out of the vector, unless nobody wants them; or leaves them there.
    pub(super) fn offer(&self, messages: &mut Vec<Message>, confirm: Option<&Confirm>) -> Offer {
        let mut wakers = Wakers::default();
        let mut state = self.lock();
        let State { groups, waiting, next_sequence, .. } = &mut *state;
        // Nearly always there is one group, and no history. What is forgotten has none.
        let [group] = &mut **groups else { return self.offer_to_all(state, messages, confirm) };
        if self.config.history != History::None {
            return self.offer_to_all(state, messages, confirm);
        }
        if !waiting.is_empty() || !group.has_room(messages.len(), &self.config) {
            return Offer::Full;
        }
        append(group, next_sequence, messages, confirm);
        group.wake(&mut wakers);
        drop(state);
        wakers.wake();
        Offer::Accepted
    }

    /// The same for any number of groups, and a history.
    #[inline(never)]
    fn offer_to_all(
        &self,
        mut state: MutexGuard<'_, State>,
        messages: &mut Vec<Message>,
        confirm: Option<&Confirm>,
    ) -> Offer {
        if state.forgotten {
            return Offer::Forgotten;
        }
        if !state.waiting.is_empty() || !state.has_room(messages.len(), &self.config) {
            return Offer::Full;
        }
        let mut wakers = Wakers::default();
        let excess = state.append(messages, confirm, &self.config);
        state.wake(&mut wakers);
        drop(state);
        drop(excess);
        wakers.wake();
        Offer::Accepted
    }

    /// Lets a batch wait behind those that wait already, and returns its ticket.
    pub(super) fn enqueue(&self, batch: Batch) -> u64 {
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(Waiting { ticket, batch, waker: None });
        // There may be room by now.
        self.admit_and_wake(state);
        ticket
    }

    /// Whether a batch has been admitted; if not, wakes `waker` when it is.
    pub(super) fn is_admitted(&self, ticket: u64, waker: &Waker) -> bool {
        let mut state = self.lock();
        let Ok(at) = state.find(ticket) else { return true };
        let replaced = state.waiting[at].waker.replace(waker.clone());
        drop(state);
        drop(replaced);
        false
    }

    /// Takes a batch back that is still waiting.
    pub(super) fn withdraw(&self, ticket: u64) {
        let mut state = self.lock();
        let Ok(at) = state.find(ticket) else { return };
        let withdrawn = state.waiting.remove(at);
        // It may have been the large one that held up smaller ones.
        self.admit_and_wake(state);
        drop(withdrawn);
    }

    /// The named group, made if there is none yet, or a new one without a name.
    pub(super) fn open_group(&self, name: Option<&Arc<str>>) -> u64 {
        let mut state = self.lock();
        if let Some(name) = name
            && let Some(group) = state.groups.iter().find(|group| group.name.as_ref() == Some(name))
        {
            return group.id;
        }
        let id = state.next_group;
        state.next_group += 1;
        let group = Group::new(id, name.cloned(), &state.history);
        state.groups.push(group);
        id
    }

    /// Removes a group without a name that nobody reads.
    pub(super) fn close_group(&self, group: u64) {
        let mut state = self.lock();
        let removed = state.remove_if_unused(group);
        self.admit_and_wake(state);
        drop(removed);
    }

    pub(super) fn join(&self, reader: Reader) {
        if let Some(group) = self.lock().group(reader.group) {
            group.join(reader.member);
        }
    }

    pub(super) fn leave(&self, reader: Reader) {
        let mut wakers = Wakers::default();
        let mut state = self.lock();
        let left = state.group(reader.group).is_some_and(|group| group.leave(reader.member, &mut wakers));
        let removed = if left { state.remove_if_unused(reader.group) } else { None };
        self.admit_and_wake(state);
        wakers.wake();
        drop(removed);
    }

    #[inline]
    pub(super) fn next(&self, reader: Reader, deliveries: &mut DeliveryMaker, waker: &Waker) -> Next {
        // Dropped after the lock is released, because it is declared before.
        let mut replaced = None;
        let mut state = self.lock();
        match state.group(reader.group) {
            Some(group) => group.next(reader.member, deliveries, waker, &mut replaced),
            None => Next::Ended,
        }
    }

    /// Takes note of an outcome; false if the reader had no such delivery outstanding. What is left of a record that
    /// leaves the group is put into `left`, for the caller to drop without the lock.
    #[inline]
    pub(super) fn settle(
        &self,
        reader: Reader,
        token: Token,
        outcome: &Outcome,
        left: &mut Option<Remains>,
    ) -> bool {
        let mut wakers = Wakers::default();
        let mut state = self.lock();
        let group = state.group(reader.group);
        let settled =
            group.is_some_and(|group| group.settle(reader.member, token, outcome, left, &mut wakers));
        if state.waiting.is_empty() {
            drop(state);
        } else {
            self.admit_and_wake(state);
        }
        wakers.wake();
        settled
    }

    pub(super) fn handled(&self, reader: Reader, token: Token) {
        self.change(reader, |group, wakers| group.handled(reader.member, token, wakers));
    }

    pub(super) fn set_window(&self, reader: Reader, window: Window) {
        self.change(reader, |group, wakers| group.set_window(reader.member, window, wakers));
    }

    pub(super) fn stop_intake(&self, reader: Reader) {
        self.change(reader, |group, wakers| group.stop_intake(reader.member, wakers));
    }

    /// Whether the reader takes messages, how many it has outstanding, and how many its group holds.
    pub(super) fn look(&self, reader: Reader) -> Option<(bool, usize, usize)> {
        let mut state = self.lock();
        let group = state.group(reader.group)?;
        Some((group.takes(reader.member), group.outstanding(reader.member), group.len()))
    }

    /// Looks at the history, and at the sequence of the next message.
    pub(super) fn history<R>(&self, look: impl FnOnce(&VecDeque<Record>, u64) -> R) -> R {
        let state = self.lock();
        look(&state.history, state.next_sequence)
    }

    /// Whether forgetting the topic would lose nothing.
    pub(super) fn is_dead(&self) -> bool {
        self.lock().is_dead(&self.config)
    }

    /// Marks it as forgotten, if that loses nothing; says whether it did.
    pub(super) fn forget(&self) -> bool {
        let mut state = self.lock();
        state.forgotten = state.is_dead(&self.config);
        state.forgotten
    }

    fn change(&self, reader: Reader, change: impl FnOnce(&mut Group, &mut Wakers)) {
        let mut wakers = Wakers::default();
        if let Some(group) = self.lock().group(reader.group) {
            change(group, &mut wakers);
        }
        wakers.wake();
    }

    /// Admits what has room now, and wakes whom that concerns once the lock is released.
    #[inline(never)]
    fn admit_and_wake(&self, mut state: MutexGuard<'_, State>) {
        let mut wakers = Wakers::default();
        let mut leftovers = Vec::new();
        let mut admitted = false;
        while let Some(first) = state.waiting.front()
            && state.has_room(first.batch.messages.len(), &self.config)
            && let Some(Waiting { batch: Batch { mut messages, confirm }, waker, .. }) =
                state.waiting.pop_front()
        {
            let leftover = state.append(&mut messages, confirm.as_ref(), &self.config);
            leftovers.push((leftover, messages, confirm));
            wakers.extend(waker);
            admitted = true;
        }
        if admitted {
            state.wake(&mut wakers);
        }
        drop(state);
        drop(leftovers);
        wakers.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    #[inline]
    fn group(&mut self, id: u64) -> Option<&mut Group> {
        if self.groups.first().is_some_and(|first| first.id == id) {
            return self.groups.first_mut();
        }
        let at = self.groups.binary_search_by_key(&id, |group| group.id).ok()?;
        self.groups.get_mut(at)
    }

    fn find(&self, ticket: u64) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket)
    }

    fn is_dead(&self, config: &MemoryConfig) -> bool {
        self.groups.is_empty() && self.waiting.is_empty() && config.history == History::None
    }

    fn has_room(&self, messages: usize, config: &MemoryConfig) -> bool {
        self.groups.iter().all(|group| group.has_room(messages, config))
    }

    /// Takes the messages and gives them their place, in every group; leaves them if nobody wants them. What is
    /// returned, and what is left, is to be dropped without the lock.
    fn append(
        &mut self,
        messages: &mut Vec<Message>,
        confirm: Option<&Confirm>,
        config: &MemoryConfig,
    ) -> Option<VecDeque<Record>> {
        let keeps_history = config.history != History::None;
        if self.groups.is_empty() && !keeps_history {
            return None;
        }
        // One look at the clock for a call.
        let published_at = SystemTime::now();
        for message in messages.drain(..) {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            if keeps_history {
                // Without the confirmation: no publisher waits for the history.
                self.history.push_back(Record::new(message.clone(), sequence, published_at, None));
            }
            // The last group gets the original: without a history it is cloned once less.
            if let Some((last, others)) = self.groups.split_last_mut() {
                for group in others {
                    group.push(Record::new(message.clone(), sequence, published_at, confirm));
                }
                last.push(Record::new(message, sequence, published_at, confirm));
            }
        }
        let excess = self.history.len().saturating_sub(config.history.limit());
        (excess > 0).then(|| self.history.drain(..excess).collect())
    }

    #[inline]
    fn wake(&mut self, wakers: &mut Wakers) {
        for group in &mut self.groups {
            group.wake(wakers);
        }
    }

    fn remove_if_unused(&mut self, id: u64) -> Option<Group> {
        let at = self.groups.binary_search_by_key(&id, |group| group.id).ok()?;
        let group = &self.groups[at];
        let unused = group.name.is_none() && !group.has_members();
        unused.then(|| self.groups.remove(at))
    }
}

/// Takes the messages and gives them their place in the only group there is.
#[inline(always)]
fn append(
    group: &mut Group,
    next_sequence: &mut u64,
    messages: &mut Vec<Message>,
    confirm: Option<&Confirm>,
) {
    // One look at the clock for a call.
    let published_at = SystemTime::now();
    // Nearly always there is one, and to pop it takes a third of the instructions that draining does.
    if messages.len() > 1 {
        messages.reverse();
    }
    while let Some(message) = messages.pop() {
        group.push(Record::new(message, *next_sequence, published_at, confirm));
        *next_sequence += 1;
    }
}
