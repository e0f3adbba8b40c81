//! [`Lanes`]: which lane a message belongs to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    item::Item,
    lane::{Lane, LaneBatch},
};

/// How many failing destinations are remembered while there is nothing to send to them.
const REMEMBERED_MAX: usize = 1000;

/// A lane for each destination, one more for each key of it that fails on its own, and one for
/// messages that have no destination.
pub(super) struct Lanes {
    destinations: BTreeMap<Arc<str>, Destination>,
    unreadable: Lane,
    call_size: usize,
}

struct Destination {
    main: Lane,
    /// Keys whose messages failed while others of the same call were accepted.
    keys: HashMap<Bytes, Lane>,
}

/// Names a lane.
#[derive(Clone, Debug)]
pub(super) struct LaneId {
    /// `None` for messages that have none.
    pub(super) destination: Option<Arc<str>>,
    key: Option<Bytes>,
}

impl Lanes {
    pub(super) fn new(call_size: usize) -> Self {
        Self { destinations: BTreeMap::new(), unreadable: Lane::new(call_size), call_size }
    }

    /// Puts a message behind those it must not overtake.
    pub(super) fn push(&mut self, destination: Option<String>, item: Item) {
        let Some(destination) = destination else { return self.unreadable.push(item) };
        let lanes = match self.destinations.get_mut(destination.as_str()) {
            Some(lanes) => lanes,
            None => self
                .destinations
                .entry(destination.into())
                .or_insert(Destination { main: Lane::new(self.call_size), keys: HashMap::new() }),
        };
        let key_lane = item.key().and_then(|key| lanes.keys.get_mut(key));
        key_lane.unwrap_or(&mut lanes.main).push(item);
    }

    /// Messages in hand: those of destinations that work, and those of destinations that fail.
    pub(super) fn count(&self) -> (usize, usize) {
        let (mut flowing, mut blocked) = (0, 0);
        for lane in self.all() {
            *if lane.is_failing() { &mut blocked } else { &mut flowing } += lane.len();
        }
        (flowing, blocked)
    }

    /// Takes what the next calls are made of. `healthy_only` leaves out lanes that fail.
    pub(super) fn begin(&mut self, healthy_only: bool) -> Vec<(LaneId, LaneBatch)> {
        let mut begun = Vec::new();
        let mut begin = |destination: Option<&Arc<str>>, key: Option<&Bytes>, lane: &mut Lane| {
            if healthy_only && lane.is_failing() {
                return;
            }
            if let Some(batch) = lane.begin() {
                let id = LaneId { destination: destination.cloned(), key: key.cloned() };
                begun.push((id, batch));
            }
        };
        begin(None, None, &mut self.unreadable);
        for (destination, lanes) in &mut self.destinations {
            begin(Some(destination), None, &mut lanes.main);
            for (key, lane) in &mut lanes.keys {
                begin(Some(destination), Some(key), lane);
            }
        }
        begun
    }

    /// The lane of that name. It is there as long as one of its calls is in progress.
    pub(super) fn get(&mut self, id: &LaneId) -> Option<&mut Lane> {
        let Some(destination) = &id.destination else { return Some(&mut self.unreadable) };
        let lanes = self.destinations.get_mut(destination)?;
        match &id.key {
            Some(key) => lanes.keys.get_mut(key),
            None => Some(&mut lanes.main),
        }
    }

    /// A part of a call was accepted and `items` were not: the keys of those get lanes of their own,
    /// so that other keys need not wait.
    pub(super) fn set_aside(&mut self, id: &LaneId, items: Vec<Item>, retry_at: Instant) {
        let lanes = id.destination.as_ref().and_then(|destination| self.destinations.get_mut(destination));
        let (Some(lanes), None) = (lanes, &id.key) else {
            return self.hold(id, items, retry_at);
        };
        let mut without_key = Vec::new();
        for item in items {
            let Some(key) = item.key().cloned() else {
                without_key.push(item);
                continue;
            };
            let lane = lanes.keys.entry(key).or_insert_with(|| Lane::new(self.call_size));
            if !lane.is_failing() {
                lane.failed(retry_at);
            }
            lane.push(item);
        }
        // What waits in the main lane behind one of these stays behind it.
        for item in
            lanes.main.take_matching(|item| item.key().is_some_and(|key| lanes.keys.contains_key(key)))
        {
            if let Some(lane) = item.key().and_then(|key| lanes.keys.get_mut(key)) {
                lane.push(item);
            }
        }
        if !without_key.is_empty() {
            lanes.main.put_back(without_key);
            lanes.main.failed(retry_at);
        }
    }

    /// Nothing of a call was accepted: its lane waits.
    pub(super) fn hold(&mut self, id: &LaneId, items: Vec<Item>, retry_at: Instant) {
        if let Some(lane) = self.get(id) {
            lane.put_back(items);
            lane.failed(retry_at);
        }
    }

    /// Forgets lanes that have nothing to do. A destination that fails is remembered, so that its next
    /// message does not begin with all attempts again.
    pub(super) fn tidy(&mut self) {
        let mut remembered = 0;
        self.destinations.retain(|_, lanes| {
            lanes.keys.retain(|_, lane| lane.len() > 0);
            let idle = lanes.main.len() == 0 && lanes.keys.is_empty();
            remembered += usize::from(idle && lanes.main.is_failing());
            !idle || (lanes.main.is_failing() && remembered <= REMEMBERED_MAX)
        });
    }

    /// Everything that is not with a call.
    pub(super) fn into_items(self) -> Vec<Item> {
        let Self { destinations, mut unreadable, .. } = self;
        let mut items = unreadable.take_matching(|_| true);
        for mut lanes in destinations.into_values() {
            items.append(&mut lanes.main.take_matching(|_| true));
            for mut lane in lanes.keys.into_values() {
                items.append(&mut lane.take_matching(|_| true));
            }
        }
        items
    }

    fn all(&self) -> impl Iterator<Item = &Lane> {
        let destinations = self
            .destinations
            .values()
            .flat_map(|lanes| std::iter::once(&lanes.main).chain(lanes.keys.values()));
        std::iter::once(&self.unreadable).chain(destinations)
    }
}
