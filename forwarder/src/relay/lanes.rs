//! [`Lanes`]: which lane a message belongs to, and what is known of its destination.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    item::Item,
    lane::{Lane, Trouble},
};
use crate::{ForwarderStatus, Held, call_size::CallSize, control::Pauses};

/// How many failing destinations are remembered while there is nothing to send to them.
const REMEMBERED_MAX: usize = 1000;

/// How many messages in a row a destination may refuse, each for what it is, and be believed. When it
/// refuses more and accepts none in between, something is wrong with the destination.
pub(crate) const REFUSED_IN_A_ROW_MAX: u32 = 3;

/// A lane for each destination, one more for each key of it that fails on its own, and one for
/// messages that have no destination.
pub(super) struct Lanes {
    destinations: BTreeMap<Arc<str>, Destination>,
    unreadable: Lane,
    /// Of a lane that is new.
    call_size: CallSize,
    /// Counts what happens, so that it can be told what was before what.
    clock: u64,
}

struct Destination {
    main: Lane,
    /// What failed on its own, while others of the destination were accepted or may be.
    aside: BTreeMap<Aside, Lane>,
    /// When something was accepted last.
    accepted_at: Option<u64>,
    /// How many messages were refused since then, each for the first time.
    refused_in_a_row: u32,
    /// What somebody wants to wait: all of it, or some keys.
    paused: bool,
    paused_keys: BTreeSet<Bytes>,
}

/// What is set aside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Aside {
    /// All messages of a key.
    Key(Bytes),
    /// Messages without a key, which failed together: others need not wait for them.
    Alone(u64),
}

/// Names a lane.
#[derive(Clone, Debug)]
pub(super) struct LaneId {
    /// `None` for messages that have none.
    pub(super) destination: Option<Arc<str>>,
    pub(super) aside: Option<Aside>,
}

/// How many messages are in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InHand {
    /// Those that wait for nothing but their turn.
    pub(super) flowing: usize,
    /// Those that wait for a destination or a key that is away, slow or paused, or that refuses them.
    pub(super) blocked: usize,
    /// Of all, how many are with a call in progress that is not slow.
    pub(super) in_call: usize,
}

/// What the next call of a lane is made of.
pub(super) struct Call {
    pub(super) lane: LaneId,
    pub(super) items: Vec<Item>,
    /// When it began, by the count of the lanes.
    pub(super) began: u64,
}

impl Lanes {
    pub(super) fn new(call_size: CallSize) -> Self {
        Self { destinations: BTreeMap::new(), unreadable: Lane::new(call_size), call_size, clock: 0 }
    }

    /// Puts a message behind those it must not overtake.
    pub(super) fn push(&mut self, destination: Option<String>, item: Item) {
        let Some(destination) = destination else { return self.unreadable.push(item) };
        let lanes = self.destination(&destination);
        // Nearly always nothing is set aside, and then no key is copied to look for it.
        let aside = item.key().filter(|_| !lanes.aside.is_empty()).cloned().map(Aside::Key);
        aside.and_then(|aside| lanes.aside.get_mut(&aside)).unwrap_or(&mut lanes.main).push(item);
    }

    /// How many messages are blocked of a destination, and of those of a key of it.
    pub(super) fn blocked_of(&self, destination: &str, key: Option<&Bytes>) -> (usize, usize) {
        let Some(lanes) = self.destinations.get(destination) else { return (0, 0) };
        let blocked = || lanes.lanes().filter(|lane| lane.is_blocked());
        let of_key = key.map_or(0, |key| blocked().map(|lane| lane.count_of(key)).sum());
        (blocked().map(Lane::len).sum(), of_key)
    }

    pub(super) fn in_hand(&self) -> InHand {
        let mut in_hand = InHand::default();
        for lane in self.all() {
            if lane.is_blocked() {
                in_hand.blocked += lane.len();
            } else {
                in_hand.flowing += lane.len();
            }
            in_hand.in_call += if lane.is_slow() { 0 } else { lane.in_call() };
        }
        in_hand
    }

    /// Takes what the next calls are made of, no more than `room` in all. `healthy_only` leaves out lanes that
    /// fail.
    pub(super) fn begin(&mut self, now: Instant, mut room: usize, healthy_only: bool) -> Vec<Call> {
        self.clock += 1;
        let began = self.clock;
        let mut calls = Vec::new();
        let mut begin = |destination: Option<&Arc<str>>, aside: Option<&Aside>, lane: &mut Lane| {
            if healthy_only && lane.is_failing() {
                return;
            }
            if let Some(items) = lane.begin(now, room) {
                room -= items.len();
                let lane = LaneId { destination: destination.cloned(), aside: aside.cloned() };
                calls.push(Call { lane, items, began });
            }
        };
        begin(None, None, &mut self.unreadable);
        for (destination, lanes) in &mut self.destinations {
            begin(Some(destination), None, &mut lanes.main);
            for (aside, lane) in &mut lanes.aside {
                begin(Some(destination), Some(aside), lane);
            }
        }
        calls
    }

