//! [`Sharding`]: several relays share a log by the hash of the key, and change how many they are.
//!
//! [`Plan`] decides, as in the code. Each shard reads all of the log and publishes the rows of its keys. What it fetches it may
//! publish only as far as the plan allows that it has looked at since; what it was allowed to take in it may publish at any time
//! later.

use stateright::{Model, Property};

use super::world::{ORDER, STANDSTILL, TWICE};
use crate::shards::{Change, Intake, Plan};

pub(super) struct Sharding {
    /// The keys of the rows.
    pub(super) keys: Vec<u32>,
    /// How many shards there are, one count after the other.
    pub(super) counts: Vec<u32>,
    pub(super) breaks_max: u8,
    pub(super) without: Option<Unsharded>,
}

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsharded {
    /// The next generation begins without waiting for the last one.
    Waiting,
    /// The plan is looked at before a fetch.
    LookAfterFetch,
    /// The boundary is set without closing first.
    Closing,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    written: i64,
    plan: Plan,
    changes: usize,
    /// The highest offset, as somebody has read it who is about to set the boundary.
    highest: Option<i64>,
    shards: Vec<Shard>,
    /// Shards of generations that are over, which goes on only where nobody waits for them.
    before: Vec<(Plan, usize, Shard)>,
    times: Vec<u8>,
    is_out_of_order: bool,
    breaks: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Shard {
    /// Every row of its keys up to here is recorded.
    position: i64,
    /// Rows up to here have been fetched, and the plan was not looked at since.
    fetched: Option<i64>,
    /// What the plan has allowed when it was looked at before the fetch.
    looked: Option<i64>,
    /// Rows up to here may be published.
    allowed: i64,
    /// What it publishes, and whether that is done.
    in_hand: Option<(i64, bool)>,
}

/// What happens to the shard of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Write,
    Want,
    Close,
    ReadHighest,
    SetBoundary,
    Turn,
    Fetch(usize),
    Look(usize),
    Take(usize),
    Publish(usize),
    Record(usize),
    Crash(usize),
}

impl Sharding {
    fn lacks(&self, rule: Unsharded) -> bool {
        self.without == Some(rule)
    }

    /// The next row of a shard's keys among those that it may publish, or where they end.
    fn next(&self, plan: &Plan, number: usize, shard: &Shard) -> Result<i64, i64> {
        let mut rows = shard.position + 1..=shard.allowed;
        let is_ours = |row: &i64| self.keys[*row as usize - 1] as usize % plan.shards as usize == number;
        rows.find(is_ours).ok_or(shard.allowed)
    }

    /// Up to where a shard may take in what it has fetched.
    fn allowed(&self, plan: &Plan, generation: u64, fetched: i64) -> i64 {
        match plan.intake(generation) {
            Intake::Everything => fetched,
            Intake::Nothing | Intake::Over => 0,
            Intake::UpTo(boundary) => fetched.min(boundary),
        }
    }

    /// Shards that are at work, with the plan of their generation and their number in it.
    fn at_work(&self, state: &State) -> Vec<(Plan, usize, Shard)> {
        let now =
            state.shards.iter().cloned().zip(0..).map(|(shard, number)| (state.plan.clone(), number, shard));
        now.chain(state.before.iter().cloned()).collect()
    }

    fn shard(state: &mut State, at: usize) -> &mut Shard {
        let now = state.shards.len();
        match state.shards.get_mut(at) {
            Some(_) => &mut state.shards[at],
            None => &mut state.before[at - now].2,
        }
    }
}

