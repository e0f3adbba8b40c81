//! [`Topic`]: the groups of one topic, its history, and the publishers that wait for room.
//!
//! One lock guards all of it. So a message enters every group or none, all groups see the same
//! order, and a publish, a poll and a settlement each take the lock once. Nothing is awaited, woken
//! or dropped that could run foreign code while it is held.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::SystemTime,
};

use super::{
    config::{History, MemoryConfig},
    group::Group,
    marshaler::{Confirm, Record},
};
use crate::{
    Message, Window,
    backend::{Next, Wakers},
    delivery::{Origin, Outcome, Token},
};

pub(super) struct Topic {
    pub(super) name: Box<str>,
    config: MemoryConfig,
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

/// What an append leaves to be dropped without the lock.
enum Leftover {
    /// Nobody wants them.
    Messages(#[expect(dead_code, reason = "kept to be dropped")] Vec<Message>),
    /// The history is full.
    History(#[expect(dead_code, reason = "kept to be dropped")] VecDeque<Record>),
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

    /// Accepts a batch at once and takes it out of its place, or leaves it there.
    pub(super) fn offer(&self, offered: &mut Option<Batch>) -> Offer {
        let Some(batch) = offered else { return Offer::Accepted };
        let mut wakers = Wakers::default();
        let mut state = self.lock();
        if state.forgotten {
            return Offer::Forgotten;
        }
        if !state.waiting.is_empty() || !state.has_room(batch.messages.len(), &self.config) {
            return Offer::Full;
        }
        let Some(Batch { messages, confirm }) = offered.take() else { return Offer::Accepted };
        let leftover = state.append(messages, confirm.as_ref(), &self.config);
        state.wake(&mut wakers);
        drop(state);
        drop(confirm);
        drop(leftover);
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
    pub(super) fn next(&self, reader: Reader, origin: &Origin, waker: &Waker) -> Next {
        // Dropped after the lock is released, because it is declared before.
        let mut replaced = None;
        let mut state = self.lock();
        match state.group(reader.group) {
            Some(group) => group.next(reader.member, origin, waker, &mut replaced),
            None => Next::Ended,
        }
    }

    /// Takes note of an outcome; false if the reader had no such delivery outstanding. A record that
    /// leaves the group is put into `left`, for the caller to drop without the lock.
    pub(super) fn settle(
        &self,
        reader: Reader,
        token: Token,
        outcome: &Outcome,
        left: &mut Option<Record>,
    ) -> bool {
        let mut wakers = Wakers::default();
        let mut state = self.lock();
        let settled = state
            .group(reader.group)
            .is_some_and(|group| group.settle(reader.member, token, outcome, left, &mut wakers));
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
            && let Some(Waiting { batch: Batch { messages, confirm }, waker, .. }) = state.waiting.pop_front()
        {
            leftovers.push((state.append(messages, confirm.as_ref(), &self.config), confirm));
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn group(&mut self, id: u64) -> Option<&mut Group> {
        let at = match &*self.groups {
            [first, ..] if first.id == id => 0,
            groups => groups.binary_search_by_key(&id, |group| group.id).ok()?,
        };
        self.groups.get_mut(at)
    }

    fn find(&self, ticket: u64) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket)
    }

    fn is_dead(&self, config: &MemoryConfig) -> bool {
        self.groups.is_empty() && self.waiting.is_empty() && config.history == History::None
    }

    fn has_room(&self, messages: usize, config: &MemoryConfig) -> bool {
        self.groups.iter().all(|group| group.len().saturating_add(messages) <= config.capacity)
    }

    /// Gives the messages their place, in every group. The confirmation, and what is returned, are to be
    /// dropped without the lock.
    #[inline(always)]
    fn append(
        &mut self,
        messages: Vec<Message>,
        confirm: Option<&Confirm>,
        config: &MemoryConfig,
    ) -> Option<Leftover> {
        let keeps_history = !matches!(config.history, History::None);
        if self.groups.is_empty() && !keeps_history {
            return Some(Leftover::Messages(messages));
        }
        // One look at the clock for a call.
        let published_at = SystemTime::now();
        for message in messages {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            let record = |message, confirm| Record::new(message, sequence, published_at, confirm);
            if keeps_history {
                // Without the confirmation: no publisher waits for the history.
                self.history.push_back(record(message.clone(), None));
            }
            // The last group gets the original: with one group and no history nothing is cloned.
            if let Some((last, others)) = self.groups.split_last_mut() {
                for group in others {
                    group.push(record(message.clone(), confirm.cloned()));
                }
                last.push(record(message, confirm.cloned()));
            }
        }
        if !keeps_history {
            return None;
        }
        let excess = self.history.len().saturating_sub(config.history.limit());
        (excess > 0).then(|| Leftover::History(self.history.drain(..excess).collect()))
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
