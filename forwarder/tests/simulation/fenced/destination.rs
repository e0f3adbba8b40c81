//! The destination: transactions with a checkpoint, terms that end each other, and weather.
//!
//! What was sent to it arrives whether or not its sender lives, or is frozen.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use tokio::time::{Instant, sleep};
use watermill_core::{
    Message,
    error::{PublishError, PublishErrorKind},
    fenced::{Commit, FencedPublisher, Outgoing, Term},
};

use super::weather::{Fate, Weather, forecast};
use crate::outbox::Bad;

pub(super) const NAME: &str = "relay";

/// As one relay sees it.
#[derive(Clone)]
pub(super) struct Destination {
    state: Arc<Mutex<State>>,
    relay: u64,
}

struct State {
    random: Rng,
    /// What it does until when. Afterwards it is fair.
    weather: Vec<(Instant, Weather)>,
    bad: BTreeMap<String, PublishErrorKind>,
    /// Whose the terms are, up to the one that lasts.
    terms: Vec<u64>,
    checkpoint: Option<Bytes>,
    arrived: Vec<(String, Message)>,
}

struct OneTerm {
    destination: Destination,
    number: usize,
    checkpoint: Option<Bytes>,
    /// After an error, or a call that was dropped.
    is_over: bool,
    /// How many were published whose commits are apart, and how many of those have ended well.
    sent: usize,
    committed: Arc<AtomicUsize>,
}

impl Destination {
    pub(super) fn new(mut random: Rng, fair_from: Duration) -> Self {
        let weather = forecast(&mut random, fair_from);
        let state = State {
            random,
            weather,
            bad: BTreeMap::new(),
            terms: Vec::new(),
            checkpoint: None,
            arrived: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), relay: 0 }
    }

    /// The same, as the relay of this number sees it.
    pub(super) fn of(&self, relay: u64) -> Self {
        Self { state: Arc::clone(&self.state), relay }
    }

    pub(super) fn refuse(&self, (id, kind): Bad) {
        self.state().bad.insert(id, kind);
    }

    pub(super) fn arrived(&self) -> Vec<(String, Message)> {
        self.state().arrived.clone()
    }

    /// Whether another relay has begun a term after this one had.
    pub(super) fn was_succeeded(&self, relay: u64) -> bool {
        let state = self.state();
        let first = state.terms.iter().position(|of| *of == relay);
        first.is_some_and(|first| state.terms[first..].iter().any(|of| *of != relay))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// How long a call takes on its way, and how long its answer, and the weather.
    fn look_up(&self) -> (Duration, Duration, Weather) {
        let mut state = self.state();
        let now = Instant::now();
        let weather = state.weather.iter().find(|(until, _)| *until > now).map_or(Weather::Fair, |it| it.1);
        let mut latency = || Duration::from_micros(state.random.u64(0..20_000));
        (latency(), latency(), weather)
    }
}

impl State {
    /// Commits, if the term lasts and nothing of it is refused.
    fn commit(&mut self, term: usize, batch: &[Outgoing], checkpoint: &Bytes) -> Result<(), PublishError> {
        self.check(term, batch)?;
        for Outgoing { topic, messages } in batch {
            self.arrived.extend(messages.iter().map(|message| (topic.clone(), message.clone())));
        }
        self.checkpoint = Some(checkpoint.clone());
        Ok(())
    }

