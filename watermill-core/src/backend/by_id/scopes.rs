//! [`Scopes`]: what waits in each ordering scope, and whose turn it is.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use crate::Window;

/// So many turns may be left of scopes that have gone, beside as many as there are scopes twice over.
const STALE_TURNS_MAX: usize = 64;

/// Of every scope with something that waits and room in the window it is the turn now and then; in a scope,
/// entries come in order. Entries are named by their sequence numbers.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    by_id: HashMap<u64, Scope>,
    /// Scopes that may have something to hand out.
    turns: VecDeque<u64>,
    /// When which scope has its turn again, and in an unordered window by which entry of its own.
    due: BTreeSet<(Instant, u64, Option<u64>)>,
}

#[derive(Debug, Default)]
struct Scope {
    waiting: VecDeque<Waiting>,
    outstanding: usize,
    handled: usize,
    has_turn: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    sequence: u64,
    /// In an ordered window: until then, it and what is behind it wait.
    due: Option<Instant>,
}

impl Scopes {
    /// Adds one behind all others of its scope.
    pub(super) fn push(&mut self, scope: u64, sequence: u64) {
        self.by_id.entry(scope).or_default().waiting.push_back(Waiting { sequence, due: None });
        self.give_turn(scope);
    }

    /// Lets one wait again that was handed out: in its place if that is `ordered`, and else behind the others,
    /// which it must not hold up however often it fails.
    pub(super) fn put_back(&mut self, scope: u64, sequence: u64, due: Option<Instant>, ordered: bool) {
        if let Some(at) = due.filter(|_| !ordered) {
            self.due.insert((at, scope, Some(sequence)));
            return;
        }
        let waiting = &mut self.by_id.entry(scope).or_default().waiting;
        let at =
            if ordered { waiting.partition_point(|other| other.sequence < sequence) } else { waiting.len() };
        waiting.insert(at, Waiting { sequence, due });
        self.give_turn(scope);
    }

    /// The next entry, which is outstanding from now on, or when there may be one.
    pub(super) fn next(&mut self, window: Window, now: Instant) -> Result<u64, Option<Instant>> {
        while let Some((_, scope, sequence)) = self.due.first().copied().filter(|(at, ..)| *at <= now) {
            self.due.pop_first();
            match sequence {
                Some(sequence) => self.put_back(scope, sequence, None, window.is_ordered()),
                None => self.give_turn(scope),
            }
        }
        while let Some(id) = self.turns.pop_front() {
            let Some(scope) = self.by_id.get_mut(&id) else { continue };
            scope.has_turn = false;
            // Without room, whatever leaves the scope gives it its turn again.
            if scope.outstanding - scope.handled >= window.per_scope() {
                continue;
            }
            let Some(first) = scope.waiting.front() else { continue };
            if let Some(at) = first.due.filter(|at| *at > now) {
                self.due.insert((at, id, None));
                continue;
            }
            let sequence = first.sequence;
            scope.waiting.pop_front();
            scope.outstanding += 1;
            self.give_turn(id);
            return Ok(sequence);
        }
        Err(self.due.first().map(|(at, ..)| *at))
    }

    /// An outstanding entry was handled.
    pub(super) fn handled(&mut self, scope: u64) {
        if let Some(known) = self.by_id.get_mut(&scope) {
            known.handled += 1;
            self.give_turn(scope);
        }
    }

    /// An entry is outstanding no more.
    pub(super) fn leave(&mut self, scope: u64, handled: bool) {
        let Some(known) = self.by_id.get_mut(&scope) else { return };
        known.outstanding -= 1;
        known.handled -= usize::from(handled);
        if known.outstanding == 0 && known.waiting.is_empty() {
            self.forget(scope);
        } else {
            self.give_turn(scope);
        }
    }

    /// Removes one that waits.
    pub(super) fn remove(&mut self, scope: u64, sequence: u64) {
        if let Some(known) = self.by_id.get_mut(&scope) {
            known.waiting.retain(|waiting| waiting.sequence != sequence);
            if known.outstanding == 0 && known.waiting.is_empty() {
                self.forget(scope);
            }
            // It may have been the one that the others waited behind.
            self.give_turn(scope);
        }
        self.due.retain(|(.., delayed)| *delayed != Some(sequence));
    }