impl Model for Sharding {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            written: 0,
            plan: Plan::new(self.counts[0]),
            changes: 0,
            highest: None,
            shards: vec![Shard::default()],
            before: Vec::new(),
            times: vec![0; self.keys.len()],
            is_out_of_order: false,
            breaks: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if (state.written as usize) < self.keys.len() {
            actions.push(Action::Write);
        }
        if state.changes + 1 < self.counts.len() {
            actions.push(Action::Want);
        }
        actions.extend([Action::Close, Action::ReadHighest, Action::SetBoundary, Action::Turn]);
        for (at, (plan, number, shard)) in self.at_work(state).iter().enumerate() {
            match (shard.in_hand, shard.fetched) {
                (Some((_, false)), _) => actions.push(Action::Publish(at)),
                (Some((_, true)), _) => actions.push(Action::Record(at)),
                // What is through need not look at what is not for it.
                (None, None) if plan.intake(plan.generation) == Intake::UpTo(shard.allowed) => {}
                (None, None) if shard.allowed == state.written => {}
                (None, None) => actions.push(Action::Fetch(at)),
                (None, Some(_)) => actions.push(Action::Look(at)),
            }
            if shard.in_hand.is_none() && self.next(plan, *number, shard) != Err(shard.position) {
                actions.push(Action::Take(at));
            }
            if shard.in_hand.is_some() && state.breaks < self.breaks_max {
                actions.push(Action::Crash(at));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let at_work = |at: usize| self.at_work(last).swap_remove(at);
        match action {
            Action::Write => state.written += 1,
            Action::Want => {
                state.changes += 1;
                state.plan = state.plan.want(self.counts[state.changes]);
            }
            Action::Close => state.plan = last.plan.close()?,
            Action::ReadHighest => {
                let is_time = match self.lacks(Unsharded::Closing) {
                    true => last.plan.close().is_some(),
                    false => last.plan.change == Change::Closed,
                };
                state.highest = is_time.then(|| last.highest.unwrap_or(last.written));
            }
            Action::SetBoundary => {
                let closed = if self.lacks(Unsharded::Closing) { last.plan.close() } else { None };
                state.plan = closed.as_ref().unwrap_or(&last.plan).set_boundary(state.highest.take()?)?;
            }
            Action::Turn => {
                let Change::Boundary(boundary) = last.plan.change else { return None };
                let mut positions: Vec<_> = last.shards.iter().map(|shard| shard.position).collect();
                if self.lacks(Unsharded::Waiting) {
                    let before = last.shards.iter().cloned().zip(0..);
                    state.before.extend(before.map(|(shard, number)| (last.plan.clone(), number, shard)));
                    positions.iter_mut().for_each(|position| *position = boundary);
                }
                let (plan, begins) = last.plan.turn(&positions)?;
                let shard = Shard { position: begins, allowed: begins, ..Shard::default() };
                state.shards = vec![shard; plan.shards as usize];
                state.plan = plan;
            }
            Action::Fetch(at) => {
                let (plan, ..) = at_work(at);
                let shard = Self::shard(&mut state, at);
                if self.lacks(Unsharded::LookAfterFetch) && shard.looked.is_none() {
                    shard.looked = Some(self.allowed(&last.plan, plan.generation, i64::MAX));
                } else {
                    shard.fetched = Some(last.written);
                }
            }
            Action::Look(at) => {
                let (plan, ..) = at_work(at);
                let is_over = plan.generation != last.plan.generation && self.lacks(Unsharded::Waiting);
                let current = if is_over { &plan } else { &last.plan };
                let shard = Self::shard(&mut state, at);
                let fetched = shard.fetched.take()?;
                let allowed = match shard.looked.take() {
                    Some(looked) => looked.min(fetched),
                    None => self.allowed(current, plan.generation, fetched),
                };
                shard.allowed = shard.allowed.max(allowed);
            }
            Action::Take(at) => {
                let (plan, number, before) = at_work(at);
                let shard = Self::shard(&mut state, at);
                match self.next(&plan, number, &before) {
                    Ok(row) => (shard.position, shard.in_hand) = (row - 1, Some((row, false))),
                    Err(end) => shard.position = end,
                }
            }
            Action::Publish(at) => {
                let (row, is_published) = Self::shard(&mut state, at).in_hand.as_mut()?;
                *is_published = true;
                let row = *row as usize - 1;
                let is_behind =
                    |before: usize| self.keys[before] == self.keys[row] && last.times[before] == 0;
                state.is_out_of_order |= last.times[row] == 0 && (0..row).any(is_behind);
                state.times[row] += 1;
            }
            Action::Record(at) => {
                let shard = Self::shard(&mut state, at);
                shard.position = shard.in_hand.take()?.0;
            }
            Action::Crash(at) => {
                let shard = Self::shard(&mut state, at);
                *shard = Shard { position: shard.position, allowed: shard.position, ..Shard::default() };
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
