//! [`Fencing`]: what may happen next, and what must be true all the time.

use std::collections::BTreeSet;

use bytes::Bytes;
use stateright::{Model, Property};

use super::relay::{Commit, Id, Relay};

// What must be true, by its name.
pub(super) const LOST: &str = "nothing is lost";
pub(super) const ORDER: &str = "messages come in order";
pub(super) const TWICE: &str = "nothing comes twice";
pub(super) const STANDSTILL: &str = "nothing stands still that is not done";

pub(super) struct Fencing {
    pub(super) without: Option<Without>,
    pub(super) messages: usize,
    pub(super) relays: usize,
    /// How many messages a relay has in hand at most.
    pub(super) in_hand_max: usize,
    /// How often a relay dies, is succeeded while it lives, or gets no answer.
    pub(super) breaks_max: u8,
}

/// A rule that is left out, to see that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// The destination takes what an earlier term has sent.
    Fencing,
    /// A relay that starts does not read the checkpoint.
    Checkpoint,
    /// The checkpoint is not kept in the transaction, but after its answer has come.
    OneTransaction,
    /// What is not answered is taken for not committed.
    Doubt,
    /// The journal forgets before everything has come that may come again.
    Memory,
    /// What was sent next is committed whatever becomes of what is before it.
    Sequence,
    /// What is being committed, and is delivered again meanwhile, is taken for published.
    Patience,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// Whose the messages are, and how often that has changed.
    owner: Option<usize>,
    turn: u64,
    /// Delivered in this turn and not recorded.
    out: BTreeSet<Id>,
    recorded: BTreeSet<Id>,
    /// The destination's: its term, its checkpoint, and what has come.
    term: u64,
    checkpoint: Option<Bytes>,
    times: Vec<u8>,
    is_out_of_order: bool,
    /// What was sent by those who do not wait for it any more.
    on_the_way: Vec<Commit>,
    relays: Vec<Option<Relay>>,
    runs: u64,
    breaks: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// The source gives its messages to this relay from now on.
    TakeOver(usize),
    Deliver(usize),
    Begin(usize),
    Send(usize),
    /// What it has sent arrives, and the answer with it.
    Commit(usize),
    /// It arrives, and the answer does not; or neither does yet.
    GiveUp(usize),
    /// What somebody has sent who does not wait for it any more.
    CommitLate(usize),
    Record(usize),
    Crash(usize),
}

impl Fencing {
    fn lacks(&self, rule: Without) -> bool {
        self.without == Some(rule)
    }

    /// Commits, if the term lasts.
    fn commit(&self, state: &mut State, commit: &Commit) -> bool {
        if commit.term != state.term && !self.lacks(Without::Fencing) {
            return false;
        }
        for (id, _) in &commit.messages {
            state.is_out_of_order |= state.times[*id] == 0 && state.times[..*id].contains(&0);
            state.times[*id] += 1;
        }
        if !self.lacks(Without::OneTransaction) {
            state.checkpoint = Some(commit.checkpoint.clone());
        }
        true
    }

    /// Something happens to a relay that runs; it is returned unless it ends.
    fn relay(&self, state: &mut State, at: usize, mut relay: Relay, action: Action) -> Option<Relay> {
        match action {
            Action::Deliver(_) => {
                let next =
                    (0..self.messages).find(|id| !state.recorded.contains(id) && !state.out.contains(id));
                if let Some(next) = next {
                    state.out.insert(next);
                    relay.in_hand.push((next, state.turn));
                }
            }
            Action::Begin(_) => {
                state.term += 1;
                let found = state.checkpoint.clone().filter(|_| !self.lacks(Without::Checkpoint));
                if self.lacks(Without::Doubt)
                    && let Some(commit) = relay.in_doubt.take()
                {
                    relay.checkpoint.clone_from(&found);
                    relay
                        .journal
                        .as_mut()?
                        .take_back(commit.messages.iter().map(|(id, _)| super::relay::place(*id)));
                    relay.in_hand.splice(0..0, commit.messages);
                }
                let in_hand_max = if self.lacks(Without::Memory) { 0 } else { self.in_hand_max };
                if !relay.begin(state.term, found, in_hand_max) {
                    return self.end(state, at);
                }
            }
            Action::Send(_) => relay.send(state.turn, !self.lacks(Without::Patience)),
            Action::Commit(_) => {
                let commit = relay.sent.take()?;
                if !self.commit(state, &commit) {
                    return self.end(state, at);
                }
                state.checkpoint = Some(commit.checkpoint.clone());
                relay.published(commit);
            }
            Action::GiveUp(_) => {
                self.abandon(state, &relay);
                relay.give_up();
                state.breaks += 1;
            }
            Action::Record(_) => {
                let (id, turn) = relay.acks.remove(0);
                let is_recorded = turn == state.turn && state.out.remove(&id);
                if is_recorded {
                    state.recorded.insert(id);
                }
                relay.acked(id, is_recorded);
            }
            Action::TakeOver(_) | Action::CommitLate(_) => {}
            Action::Crash(_) => {
                self.abandon(state, &relay);
                state.breaks += 1;
                return self.end(state, at);
            }
        }
        Some(relay)
    }

