//! [`Relays`]: the relays that run, each of which may be killed, stopped, or frozen in the middle of anything.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{task::JoinHandle, time::timeout};
use watermill_forwarder::{
    FencedForwarder, ForwarderControl, ForwarderError, ForwarderErrorKind, ForwarderReport, ForwarderStatus,
};

use super::destination::Destination;
use crate::{CALL_TIMEOUT, DRAIN_TIMEOUT};

/// How long a stop may take, with what it may have to wait for before it hears of it.
const STOP_MAX: Duration = CALL_TIMEOUT.saturating_add(DRAIN_TIMEOUT).saturating_mul(2);

/// The most relays that run side by side.
const RELAYS_MAX: usize = 3;

pub(super) struct Relays {
    seed: u64,
    destination: Destination,
    make: Box<dyn Fn(u64) -> FencedForwarder>,
    started: u64,
    running: Vec<Relay>,
}

struct Relay {
    number: u64,
    control: ForwarderControl,
    ice: Arc<Ice>,
    task: JoinHandle<Result<ForwarderReport, ForwarderError>>,
}

impl Relays {
    /// One relay that runs. `make` makes more, each with a number of its own.
    pub(super) fn new(
        seed: u64,
        destination: Destination,
        make: impl Fn(u64) -> FencedForwarder + 'static,
    ) -> Self {
        let mut relays = Self { seed, destination, make: Box::new(make), started: 0, running: Vec::new() };
        relays.start();
        relays
    }

    /// Starts one more, unless there are enough.
    pub(super) fn start(&mut self) {
        if self.running.len() == RELAYS_MAX {
            return;
        }
        self.started += 1;
        let forwarder = (self.make)(self.started);
        let (control, ice) = (forwarder.control(), Arc::new(Ice::default()));
        let task = tokio::spawn(Arc::clone(&ice).over(forwarder.run_until(std::future::pending())));
        self.running.push(Relay { number: self.started, control, ice, task });
    }

    /// Kills one of those that run, frozen or not.
    pub(super) async fn kill(&mut self, any: usize) {
        let relay = self.running.swap_remove(any % self.running.len());
        relay.task.abort();
        let _ = relay.task.await;
        self.keep_one();
    }

    /// Stops one gracefully that is not frozen.
    pub(super) async fn stop_one(&mut self, any: usize) {
        let relay = self.running.swap_remove(any % self.running.len());
        relay.ice.set(false);
        relay.control.stop();
        self.ended(relay).await;
        self.keep_one();
    }

    /// Freezes one.
    pub(super) fn freeze(&mut self, any: usize) {
        self.running[any % self.running.len()].ice.set(true);
        self.keep_one();
    }

    /// Lets all of them go on.
    pub(super) fn thaw(&self) {
        self.running.iter().for_each(|relay| relay.ice.set(false));
    }

    /// Those that were fenced end, and stand by again.
    pub(super) async fn replace_the_fenced(&mut self) {
        while let Some(at) = self.running.iter().position(|relay| relay.task.is_finished()) {
            let relay = self.running.swap_remove(at);
            self.ended(relay).await;
            self.start();
        }
    }

    pub(super) async fn stop(&mut self) {
        for relay in std::mem::take(&mut self.running) {
            relay.control.stop();
            self.ended(relay).await;
        }
    }

    pub(super) fn statuses(&self) -> Vec<ForwarderStatus> {
        self.running.iter().map(|relay| relay.control.status()).collect()
    }

    /// There is one that is not frozen, so that a standstill is a fault.
    fn keep_one(&mut self) {
        if self.running.iter().all(|relay| relay.ice.is_frozen()) {
            if self.running.len() == RELAYS_MAX {
                return self.thaw();
            }
            self.start();
        }
    }

    /// A relay ends when it is asked to, and in time, or because another has taken its place.
    async fn ended(&self, relay: Relay) {
        let (seed, number) = (self.seed, relay.number);
        let ended = timeout(STOP_MAX, relay.task).await;
        match ended.unwrap_or_else(|_| panic!("seed {seed}: relay {number} does not stop")).expect("no panic")
        {
            Ok(_) => {}
            Err(error) => {
                let succeeded = self.destination.was_succeeded(number);
                assert!(error.kind() == ForwarderErrorKind::Fenced && succeeded, "seed {seed}: {error:?}");
            }
        }
    }
}

/// Keeps a future from being polled, as a process that is paused does not run.
#[derive(Default)]
struct Ice(Mutex<State>);

#[derive(Default)]
struct State {
    frozen: bool,
    waker: Option<Waker>,
}

impl Ice {
    async fn over<F: Future>(self: Arc<Self>, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| if self.holds(context) { Poll::Pending } else { future.as_mut().poll(context) })
            .await
    }

    fn holds(&self, context: &Context<'_>) -> bool {
        let mut state = self.0.lock().expect("nobody panics with it");
        state.waker = Some(context.waker().clone());
        state.frozen
    }

    fn is_frozen(&self) -> bool {
        self.0.lock().expect("nobody panics with it").frozen
    }

    fn set(&self, frozen: bool) {
        let mut state = self.0.lock().expect("nobody panics with it");
        state.frozen = frozen;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}
