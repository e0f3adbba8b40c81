//! The world that is explored: what may happen next, what it comes to, and what must be true all the time.

use std::time::Duration;

use stateright::{Model, Property};
use watermill_core::delivery::Outcome;

use super::{
    published::Published,
    relay::{Database, REFUSED, Relay, Relaying},
    table::{Id, RowState, Table, Write},
};
use crate::log::Progress;

// What must be true, by its name.
pub(super) const LOST: &str = "nothing is lost";
pub(super) const INVENTED: &str = "nothing is invented";
pub(super) const ORDER: &str = "keys keep their order";
pub(super) const TWICE: &str = "no more comes twice than a batch for each crash";
pub(super) const LETTERS: &str = "a dead letter is one that was refused, and there once";
pub(super) const STANDSTILL: &str = "nothing stands still that is not done";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) table: Table,
    database: Database,
    relays: Vec<Relay>,
    published: Published,
    breaks: u8,
    stops: u8,
    nacks: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Write(usize, Write),
    Claim(usize),
    Read(usize),
    Publish(usize, Id),
    DeadLetter(usize, Id),
    Nack(usize, Id),
    Record(usize),
    /// It is recorded, and the answer does not come.
    RecordUnheard(usize),
    Renew(usize),
    Release(usize),
    Crash(usize),
    /// The lease runs out: its owner is paused, or cut off.
    RunOut,
}

impl Relaying {
    /// Whether the group is done with a row.
    fn has_passed(&self, state: &State, id: Id) -> bool {
        let position = self.rule.position(&state.table, id);
        let Database { position: passed, progress, .. } = &state.database;
        position <= *passed || Progress::decode(progress, *passed).is_done(position)
    }

    fn is_safe(state: &State, id: Id) -> bool {
        match state.table.rows[id].key {
            REFUSED => state.database.dead_letters.contains(&id),
            _ => state.published.has(id),
        }
    }

    fn act(&self, state: &mut State, action: Action) {
        let State { table, database, relays, published, .. } = state;
        match action {
            Action::Write(writer, write) => table.write(&self.plans, writer, write),
            Action::Claim(relay) => {
                if let Some(active) = self.claim(database, relay) {
                    relays[relay] = Relay::Active(Box::new(active));
                }
            }
            Action::RunOut => {
                let is_kept =
                    |relay: &Relay| matches!(relay, Relay::Active(it) if it.token == database.token);
                state.breaks += u8::from(relays.iter().any(is_kept));
                database.has_run_out = true;
            }
            Action::Crash(relay) => {
                database.is_disconnected |= database.owner == Some(relay);
                relays[relay] = Relay::StandingBy;
                state.breaks += 1;
            }
            Action::Read(relay) => {
                if let Relay::Active(active) = &mut relays[relay] {
                    self.read(table, active);
                }
            }
            Action::Publish(relay, id) => {
                published.publish(table, id, |id| table.rows[id].key == REFUSED);
                self.settled(relays, relay, id, Outcome::Ack);
            }
            Action::DeadLetter(relay, id) => {
                self.settled(relays, relay, id, Outcome::Reject { reason: String::new() });
            }
            Action::Nack(relay, id) => {
                self.settled(relays, relay, id, Outcome::Nack { delay: Duration::ZERO });
                state.nacks += 1;
            }
            Action::Record(relay) | Action::RecordUnheard(relay) | Action::Release(relay) => {
                let is_heard = !matches!(action, Action::RecordUnheard(_));
                let Relay::Active(active) = &mut relays[relay] else { return };
                if !self.record(database, active, is_heard) {
                    relays[relay] = Relay::StandingBy;
                } else if let Action::Release(_) = action {
                    database.owner = None;
                    relays[relay] = Relay::StandingBy;
                    state.stops += 1;
                }
                state.breaks += u8::from(!is_heard);
            }
            Action::Renew(relay) => {
                let Relay::Active(active) = &relays[relay] else { return };
                match database.token == active.token && database.position == active.position {
                    true => database.has_run_out = false,
                    false => relays[relay] = Relay::StandingBy,
                }
            }
        }
    }

    fn settled(&self, relays: &mut [Relay], relay: usize, id: Id, outcome: Outcome) {
        if let Relay::Active(active) = &mut relays[relay] {
            self.settle(active, id, outcome);
        }
    }
}

impl Model for Relaying {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            table: Table::new(self.plans.len(), self.rule.sees_statements()),
            database: Database::default(),
            relays: vec![Relay::StandingBy; self.relays],
            published: Published::default(),
            breaks: 0,
            stops: 0,
            nacks: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let State { table, database, relays, .. } = state;
        actions.extend(
            table.writes(&self.plans).into_iter().map(|(writer, write)| Action::Write(writer, write)),
        );
        let may_break = state.breaks < self.breaks_max;
        let is_kept =
            relays.iter().any(|relay| matches!(relay, Relay::Active(it) if it.token == database.token));
        if database.owner.is_some() && !database.has_run_out && (may_break || !is_kept) {
            actions.push(Action::RunOut);
        }
        for (relay, at) in relays.iter().zip(0..) {
            let Relay::Active(active) = relay else {
                // Which relay is first makes no difference.
                if at == 0 || database.token > 0 {
                    actions.push(Action::Claim(at));
                }
                continue;
            };
            actions.push(Action::Read(at));
            for id in self.first_of_keys(table, active) {
                let is_refused = table.rows[id].key == REFUSED;
                actions.push(if is_refused { Action::DeadLetter(at, id) } else { Action::Publish(at, id) });
                if state.nacks < self.nacks_max {
                    actions.push(Action::Nack(at, id));
                }
            }
            if active.ledger.has_unsaved() {
                actions.push(Action::Record(at));
                if may_break {
                    actions.push(Action::RecordUnheard(at));
                }
            }
            if database.has_run_out || database.token != active.token {
                actions.push(Action::Renew(at));
            }
            if state.stops < self.stops_max {
                actions.push(Action::Release(at));
            }
            if may_break {
                actions.push(Action::Crash(at));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.act(&mut state, action);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(LOST, |model, state: &State| {
                let committed = state.table.ids(RowState::Committed);
                committed.into_iter().all(|id| !model.has_passed(state, id) || Self::is_safe(state, id))
            }),
            Property::always(INVENTED, |_, state: &State| state.published.invented.is_none()),
            Property::always(ORDER, |_, state: &State| state.published.out_of_order.is_none()),
            Property::always(TWICE, |model, state: &State| {
                state.published.twice() <= model.batch * usize::from(state.breaks)
            }),
            Property::always(LETTERS, |_, state: &State| {
                let letters = &state.database.dead_letters;
                letters.iter().all(|id| state.table.rows[*id].key == REFUSED)
                    && (1..letters.len()).all(|at| !letters[..at].contains(&letters[at]))
            }),
            Property::always(STANDSTILL, |model, state: &State| {
                let stands = state.table.is_quiet() && model.next_states(state).is_empty();
                let committed = state.table.ids(RowState::Committed);
                !stands
                    || committed.into_iter().all(|id| model.has_passed(state, id) && Self::is_safe(state, id))
            }),
        ]
    }
}
