//! [`Sharding`]: how several relays may share a log by the hash of the key, and change how many they are.
//!
//! The relays here do not share a log yet; this is the rule by which they can. Each shard reads all of the log and
//! publishes the rows of its keys. A change of the count is a boundary in the log, behind everything that is decided:
//! the shards from before it end there, and those from after it begin there, once *all* of those have recorded that
//! they have come to it. A key may change its shard then, and no row of it is behind another that is on its way.

use stateright::{Model, Property};

use super::world::{ORDER, STANDSTILL, TWICE};

pub(super) struct Sharding {
    /// The keys of the rows.
    pub(super) keys: Vec<usize>,
    /// How many shards there are, one count after the other.
    pub(super) counts: Vec<usize>,
    pub(super) breaks_max: u8,
    /// Whether shards wait for those before them.
    pub(super) wait: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    written: usize,
    generations: Vec<Generation>,
    times: Vec<u8>,
    is_out_of_order: bool,
    breaks: u8,
}

/// The shards from one change of their count to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Generation {
    /// Rows below it are those of the generations before.
    begins: usize,
    ends: Option<usize>,
    shards: Vec<Shard>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Shard {
    /// Every row of its keys below it is recorded.
    position: usize,
    /// What it has taken, and whether that is published.
    in_hand: Option<(usize, bool)>,
}

/// What happens to the shard of that number in the generation of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Write,
    ChangeCount,
    Take(usize, usize),
    Publish(usize, usize),
    Record(usize, usize),
    Crash(usize, usize),
}

impl Generation {
    fn new(begins: usize, count: usize) -> Self {
        let shard = Shard { position: begins, in_hand: None };
        Self { begins, ends: None, shards: vec![shard; count] }
    }

    /// Whether all of its shards have recorded that they are done.
    fn is_over(&self) -> bool {
        self.ends.is_some_and(|ends| self.shards.iter().all(|shard| shard.position >= ends))
    }
}

impl Sharding {
    fn may_read(&self, state: &State, generation: usize) -> bool {
        !self.wait || state.generations[..generation].iter().all(Generation::is_over)
    }

    /// The next row of a shard's keys, or the end of what it may read.
    fn next(&self, state: &State, generation: usize, shard: usize) -> (usize, bool) {
        let Generation { ends, shards, .. } = &state.generations[generation];
        let end = ends.unwrap_or(state.written).min(state.written);
        let mut rows = shards[shard].position..end;
        rows.find(|row| self.keys[*row] % shards.len() == shard).map_or((end, false), |row| (row, true))
    }
}

impl Model for Sharding {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let (generations, times) = (vec![Generation::new(0, self.counts[0])], vec![0; self.keys.len()]);
        vec![State { written: 0, generations, times, is_out_of_order: false, breaks: 0 }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.written < self.keys.len() {
            actions.push(Action::Write);
        }
        if state.generations.len() < self.counts.len() {
            actions.push(Action::ChangeCount);
        }
        for (at, generation) in state.generations.iter().enumerate() {
            for (number, shard) in generation.shards.iter().enumerate() {
                match shard.in_hand {
                    None if self.may_read(state, at) => actions.push(Action::Take(at, number)),
                    None => {}
                    Some((_, false)) => actions.push(Action::Publish(at, number)),
                    Some((_, true)) => actions.push(Action::Record(at, number)),
                }
                if shard.in_hand.is_some() && state.breaks < self.breaks_max {
                    actions.push(Action::Crash(at, number));
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Write => state.written += 1,
            Action::ChangeCount => {
                let count = self.counts[state.generations.len()];
                let before = state.generations.last_mut().expect("there is a first");
                before.ends = Some(state.written.max(before.begins));
                state.generations.push(Generation::new(state.written, count));
            }
            Action::Take(generation, shard) => {
                let (row, is_ours) = self.next(last, generation, shard);
                let shard = &mut state.generations[generation].shards[shard];
                shard.position = row;
                shard.in_hand = is_ours.then_some((row, false));
            }
            Action::Publish(generation, shard) => {
                let (row, is_published) = state.generations[generation].shards[shard].in_hand.as_mut()?;
                let is_behind =
                    |before: usize| self.keys[before] == self.keys[*row] && last.times[before] == 0;
                state.is_out_of_order |= last.times[*row] == 0 && (0..*row).any(is_behind);
                state.times[*row] += 1;
                *is_published = true;
            }
            Action::Record(generation, shard) => {
                let shard = &mut state.generations[generation].shards[shard];
                shard.position = shard.in_hand.take()?.0 + 1;
            }
            Action::Crash(generation, shard) => {
                state.generations[generation].shards[shard].in_hand = None;
                state.breaks += 1;
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ORDER, |_, state: &State| !state.is_out_of_order),
            Property::always(TWICE, |_, state: &State| {
                let twice: usize = state.times.iter().map(|times| usize::from(times.saturating_sub(1))).sum();
                twice <= usize::from(state.breaks)
            }),
            Property::always(STANDSTILL, |model, state: &State| {
                let is_done = state.times.iter().all(|times| *times > 0);
                is_done || !model.next_states(state).is_empty()
            }),
        ]
    }
}