    fn check(&self, term: usize, batch: &[Outgoing]) -> Result<(), PublishError> {
        if self.terms.len() != term {
            return Err(PublishError::new(PublishErrorKind::Fenced, NAME));
        }
        for Outgoing { topic, messages } in batch {
            if let Some(kind) = messages.iter().find_map(|message| self.bad.get(message.id().as_str())) {
                return Err(PublishError::new(*kind, topic));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl FencedPublisher for Destination {
    async fn begin(&self, name: &str) -> Result<Box<dyn Term>, PublishError> {
        assert_eq!(name, NAME);
        let (way, back, weather) = self.look_up();
        sleep(way).await;
        if let Weather::Hangs { done: false } = weather {
            return pending().await;
        }
        let fails = weather.refusal();
        let (number, checkpoint) = {
            let mut state = self.state();
            // The earlier terms may have ended all the same.
            if fails.is_none() || state.random.bool() {
                state.terms.push(self.relay);
            }
            (state.terms.len(), state.checkpoint.clone())
        };
        sleep(back).await;
        match (fails, weather) {
            (Some(kind), _) => Err(PublishError::new(kind, name)),
            (None, Weather::Hangs { .. }) => pending().await,
            _ => {
                let destination = self.clone();
                let (sent, committed) = (0, Arc::default());
                Ok(Box::new(OneTerm { destination, number, checkpoint, is_over: false, sent, committed }))
            }
        }
    }

    fn backend(&self) -> &'static str {
        "simulated"
    }
}

#[async_trait]
impl Term for OneTerm {
    fn checkpoint(&self) -> Option<&Bytes> {
        self.checkpoint.as_ref()
    }

    /// Does all of it, or leaves the commit to its caller, who publishes the next one meanwhile.
    async fn publish(&mut self, batch: Vec<Outgoing>, checkpoint: Bytes) -> Result<Commit, PublishError> {
        assert!(!std::mem::replace(&mut self.is_over, true), "after an error the term is over");
        let turn = self.sent;
        let committed = Arc::clone(&self.committed);
        assert!(turn <= committed.load(Ordering::Relaxed) + 1, "one commit is on its way at a time");
        let (destination, number) = (self.destination.clone(), self.number);
        let is_apart = self.destination.state().random.bool();
        if !is_apart && turn == committed.load(Ordering::Relaxed) {
            destination.commit(number, batch, checkpoint).await?;
            self.is_over = false;
            return Ok(Commit::done());
        }
        let (way, _, weather) = destination.look_up();
        sleep(way).await;
        match (weather, weather.refusal()) {
            (Weather::Hangs { .. }, _) => pending().await,
            (_, Some(kind)) => return Err(PublishError::new(kind, NAME)),
            _ => destination.state().check(number, &batch)?,
        }
        (self.is_over, self.sent) = (false, turn + 1);
        Ok(Commit::new(async move {
            assert_eq!(turn, committed.load(Ordering::Relaxed), "one commit comes after another");
            destination.commit(number, batch, checkpoint).await?;
            committed.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }))
    }
}

impl Destination {
    /// Commits, as the weather has it.
    async fn commit(
        &self,
        number: usize,
        batch: Vec<Outgoing>,
        checkpoint: Bytes,
    ) -> Result<(), PublishError> {
        let (way, back, weather) = self.look_up();
        let missing =
            |Outgoing { topic, .. }: &&Outgoing| matches!(weather, Weather::Lacks(it) if it == topic);
        if let Some(missing) = batch.iter().find(missing) {
            sleep(way).await;
            return Err(PublishError::new(PublishErrorKind::Topic, &*missing.topic));
        }
        if let Some(kind) = weather.refusal() {
            sleep(way).await;
            return Err(PublishError::new(kind, NAME));
        }
        let (arrives, told) = match weather {
            Weather::Hangs { done } => (done.then_some(way), None),
            Weather::Forgets(Fate::Done) => (Some(way), Some(PublishErrorKind::Timeout)),
            Weather::Forgets(Fate::Void) => (None, Some(PublishErrorKind::Timeout)),
            Weather::Forgets(Fate::Late) => (Some(way + back * 3), Some(PublishErrorKind::Timeout)),
            _ => (Some(way), None),
        };
        let state = Arc::clone(&self.state);
        let sent = arrives.map(|at| {
            tokio::spawn(async move {
                sleep(at).await;
                state.lock().expect("nobody panics with it").commit(number, &batch, &checkpoint)
            })
        });
        match (weather, told, sent) {
            (Weather::Hangs { .. }, ..) => pending().await,
            (_, Some(kind), _) => {
                sleep(way + back).await;
                Err(PublishError::new(kind, NAME))
            }
            (_, None, sent) => {
                let committed = sent.expect("it was sent").await.expect("no panic");
                sleep(back).await;
                // Whoever was succeeded meanwhile may be told that instead.
                let succeeded = {
                    let mut state = self.state();
                    state.terms.len() != number && state.random.bool()
                };
                if succeeded {
                    return Err(PublishError::new(PublishErrorKind::Fenced, NAME));
                }
                committed
            }
        }
    }
}