    /// Nobody waits any more for what a relay has sent. What was to be committed next is not asked for.
    fn abandon(&self, state: &mut State, relay: &Relay) {
        state.on_the_way.extend(relay.sent.clone());
        state.on_the_way.extend(relay.next.clone().filter(|_| self.lacks(Without::Sequence)));
    }

    /// A relay ends, and what it had goes back.
    fn end(&self, state: &mut State, at: usize) -> Option<Relay> {
        if state.owner == Some(at) {
            state.owner = None;
            state.turn += 1;
            state.out.clear();
        }
        None
    }
}

impl Model for Fencing {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            owner: None,
            turn: 0,
            out: BTreeSet::new(),
            recorded: BTreeSet::new(),
            term: 0,
            checkpoint: None,
            times: vec![0; self.messages],
            is_out_of_order: false,
            on_the_way: Vec::new(),
            relays: vec![None; self.relays],
            runs: 0,
            breaks: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let may_break = state.breaks < self.breaks_max;
        for (relay, at) in state.relays.iter().zip(0..) {
            // Which relay is first makes no difference.
            let may_be_first = at == 0 || state.runs > 0;
            if state.owner != Some(at) && may_be_first && (state.owner.is_none() || may_break) {
                actions.push(Action::TakeOver(at));
            }
            let Some(relay) = relay else { continue };
            // What comes next is taken while a transaction is on its way.
            let sent =
                relay.sent.iter().chain(&relay.next).map(|commit| commit.messages.len()).sum::<usize>();
            let in_hand = relay.in_hand.len() + sent + relay.acks.len();
            if state.owner == Some(at) && in_hand < self.in_hand_max {
                actions.push(Action::Deliver(at));
            }
            let is_waiting = !relay.in_hand.is_empty() || relay.in_doubt.is_some();
            match (&relay.sent, relay.term) {
                (Some(_), _) => {
                    actions.push(Action::Commit(at));
                    if relay.next.is_none() && is_waiting {
                        actions.push(Action::Send(at));
                    }
                    if may_break {
                        actions.push(Action::GiveUp(at));
                    }
                }
                (None, None) if is_waiting => actions.push(Action::Begin(at)),
                (None, Some(_)) if is_waiting => actions.push(Action::Send(at)),
                _ => {}
            }
            if !relay.acks.is_empty() {
                actions.push(Action::Record(at));
            }
            if may_break {
                actions.push(Action::Crash(at));
            }
        }
        actions.extend((0..state.on_the_way.len()).map(Action::CommitLate));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::TakeOver(at) => {
                state.breaks += u8::from(state.owner.is_some());
                (state.owner, state.turn) = (Some(at), state.turn + 1);
                state.out.clear();
                if state.relays[at].is_none() {
                    state.runs += 1;
                    state.relays[at] = Some(Relay::new(state.runs));
                }
            }
            Action::CommitLate(which) => {
                let commit = state.on_the_way.remove(which);
                self.commit(&mut state, &commit);
            }
            Action::Deliver(at)
            | Action::Begin(at)
            | Action::Send(at)
            | Action::Commit(at)
            | Action::GiveUp(at)
            | Action::Record(at)
            | Action::Crash(at) => {
                let relay = state.relays[at].take()?;
                state.relays[at] = self.relay(&mut state, at, relay, action);
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(LOST, |_, state: &State| state.recorded.iter().all(|id| state.times[*id] > 0)),
            Property::always(ORDER, |_, state: &State| !state.is_out_of_order),
            Property::always(TWICE, |_, state: &State| state.times.iter().all(|times| *times < 2)),
            Property::always(STANDSTILL, |model, state: &State| {
                state.recorded.len() == model.messages || !model.next_states(state).is_empty()
            }),
        ]
    }
}
