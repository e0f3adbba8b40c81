//! [`HandlerStatus`], and what it is read from: the entry of a handler that runs.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{sync::watch, time::Instant};

use super::{Counts, Ended, HandlerInfo, HandlerReport, counters::Counters, stop::Stop, worker::Trouble};
use crate::subscription::{Health, SubscriptionControl, SubscriptionStatus};

/// One handler, as a health page shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HandlerStatus {
    /// Its names.
    pub info: HandlerInfo,
    /// What a message passes through, the outermost layer first.
    pub chain: String,
    /// How its subscription is doing. While there is none, its health says so, and when the next is tried.
    pub subscription: SubscriptionStatus,
    /// How often it was started again.
    pub restarts: u64,
    /// What happened to its messages so far.
    pub counts: Counts,
    /// The dead-lettered ones by why: `panic`, `permanent`, `publish` (its outputs were not accepted), `error`. No other word is
    /// used, so that figures may be kept by them.
    pub dead_letter_reasons: BTreeMap<&'static str, u64>,
}

/// A handler that runs, or tries to.
pub(super) struct Entry {
    pub(super) info: Arc<HandlerInfo>,
    pub(super) chain: String,
    pub(super) counters: Arc<Counters>,
    /// What ails the stream of its subscription.
    pub(super) trouble: Arc<Trouble>,
    pub(super) stop: Stop,
    pub(super) stage: Stage,
    pub(super) restarts: u64,
    pub(super) ended: watch::Sender<Option<HandlerReport>>,
}

/// How far a handler is.
pub(super) enum Stage {
    /// It has not subscribed yet, because of the error if there is one.
    Subscribing { error: Option<String> },
    /// It takes messages.
    Running(Arc<dyn SubscriptionControl>),
    /// It takes none any more and waits for its settlements to be recorded.
    Closing,
    /// It has ended and is started again then.
    Restarting { at: Instant, error: String },
}

impl Entry {
    pub(super) fn status(&self) -> HandlerStatus {
        let subscription = match &self.stage {
            Stage::Running(subscription) => {
                let mut status = subscription.status();
                if let (Health::Healthy, Some(reason)) = (&status.health, self.trouble.current()) {
                    status.health = Health::Degraded { reason };
                }
                status
            }
            Stage::Subscribing { error: None } => self.degraded("not subscribed yet".to_owned()),
            Stage::Subscribing { error: Some(error) } => {
                self.degraded(format!("not subscribed yet: {error}"))
            }
            Stage::Restarting { at, error } => {
                let wait = at.saturating_duration_since(Instant::now());
                self.degraded(format!("restarting in {:.1} s: {error}", wait.as_secs_f64()))
            }
            Stage::Closing => self.without_subscription(Health::Ended),
        };
        HandlerStatus {
            info: (*self.info).clone(),
            chain: self.chain.clone(),
            subscription,
            restarts: self.restarts,
            counts: self.counters.snapshot(),
            dead_letter_reasons: self.counters.dead_letter_reasons(),
        }
    }

    fn degraded(&self, reason: String) -> SubscriptionStatus {
        self.without_subscription(Health::Degraded { reason })
    }

    fn without_subscription(&self, health: Health) -> SubscriptionStatus {
        SubscriptionStatus::new(&self.info.subscribe_topic, health).group(self.info.group.clone())
    }

    pub(super) fn report(&self, ended: Ended) -> HandlerReport {
        HandlerReport {
            info: (*self.info).clone(),
            counts: self.counters.snapshot(),
            dead_letter_reasons: self.counters.dead_letter_reasons(),
            restarts: self.restarts,
            ended,
        }
    }

    /// What of the handler did not end in time.
    pub(super) fn unfinished(&self) -> String {
        let (name, counts) = (&self.info.name, self.counters.snapshot());
        match &self.stage {
            Stage::Closing => {
                let (backend, topic) = (&self.info.subscriber, &self.info.subscribe_topic);
                format!("closing the subscription of handler {name:?} ({backend}:{topic}): {counts}")
            }
            Stage::Running(_) => format!("handler {name:?}: {counts}"),
            Stage::Subscribing { .. } | Stage::Restarting { .. } => {
                format!("subscribing of handler {name:?}: {counts}")
            }
        }
    }
}
