//! [`Arrivals`]: what has come from a server that waits for nobody, until it is taken.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// What has come of a topic that is delivered at most once, and was not taken yet.
///
/// A task takes from the connection whatever comes and [pushes](Self::push) it here, so that the server never waits for us
/// and drops nobody for being slow. What is kept is bounded; what does not fit is dropped and counted, for whoever
/// [takes](Self::take) to say so.
#[derive(Debug)]
pub struct Arrivals<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    messages_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct State<T> {
    /// Each with its bytes.
    messages: VecDeque<(T, usize)>,
    bytes: usize,
    dropped: u64,
    ended: Option<String>,
}

/// What there is to take.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<T> {
    /// Messages in the order in which they came, and how many were dropped since the last time.
    Some {
        /// As many as there was room for.
        messages: Vec<T>,
        /// Of those that have come since, and before those that come next.
        dropped: u64,
    },
    /// Nothing just now.
    Nothing,
    /// Nothing any more, and why; everything that had come was taken.
    Ended(String),
}

impl<T> Arrivals<T> {
    /// Keeps up to so many messages, of so many bytes together; one of any size where there is no other.
    pub fn new(messages_max: usize, bytes_max: usize) -> Self {
        let state = State { messages: VecDeque::new(), bytes: 0, dropped: 0, ended: None };
        Self { state: Mutex::new(state), changed: Notify::new(), messages_max, bytes_max }
    }

    /// Keeps a message, or drops and counts it where there is no room.
    pub fn push(&self, message: T, bytes: usize) {
        let mut state = self.lock();
        let fits = state.messages.len() < self.messages_max
            && (state.messages.is_empty() || state.bytes.saturating_add(bytes) <= self.bytes_max);
        if fits {
            state.bytes = state.bytes.saturating_add(bytes);
            state.messages.push_back((message, bytes));
        } else {
            state.dropped += 1;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Nothing comes any more.
    pub fn end(&self, why: impl Into<String>) {
        self.lock().ended = Some(why.into());
        self.changed.notify_one();
    }

    /// Takes up to `room` messages.
    pub fn take(&self, room: usize) -> Taken<T> {
        let mut state = self.lock();
        let count = room.min(state.messages.len());
        let (messages, sizes): (Vec<T>, Vec<usize>) = state.messages.drain(..count).unzip();
        state.bytes = state.bytes.saturating_sub(sizes.into_iter().sum());
        let dropped = std::mem::take(&mut state.dropped);
        match (messages.is_empty() && dropped == 0, &state.ended) {
            (false, _) => Taken::Some { messages, dropped },
            (true, None) => Taken::Nothing,
            (true, Some(why)) => Taken::Ended(why.clone()),
        }
    }

    /// Waits until there is something to take.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(messages_max: usize, bytes_max: usize, sizes: &[usize]) -> (usize, u64) {
        let arrivals = Arrivals::new(messages_max, bytes_max);
        sizes.iter().for_each(|size| arrivals.push((), *size));
        let Taken::Some { messages, dropped } = arrivals.take(usize::MAX) else { panic!("something came") };
        (messages.len(), dropped)
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        assert_eq!(arrived(2, 100, &[1, 1, 1]), (2, 1));
        assert_eq!(arrived(9, 100, &[60, 60, 40]), (2, 1));
        assert_eq!(arrived(9, 100, &[1_000, 1]), (1, 1), "one is kept however large");
    }

    #[test]
    fn what_was_taken_makes_room_and_the_end_comes_after_all_of_it() {
        let arrivals = Arrivals::new(2, 10);
        arrivals.push("a", 5);
        arrivals.push("b", 5);
        assert_eq!(arrivals.take(1), Taken::Some { messages: vec!["a"], dropped: 0 });
        arrivals.push("c", 5);
        arrivals.end("the connection was lost");
        assert_eq!(arrivals.take(9), Taken::Some { messages: vec!["b", "c"], dropped: 0 });
        assert_eq!(arrivals.take(9), Taken::Ended("the connection was lost".to_owned()));
    }
}
