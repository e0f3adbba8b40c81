//! [`Turns`]: calls that are sent one after another.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Mutex, MutexGuard},
    task::unconstrained,
    time::timeout,
};

/// One call has its turn, and the others wait in their order: for a publisher whose calls have something to find out or to make
/// before they are sent, and keep their order all the same.
#[derive(Debug)]
pub struct Turns {
    turn: Mutex<()>,
    /// How many calls are through.
    done: AtomicU64,
    wait_max: Duration,
}

/// The right to send. Dropped before it is [done](Self::done), it goes on to the next.
#[derive(Debug)]
pub struct Turn<'t> {
    turns: &'t Turns,
    _turn: MutexGuard<'t, ()>,
}

impl Turns {
    /// Nobody waits for longer than `wait_max` while none of the calls before gets through.
    pub fn new(wait_max: Duration) -> Self {
        Self { turn: Mutex::default(), done: AtomicU64::new(0), wait_max }
    }

    /// Waits behind the calls before, as long as they get through, however many there are. `None` where none of them did for as
    /// long as it is waited at most: of a server that is silent all who wait give up together, and not one after another.
    ///
    /// # Cancel safety
    ///
    /// The place in the queue is taken with the first poll and given up when dropped.
    pub async fn take(&self) -> Option<Turn<'_>> {
        // The first poll takes a place behind the calls before, whatever is left of the task's budget.
        let mut turn = pin!(unconstrained(self.turn.lock()));
        loop {
            let done = self.done.load(Ordering::Relaxed);
            match timeout(self.wait_max, &mut turn).await {
                Ok(turn) => return Some(Turn { turns: self, _turn: turn }),
                Err(_) if self.done.load(Ordering::Relaxed) == done => return None,
                Err(_) => {}
            }
        }
    }
}

impl Turn<'_> {
    /// The call is through, and those behind it have reason to wait for longer.
    pub fn done(self) {
        self.turns.done.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::time::sleep;

    use super::*;

    const WAIT_MAX: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn however_many_calls_there_are_each_has_its_turn_while_they_get_through() {
        let turns = Turns::new(WAIT_MAX);
        let order = std::sync::Mutex::new(Vec::new());
        let calls = (0..20).map(|call| {
            let (turns, order) = (&turns, &order);
            async move {
                let turn = turns.take().await.expect("the calls before get through");
                sleep(WAIT_MAX / 2).await;
                order.lock().unwrap().push(call);
                turn.done();
            }
        });
        join_all(calls).await;
        assert_eq!(order.into_inner().unwrap(), Vec::from_iter(0..20));
    }

    #[tokio::test(start_paused = true)]
    async fn where_none_gets_through_all_that_wait_give_up_together() {
        let turns = Turns::new(WAIT_MAX);
        let calls = (0..20).map(|_| async {
            let Some(_turn) = turns.take().await else { return false };
            sleep(2 * WAIT_MAX).await;
            true
        });
        assert_eq!(join_all(calls).await.into_iter().filter(|had_a_turn| *had_a_turn).count(), 1);
    }
}
