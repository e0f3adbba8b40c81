//! The destination: topics with weather of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;
use tokio::time::{Instant, sleep};
use watermill_core::{
    Message, Publisher,
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use crate::outbox::{Bad, TOPICS};

/// What a topic does with a call.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Fair,
    /// Answers with this error, and has nothing.
    Fails(PublishErrorKind),
    /// Never answers.
    Hangs,
    /// Has what it was sent, and says that it does not know.
    Forgets,
}

#[derive(Clone)]
pub(crate) struct Destination(Arc<Mutex<State>>);

struct State {
    random: Rng,
    /// Of each topic, what it does until when. Afterwards it is fair.
    weather: BTreeMap<&'static str, Vec<(Instant, Weather)>>,
    bad: BTreeMap<String, PublishErrorKind>,
    atomic: bool,
    arrived: Vec<(String, Message)>,
    /// How many messages have arrived in calls whose caller was not told.
    untold: usize,
}

impl Destination {
    pub(crate) fn new(mut random: Rng, fair_from: Duration) -> Self {
        let (start, mut weather) = (Instant::now(), BTreeMap::new());
        for topic in TOPICS {
            let (mut episodes, mut at, mut refusals) = (Vec::new(), Duration::ZERO, 0);
            while at < fair_from {
                let what = match random.u32(0..10) {
                    0..4 => Weather::Fair,
                    4 | 5 => Weather::Fails(PublishErrorKind::Unavailable),
                    6 => Weather::Hangs,
                    7 => Weather::Forgets,
                    8 => Weather::Fails(PublishErrorKind::Topic),
                    // Once: a destination that is set up wrongly again and again looks like bad messages.
                    _ if refusals == 0 => {
                        refusals += 1;
                        Weather::Fails(PublishErrorKind::Refused)
                    }
                    _ => Weather::Fair,
                };
                at += Duration::from_millis(random.u64(20..2_000));
                episodes.push((start + at.min(fair_from), what));
            }
            weather.insert(topic, episodes);
        }
        let atomic = random.bool();
        let (bad, arrived) = (BTreeMap::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { random, weather, bad, atomic, arrived, untold: 0 })))
    }

    pub(crate) fn refuse(&self, (id, kind): Bad) {
        self.state().bad.insert(id, kind);
    }

    pub(crate) fn arrived(&self) -> Vec<(String, Message)> {
        self.state().arrived.clone()
    }

    pub(crate) fn untold(&self) -> usize {
        self.state().untold
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with it")
    }

    /// Accepts what can be accepted.
    fn accept(&self, topic: &str, messages: &[Message]) -> Result<usize, PublishError> {
        let mut state = self.state();
        let bad: Vec<_> =
            (0..messages.len()).filter(|at| state.bad.contains_key(messages[*at].id().as_str())).collect();
        let Some(first) = bad.first() else {
            state.arrived.extend(messages.iter().map(|message| (topic.to_owned(), message.clone())));
            return Ok(messages.len());
        };
        let kind = state.bad[messages[*first].id().as_str()];
        let error = PublishError::new(kind, topic);
        if state.atomic {
            return Err(error);
        }
        // A key fails from its first failure on.
        let is_behind = |at: usize, bad: usize| bad < at && messages[at].key() == messages[bad].key();
        let fails = |at: &usize| {
            bad.contains(at) || (messages[*at].key().is_some() && bad.iter().any(|bad| is_behind(*at, *bad)))
        };
        let refused: Vec<_> = (0..messages.len()).filter(fails).collect();
        let refused_set: BTreeSet<_> = refused.iter().copied().collect();
        let accepted = messages.iter().enumerate().filter(|(at, _)| !refused_set.contains(at));
        let accepted: Vec<_> = accepted.map(|(_, message)| (topic.to_owned(), message.clone())).collect();
        state.arrived.extend(accepted);
        Err(error.with_not_accepted(refused))
    }
}

/// An answer on its way; dropped, nobody was told.
struct Told<'a> {
    destination: &'a Destination,
    messages: usize,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.destination.state().untold += self.messages;
    }
}

#[async_trait]
impl Publisher for Destination {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let (way, back, weather) = {
            let mut state = self.state();
            let now = Instant::now();
            let weather =
                state.weather[topic].iter().find(|(until, _)| *until > now).map_or(Weather::Fair, |it| it.1);
            let mut latency = || Duration::from_micros(state.random.u64(0..20_000));
            (latency(), latency(), weather)
        };
        sleep(way).await;
        match weather {
            Weather::Fair => {
                let accepted = self.accept(topic, &messages);
                let told = Told {
                    destination: self,
                    messages: accepted.as_ref().map_or(messages.len(), |all| *all),
                };
                sleep(back).await;
                std::mem::forget(told);
                accepted.map(drop)
            }
            Weather::Fails(kind) => Err(PublishError::new(kind, topic)),
            Weather::Hangs => std::future::pending().await,
            Weather::Forgets => {
                // At most: a part may have been refused.
                let _ = self.accept(topic, &messages);
                self.state().untold += messages.len();
                sleep(back).await;
                Err(PublishError::new(PublishErrorKind::Timeout, topic))
            }
        }
    }

    async fn close(&self) -> Result<(), PublishError> {
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("simulated").atomic(self.state().atomic)
    }
}
