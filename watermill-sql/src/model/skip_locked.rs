//! [`SkipLocked`]: a common relay, several of which take the oldest row that nobody has locked.
//!
//! `SELECT … WHERE NOT done ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED`, publish, mark it done, commit.

use stateright::{Model, Property};

use super::{
    published::Published,
    table::{Id, Plan, RowState, Table, Write},
    world::{INVENTED, LOST, ORDER, TWICE},
};

pub(super) struct SkipLocked {
    pub(super) plans: Vec<Plan>,
    pub(super) relays: usize,
    pub(super) breaks_max: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    table: Table,
    /// Of each relay, the row that it has locked, and whether it has published it.
    locked: Vec<Option<(Id, bool)>>,
    done: Vec<Id>,
    published: Published,
    breaks: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Write(usize, Write),
    Lock(usize, Id),
    Publish(usize),
    Commit(usize),
    Crash(usize),
}

impl Model for SkipLocked {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            table: Table::new(self.plans.len(), false),
            locked: vec![None; self.relays],
            done: Vec::new(),
            published: Published::default(),
            breaks: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let writes = state.table.writes(&self.plans).into_iter();
        actions.extend(writes.map(|(writer, write)| Action::Write(writer, write)));
        let is_locked = |id: &Id| state.locked.iter().flatten().any(|(locked, _)| locked == id);
        let mut rows = state.table.ids(RowState::Committed).into_iter();
        let oldest = rows.find(|id| !state.done.contains(id) && !is_locked(id));
        for (locked, relay) in state.locked.iter().zip(0..) {
            match locked {
                None => actions.extend(oldest.map(|id| Action::Lock(relay, id))),
                Some((_, false)) => actions.push(Action::Publish(relay)),
                Some((_, true)) => actions.push(Action::Commit(relay)),
            }
            if locked.is_some() && state.breaks < self.breaks_max {
                actions.push(Action::Crash(relay));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let State { table, locked, done, published, .. } = &mut state;
        match action {
            Action::Write(writer, write) => table.write(&self.plans, writer, write),
            Action::Lock(relay, id) => locked[relay] = Some((id, false)),
            Action::Publish(relay) => {
                if let Some((id, is_published)) = &mut locked[relay] {
                    published.publish(table, *id, |_| false);
                    *is_published = true;
                }
            }
            Action::Commit(relay) => {
                done.extend(locked[relay].take().map(|(id, _)| id));
                done.sort_unstable();
            }
            Action::Crash(relay) => {
                locked[relay] = None;
                state.breaks += 1;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(LOST, |_, state: &State| state.done.iter().all(|id| state.published.has(*id))),
            Property::always(INVENTED, |_, state: &State| state.published.invented.is_none()),
            Property::always(ORDER, |_, state: &State| state.published.out_of_order.is_none()),
            Property::always(TWICE, |_, state: &State| state.published.twice() <= usize::from(state.breaks)),
        ]
    }
}