    /// When something is to be done later than `now`, if nothing happens before. What is due already waits for
    /// room, and something happens when there is any.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.all().filter_map(Lane::due).filter(|due| *due > now).min()
    }

    /// Notices calls that have become slow, and says of which destinations.
    pub(super) fn become_slow(&mut self, now: Instant) -> Vec<(Option<Arc<str>>, usize)> {
        let mut slow = Vec::new();
        if self.unreadable.becomes_slow(now) {
            slow.push((None, self.unreadable.in_call()));
        }
        for (destination, lanes) in &mut self.destinations {
            for lane in lanes.lanes_mut() {
                if lane.becomes_slow(now) {
                    slow.push((Some(Arc::clone(destination)), lane.in_call()));
                }
            }
        }
        slow
    }

    /// A call has come back, with so many messages accepted.
    pub(super) fn ended(&mut self, id: &LaneId, accepted: usize) {
        self.clock += 1;
        let clock = self.clock;
        let Some(lane) = self.get(id) else { return };
        lane.end();
        if accepted == 0 {
            return;
        }
        if let Some(Trouble { error, since }) = lane.succeeded(accepted) {
            let destination = id.destination.as_deref();
            tracing::info!(destination, lasted = ?since.elapsed(), error, "accepted again");
        }
        if let Some(lanes) = self.of(id) {
            if lanes.refused_in_a_row > REFUSED_IN_A_ROW_MAX {
                lanes.main.relieved();
            }
            (lanes.accepted_at, lanes.refused_in_a_row) = (Some(clock), 0);
        }
    }

    /// The lane of that name. It is there as long as one of its calls is in progress.
    pub(super) fn get(&mut self, id: &LaneId) -> Option<&mut Lane> {
        let Some(destination) = &id.destination else { return Some(&mut self.unreadable) };
        let lanes = self.destinations.get_mut(destination)?;
        match &id.aside {
            Some(aside) => lanes.aside.get_mut(aside),
            None => Some(&mut lanes.main),
        }
    }

    /// Takes note that a message was refused alone, in a call that began then, and says whether that is for
    /// what it is: its destination takes others, or it says so itself and may be believed.
    pub(super) fn refused(&mut self, id: &LaneId, item: &mut Item, began: u64, by_its_word: bool) -> bool {
        self.clock += 1;
        let clock = self.clock;
        let Some(lanes) = self.of(id) else { return by_its_word };
        if item.refusals == 0 {
            lanes.refused_in_a_row = lanes.refused_in_a_row.saturating_add(1);
        }
        item.refusals = item.refusals.saturating_add(1);
        let first = *item.refused_at.get_or_insert(clock);
        // After it was refused others were accepted, and then it was refused again.
        let others_pass = lanes.accepted_at.is_some_and(|at| first < at && at < began);
        others_pass || (by_its_word && lanes.refused_in_a_row <= REFUSED_IN_A_ROW_MAX)
    }

    /// Whether so much was refused, and nothing accepted, that the destination is not taken to work.
    pub(super) fn refuses_everybody(&mut self, id: &LaneId) -> bool {
        self.of(id).is_some_and(|lanes| lanes.refused_in_a_row > REFUSED_IN_A_ROW_MAX)
    }

    /// These messages were not accepted while others were, or may be: their keys get lanes of their own that
    /// wait, so that other keys need not.
    pub(super) fn set_aside(
        &mut self,
        id: &LaneId,
        items: Vec<Item>,
        error: &str,
        now: Instant,
        wait: Duration,
    ) {
        self.clock += 1;
        let (clock, call_size) = (self.clock, self.call_size);
        let lanes = self.of(id);
        let (Some(lanes), None) = (lanes, &id.aside) else {
            return self.hold(id, items, error, now, wait);
        };
        for item in items {
            let aside = item.key().cloned().map_or(Aside::Alone(clock), Aside::Key);
            let lane = lanes.aside.entry(aside).or_insert_with(|| Lane::new(call_size));
            if !lane.is_failing() {
                lane.failed(|| error.to_owned(), now, wait);
            }
            lane.push(item);
        }
        lanes.sort_out();
        lanes.apply_pauses();
    }

    /// Lets what is paused wait, and nothing else.
    pub(super) fn pause(&mut self, pauses: &Pauses) {
        for lanes in self.destinations.values_mut() {
            lanes.paused = false;
            lanes.paused_keys.clear();
        }
        for (destination, key) in pauses {
            let lanes = self.destination(destination);
            match key {
                None => lanes.paused = true,
                Some(key) => drop(lanes.paused_keys.insert(key.clone())),
            }
        }
        let call_size = self.call_size;
        for lanes in self.destinations.values_mut() {
            for key in &lanes.paused_keys {
                lanes.aside.entry(Aside::Key(key.clone())).or_insert_with(|| Lane::new(call_size));
            }
            lanes.sort_out();
            lanes.apply_pauses();
        }
        self.tidy();
    }

    /// What waits for something else than its turn.
    pub(super) fn held(&self) -> Vec<Held> {
        let unreadable = std::iter::once((None, None, &self.unreadable));
        let others = self.destinations.iter().flat_map(|(destination, lanes)| {
            let destination = Some(&**destination);
            let aside = lanes.aside.iter().map(move |(aside, lane)| (destination, Some(aside), lane));
            std::iter::once((destination, None, &lanes.main)).chain(aside)
        });
        let held = unreadable.chain(others).filter(|(_, _, lane)| lane.is_blocked() && lane.len() > 0);
        held.take(ForwarderStatus::HELD_MAX)
            .map(|(destination, aside, lane)| Held {
                destination: destination.map(str::to_owned),
                key: aside.and_then(Aside::key).cloned(),
                messages: lane.len(),
                attempts: lane.attempts(),
                error: lane.trouble().map(|trouble| trouble.error.clone()).unwrap_or_default(),
                since: lane.trouble().map(|trouble| trouble.since.elapsed()).unwrap_or_default(),
                paused: lane.paused,
            })
            .collect()
    }

    /// Nothing of a call was accepted: its lane waits.
    pub(super) fn hold(&mut self, id: &LaneId, items: Vec<Item>, error: &str, now: Instant, wait: Duration) {
        if let Some(lane) = self.get(id) {
            lane.put_back(items);
            lane.failed(|| error.to_owned(), now, wait);
        }
    }

    /// Forgets lanes that have nothing to do. A destination that fails is remembered, so that its next
    /// message does not begin with short waits again.
    pub(super) fn tidy(&mut self) {
        let mut remembered = 0;
        self.destinations.retain(|_, lanes| {
            lanes.aside.retain(|_, lane| lane.len() > 0 || lane.paused);
            let idle = lanes.main.len() == 0 && lanes.aside.is_empty() && !lanes.main.paused;
            let matters = lanes.main.is_failing() || lanes.refused_in_a_row > 0;
            remembered += usize::from(idle && matters);
            !idle || (matters && remembered <= REMEMBERED_MAX)
        });
    }

    /// Everything that is not with a call.
    pub(super) fn into_items(self) -> Vec<Item> {
        let Self { destinations, mut unreadable, .. } = self;
        let mut items = unreadable.take_matching(|_| true);
        for mut lanes in destinations.into_values() {
            for lane in lanes.lanes_mut() {
                items.append(&mut lane.take_matching(|_| true));
            }
        }
        items
    }

    fn of(&mut self, id: &LaneId) -> Option<&mut Destination> {
        self.destinations.get_mut(id.destination.as_ref()?)
    }

    fn destination(&mut self, destination: &str) -> &mut Destination {
        if !self.destinations.contains_key(destination) {
            self.destinations.insert(destination.into(), Destination::new(self.call_size));
        }
        self.destinations.get_mut(destination).expect("it was just put there")
    }

    fn all(&self) -> impl Iterator<Item = &Lane> {
        std::iter::once(&self.unreadable).chain(self.destinations.values().flat_map(Destination::lanes))
    }
}

