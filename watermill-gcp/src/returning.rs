//! [`Returning`]: messages that were nacked, until they come again in their order.
//!
//! The service delivers a nacked message again before the later ones of its ordering key, but what was on its
//! way already arrives first, and the emulator promises nothing. So what comes of a key with nacked messages
//! is held here until those have come.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

/// Of how many messages of a key the places are remembered; what is nacked beyond that is not waited for.
const EXPECTED_MAX: usize = 10_000;

/// Holds messages of type `M`.
#[derive(Debug)]
pub(crate) struct Returning<M> {
    scopes: HashMap<u64, Scope<M>>,
    /// The place of the next message that was not seen before.
    next: u64,
    /// How many are held.
    held: usize,
    /// A nacked message may be gone: another reader has it, or the place for dead letters.
    patience: Duration,
}

#[derive(Debug)]
struct Scope<M> {
    /// What was nacked and has not come again: id and place, and the places in order.
    expected: HashMap<String, u64>,
    places: BTreeSet<u64>,
    held: BTreeMap<u64, M>,
    /// When something was nacked or came again last.
    since: Instant,
}

impl<M> Returning<M> {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { scopes: HashMap::new(), next: 0, held: 0, patience }
    }

    /// Sets how long what was nacked is waited for.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// How many are held.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Takes note of a nacked message, which came to this place.
    pub(crate) fn nacked(&mut self, scope: u64, place: u64, id: String, now: Instant) {
        let scope = self.scopes.entry(scope).or_insert_with(|| Scope {
            expected: HashMap::new(),
            places: BTreeSet::new(),
            held: BTreeMap::new(),
            since: now,
        });
        scope.since = now;
        if scope.expected.len() >= EXPECTED_MAX {
            return;
        }
        if let Some(before) = scope.expected.insert(id, place) {
            scope.places.remove(&before);
        }
        scope.places.insert(place);
    }

    /// A message has come. Returns what may be handed out now, in order, each with its place.
    pub(crate) fn came(&mut self, scope: u64, id: &str, message: M, now: Instant) -> Vec<(u64, M)> {
        let Some(of_scope) = self.scopes.get_mut(&scope) else {
            return vec![(self.next_place(), message)];
        };
        let place = match of_scope.expected.remove(id) {
            Some(place) => {
                of_scope.places.remove(&place);
                of_scope.since = now;
                place
            }
            None => {
                self.next += 1;
                self.next
            }
        };
        if of_scope.held.insert(place, message).is_none() {
            self.held += 1;
        }
        let first = of_scope.places.first().copied().unwrap_or(u64::MAX);
        let waiting = of_scope.held.split_off(&first);
        let free = std::mem::replace(&mut of_scope.held, waiting);
        self.held -= free.len();
        if of_scope.places.is_empty() && of_scope.held.is_empty() {
            self.scopes.remove(&scope);
        }
        free.into_iter().collect()
    }

    /// Gives up on what has not come for too long, and returns what was held for it.
    pub(crate) fn give_up(&mut self, now: Instant) -> Vec<(u64, M)> {
        let gone: Vec<u64> = self
            .scopes
            .iter()
            .filter(|(_, of)| of.since + self.patience <= now)
            .map(|(scope, _)| *scope)
            .collect();
        let gone = gone.iter().filter_map(|scope| self.scopes.remove(scope));
        let free: Vec<_> = gone.flat_map(|of_scope| of_scope.held).collect();
        self.held -= free.len();
        free
    }

    /// When to give up next, if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.scopes.values().map(|of_scope| of_scope.since + self.patience).min()
    }

    /// Lets go of everything.
    pub(crate) fn clear(&mut self) {
        self.scopes.clear();
        self.held = 0;
    }

    fn next_place(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn came(returning: &mut Returning<&'static str>, id: &'static str) -> Vec<(u64, &'static str)> {
        returning.came(7, id, id, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_nacked_comes_before_what_was_on_its_way_already() {
        let mut returning = Returning::new(PATIENCE);
        let now = Instant::now();
        assert_eq!(came(&mut returning, "a"), [(1, "a")]);
        assert_eq!(came(&mut returning, "b"), [(2, "b")]);
        // The later one is nacked first.
        returning.nacked(7, 2, "b".to_owned(), now);
        returning.nacked(7, 1, "a".to_owned(), now);
        assert_eq!(came(&mut returning, "c"), []);
        assert_eq!(came(&mut returning, "b"), []);
        assert_eq!(returning.held(), 2);
        assert_eq!(came(&mut returning, "a"), [(1, "a"), (2, "b"), (3, "c")]);
        assert_eq!((returning.held(), returning.deadline()), (0, None));
        // It keeps its place when it is nacked once more.
        returning.nacked(7, 1, "a".to_owned(), now);
        assert_eq!(came(&mut returning, "d"), []);
        assert_eq!(came(&mut returning, "a"), [(1, "a"), (4, "d")]);
    }

    #[tokio::test(start_paused = true)]
    async fn other_keys_do_not_wait() {
        let mut returning = Returning::new(PATIENCE);
        returning.nacked(7, 1, "a".to_owned(), Instant::now());
        assert_eq!(returning.came(8, "x", "x", Instant::now()).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_again_is_not_waited_for_without_end() {
        let mut returning = Returning::new(PATIENCE);
        returning.nacked(7, 1, "a".to_owned(), Instant::now());
        assert_eq!(came(&mut returning, "b"), []);
        assert_eq!(returning.give_up(Instant::now()), []);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(returning.give_up(Instant::now()), [(1, "b")]);
        assert_eq!(returning.deadline(), None);
        assert_eq!(came(&mut returning, "c"), [(2, "c")]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_of_a_key_is_bounded() {
        let mut returning = Returning::<&str>::new(PATIENCE);
        for place in 0..2 * EXPECTED_MAX as u64 {
            returning.nacked(7, place, place.to_string(), Instant::now());
        }
        assert_eq!(returning.scopes[&7].expected.len(), EXPECTED_MAX);
        assert_eq!(returning.scopes[&7].places.len(), EXPECTED_MAX);
    }
}
