//! [`Hosts`]: whose turn it is at each host, and until when it is left alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};
use watermill_core::backend::{Failure, Trouble};

/// Beyond so many, those that nobody uses are forgotten.
const HOSTS_MAX: usize = 1024;

/// The hosts that a publisher posts to, by scheme and authority.
#[derive(Debug, Default)]
pub(crate) struct Hosts(Mutex<HashMap<String, Arc<Host>>>);

#[derive(Debug)]
pub(crate) struct Host {
    turns: Arc<Semaphore>,
    left_alone_until: Mutex<Option<Instant>>,
}

impl Hosts {
    /// The host of that name, at which so many requests are in progress at once.
    pub(crate) fn of(&self, name: &str, concurrency: usize) -> Arc<Host> {
        let mut hosts = lock(&self.0);
        if let Some(host) = hosts.get(name) {
            return host.clone();
        }
        if hosts.len() >= HOSTS_MAX {
            let now = Instant::now();
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || host.is_left_alone(now));
        }
        let host = Arc::new(Host {
            turns: Arc::new(Semaphore::new(concurrency.min(Semaphore::MAX_PERMITS))),
            left_alone_until: Mutex::default(),
        });
        hosts.entry(name.to_owned()).or_insert(host).clone()
    }
}

impl Host {
    /// Waits for a turn, and until the host is not to be left alone any more, but for no longer than `at_most`.
    pub(crate) async fn turn(&self, at_most: Duration) -> Result<OwnedSemaphorePermit, Failure> {
        let turn = async {
            let turn = self.turns.clone().acquire_owned().await;
            loop {
                let until = *lock(&self.left_alone_until);
                match until.filter(|until| *until > Instant::now()) {
                    Some(until) => sleep_until(until).await,
                    None => break turn,
                }
            }
        };
        match timeout(at_most, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Failure::because(
                Trouble::Unavailable,
                format!(
                    "the host has too many requests in progress, or asked to be left alone: waited {at_most:?}"
                ),
            )),
        }
    }

    /// Nothing is sent to it for so long from now on.
    pub(crate) fn leave_alone(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut left_alone_until = lock(&self.left_alone_until);
        *left_alone_until = (*left_alone_until).max(Some(until));
    }

    fn is_left_alone(&self, now: Instant) -> bool {
        lock(&self.left_alone_until).is_some_and(|until| until > now)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use tokio::time::advance;

    use super::*;

    const LONG: Duration = Duration::from_secs(100);

    #[tokio::test(start_paused = true)]
    async fn a_host_is_left_alone_for_as_long_as_it_asks() {
        let host = Hosts::default().of("http://a", 2);
        drop(host.turn(LONG).await.unwrap());
        host.leave_alone(Duration::from_secs(30));
        // The longer wish counts.
        host.leave_alone(Duration::from_secs(10));
        let asked = Instant::now();
        drop(host.turn(LONG).await.unwrap());
        assert!(asked.elapsed() >= Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_allowed() {
        let host = Hosts::default().of("http://a", 1);
        let turn = host.turn(LONG).await.unwrap();
        let failure = host.turn(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(failure.trouble(), Trouble::Unavailable);
        drop(turn);
        host.leave_alone(LONG);
        assert!(host.turn(Duration::from_secs(1)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_have_a_turn_at_each_host() {
        let hosts = Hosts::default();
        let host = hosts.of("http://a", 2);
        let (first, _second) = (host.turn(LONG).await.unwrap(), host.turn(LONG).await.unwrap());
        let mut third = Box::pin(host.turn(LONG));
        assert!(poll!(&mut third).is_pending());
        drop(hosts.of("http://b", 2).turn(LONG).await.unwrap());
        drop(first);
        advance(Duration::from_millis(1)).await;
        assert!(third.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_nobody_uses_are_forgotten() {
        let hosts = Hosts::default();
        let used = hosts.of("http://used", 1);
        hosts.of("http://asked", 1).leave_alone(LONG);
        for n in 0..2 * HOSTS_MAX {
            hosts.of(&format!("http://{n}"), 1);
        }
        assert!(lock(&hosts.0).len() <= HOSTS_MAX);
        assert!(Arc::ptr_eq(&used, &hosts.of("http://used", 1)));
        assert!(hosts.of("http://asked", 1).is_left_alone(Instant::now()));
    }
}