impl Aside {
    fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Key(key) => Some(key),
            Self::Alone(_) => None,
        }
    }
}

impl Destination {
    fn new(call_size: CallSize) -> Self {
        Self {
            main: Lane::new(call_size),
            aside: BTreeMap::new(),
            accepted_at: None,
            refused_in_a_row: 0,
            paused: false,
            paused_keys: BTreeSet::new(),
        }
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        std::iter::once(&self.main).chain(self.aside.values())
    }

    fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        std::iter::once(&mut self.main).chain(self.aside.values_mut())
    }

    /// What waits in the main lane behind a message that was set aside stays behind it.
    fn sort_out(&mut self) {
        let is_aside =
            |item: &Item| item.key().is_some_and(|key| self.aside.contains_key(&Aside::Key(key.clone())));
        for item in self.main.take_matching(is_aside) {
            let aside = item.key().cloned().map(Aside::Key);
            if let Some(lane) = aside.and_then(|aside| self.aside.get_mut(&aside)) {
                lane.push(item);
            }
        }
    }

    fn apply_pauses(&mut self) {
        self.main.paused = self.paused;
        for (aside, lane) in &mut self.aside {
            lane.paused = self.paused || aside.key().is_some_and(|key| self.paused_keys.contains(key));
        }
    }
}
