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

/// One call has its turn, and the others wait in their order.
#[derive(Debug)]
pub(crate) struct Turns {
    turn: Mutex<()>,
    /// How many calls were sent.
    sent: AtomicU64,
    wait_max: Duration,
}

/// The right to send.
pub(crate) struct Turn<'t> {
    turns: &'t Turns,
    _turn: MutexGuard<'t, ()>,
}

impl Turns {
    pub(crate) fn new(wait_max: Duration) -> Self {
        Self { turn: Mutex::default(), sent: AtomicU64::new(0), wait_max }
    }

    /// Waits behind the calls before, as long as they go on: however many there are, each may have a stream to make. `None`
    /// where none of them was sent for as long as it is waited at most.
    pub(crate) async fn take(&self) -> Option<Turn<'_>> {
        // The first poll takes a place behind the calls before, whatever is left of the task's budget.
        let mut turn = pin!(unconstrained(self.turn.lock()));
        loop {
            let sent = self.sent.load(Ordering::Relaxed);
            match timeout(self.wait_max, &mut turn).await {
                Ok(turn) => return Some(Turn { turns: self, _turn: turn }),
                Err(_) if self.sent.load(Ordering::Relaxed) == sent => return None,
                Err(_) => {}
            }
        }
    }
}

impl Turn<'_> {
    /// The call was sent. Dropped without, it was not: of a server that is silent those behind expect no more.
    pub(crate) fn sent(self) {
        self.turns.sent.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::time::sleep;

    use super::*;

    const WAIT_MAX: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn however_many_calls_there_are_each_has_its_turn_while_they_go_on() {
        let turns = Turns::new(WAIT_MAX);
        let order = std::sync::Mutex::new(Vec::new());
        let calls = (0..20).map(|call| {
            let (turns, order) = (&turns, &order);
            async move {
                let turn = turns.take().await.expect("the calls before go on");
                sleep(WAIT_MAX / 2).await;
                order.lock().unwrap().push(call);
                turn.sent();
            }
        });
        join_all(calls).await;
        assert_eq!(order.into_inner().unwrap(), Vec::from_iter(0..20));
    }

    #[tokio::test(start_paused = true)]
    async fn where_none_is_sent_all_that_wait_give_up_together() {
        let turns = Turns::new(WAIT_MAX);
        let calls = (0..20).map(|_| async {
            let Some(_turn) = turns.take().await else { return false };
            sleep(2 * WAIT_MAX).await;
            true
        });
        assert_eq!(join_all(calls).await.into_iter().filter(|had_a_turn| *had_a_turn).count(), 1);
    }
}