    /// Takes all that wait in a scope, in order.
    pub(super) fn take_waiting(&mut self, scope: u64) -> Vec<u64> {
        let Some(known) = self.by_id.get_mut(&scope) else { return Vec::new() };
        let waiting = std::mem::take(&mut known.waiting);
        if known.outstanding == 0 {
            self.forget(scope);
        }
        waiting.into_iter().map(|waiting| waiting.sequence).collect()
    }

    /// Arranges what waits for a window of this kind.
    pub(super) fn arrange(&mut self, ordered: bool) {
        let mut delayed: Vec<(u64, Waiting)> = Vec::new();
        for (at, scope, sequence) in std::mem::take(&mut self.due) {
            delayed.extend(sequence.map(|sequence| (scope, Waiting { sequence, due: Some(at) })));
        }
        for (id, scope) in &mut self.by_id {
            let (held, ready): (VecDeque<_>, _) =
                std::mem::take(&mut scope.waiting).into_iter().partition(|waiting| waiting.due.is_some());
            delayed.extend(held.into_iter().map(|waiting| (*id, waiting)));
            scope.waiting = ready;
            if ordered {
                scope.waiting.make_contiguous().sort_unstable_by_key(|waiting| waiting.sequence);
            }
        }
        for (scope, Waiting { sequence, due }) in delayed {
            self.put_back(scope, sequence, due, ordered);
        }
        let scopes: Vec<u64> = self.by_id.keys().copied().collect();
        scopes.into_iter().for_each(|scope| self.give_turn(scope));
    }

    /// When each entry is due that is delayed.
    pub(super) fn take_due(&mut self) -> HashMap<u64, Instant> {
        self.arrange(true);
        let waiting = self.by_id.values().flat_map(|scope| &scope.waiting);
        waiting.filter_map(|waiting| Some((waiting.sequence, waiting.due?))).collect()
    }

    /// A scope has nothing any more. Its turn stays where it is, unless most of the turns are such: nobody may come to take
    /// them for long, while scopes come and go.
    fn forget(&mut self, scope: u64) {
        self.by_id.remove(&scope);
        if self.turns.len() <= 2 * self.by_id.len() + STALE_TURNS_MAX {
            return;
        }
        // One that has come again since may have several turns; its first one stays.
        self.by_id.values_mut().for_each(|scope| scope.has_turn = false);
        let by_id = &mut self.by_id;
        self.turns.retain(|id| {
            by_id.get_mut(id).is_some_and(|scope| {
                !scope.waiting.is_empty() && !std::mem::replace(&mut scope.has_turn, true)
            })
        });
    }

    fn give_turn(&mut self, id: u64) {
        if let Some(scope) = self.by_id.get_mut(&id).filter(|scope| !scope.waiting.is_empty())
            && !std::mem::replace(&mut scope.has_turn, true)
        {
            self.turns.push_back(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turns_of_scopes_that_have_gone_do_not_pile_up() {
        let mut scopes = Scopes::default();
        let mut sequences = 0..;
        let mut push = |scopes: &mut Scopes, scope| {
            let sequence = sequences.next().unwrap();
            scopes.push(scope, sequence);
            sequence
        };
        let first = push(&mut scopes, 1_000_000);
        for round in 0..10_000 {
            // A new scope each time, and the same one again and again.
            for scope in [round, 2_000_000] {
                let sequence = push(&mut scopes, scope);
                scopes.remove(scope, sequence);
            }
            assert!(scopes.turns.len() <= 2 + STALE_TURNS_MAX, "{} turns", scopes.turns.len());
        }
        let last = push(&mut scopes, 2_000_000);
        let now = Instant::now();
        let handed: Vec<_> = std::iter::from_fn(|| scopes.next(Window::ONE, now).ok()).collect();
        assert_eq!(handed, [first, last]);
    }
}
