//! [`Health`]: how a service is doing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use watermill_core::{
    router::{Ended, HandlerStatus, Phase, RouterControl},
    subscription::{Health as Condition, SubscriptionStatus},
};

use crate::watched::{Part, Seen, Watched};

/// How a service is doing, part by part: what the health pages answer, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether nothing has ended that should run.
    pub live: bool,
    /// Whether it is live, every router and relay has started, and none is draining.
    pub ready: bool,
    /// Every router with its handlers, every relay, subscription and check.
    pub parts: Vec<PartHealth>,
}

/// How one part is doing. What is not known is left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PartHealth {
    /// `router`, `handler`, `relay`, `subscription` or `check`.
    pub kind: &'static str,
    /// Its name. A router has none, nor has what stands for handlers that have failed and were forgotten: all but the last
    /// [`Report::MAX`](watermill_core::router::Report::MAX) that have ended.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// In a word.
    pub state: State,
    /// Why it is not healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The topic it reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The consumer group it reads for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Messages that it has taken and not settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// Messages that are not settled, as far as the backend knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// The age of the oldest of them, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_seconds: Option<f64>,
    /// Who keeps it from reading on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_back_by: Option<String>,
    /// How often it was started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u64>,
}

/// The state of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// It has not begun to work.
    Starting,
    /// It works, as far as is known.
    Healthy,
    /// It does not get on just now and is trying to mend that.
    Degraded,
    /// It takes no more and finishes what it has.
    Draining,
    /// It has ended, and nothing starts it again.
    Ended,
}

impl Health {
    /// Looks at everything. It asks no server and blocks nobody.
    pub fn of(watched: &Watched) -> Self {
        let mut parts = Vec::new();
        for part in watched.parts() {
            match part {
                Part::Router(control) => router(control, &mut parts),
                #[cfg(feature = "forwarder")]
                Part::Relay { name, control } => parts.push(relay(name, &control.status())),
                Part::Subscriber { name, subscriber, seen } => {
                    subscriptions(name, &subscriber.status(), &mut seen.lock(), &mut parts);
                }
                Part::Check { name, check } => parts.push(PartHealth::new("check", name).with(&check())),
            }
        }
        let live = parts.iter().all(|part| part.state != State::Ended);
        // A handler that is started again drains first, and is no reason to send a service no requests.
        let mut whole = parts.iter().filter(|part| matches!(part.kind, "router" | "relay"));
        let begun = whole.all(|part| !matches!(part.state, State::Starting | State::Draining));
        Self { live, ready: live && begun, parts }
    }
}

fn router(control: &RouterControl, parts: &mut Vec<PartHealth>) {
    let mut router = PartHealth::new("router", "");
    router.state = of_phase(control.phase());
    let (running, report) = (control.handlers(), control.report());
    parts.push(router);
    parts.extend(running.iter().map(handler));
    // The last word about each name counts, and none about those that run again.
    let mut failed = BTreeMap::new();
    for report in &report.handlers {
        failed.remove(&*report.info.name);
        if let Ended::Failed { error } = &report.ended {
            failed.insert(&*report.info.name, (&report.info, error));
        }
    }
    for status in &running {
        failed.remove(&*status.info.name);
    }
    for (name, (info, error)) in failed {
        let mut part = PartHealth::new("handler", name);
        part.state = State::Ended;
        part.reason = Some(error.clone());
        part.topic = Some(info.subscribe_topic.clone());
        part.group = info.group.clone();
        parts.push(part);
    }
    // Nobody knows their names any more, so that none of them is known to run again.
    let forgotten = report.forgotten.failed;
    if forgotten > 0 {
        let mut part = PartHealth::new("handler", "");
        part.state = State::Ended;
        part.reason = Some(format!("{forgotten} handlers that ended long ago have failed"));
        parts.push(part);
    }
}

fn handler(status: &HandlerStatus) -> PartHealth {
    let mut part = PartHealth::read("handler", &status.info.name, &status.subscription);
    if part.state == State::Ended {
        // It waits for its settlements to be recorded; that it has ended, its report says.
        part.state = State::Draining;
    }
    part.in_flight = Some(status.counts.in_flight);
    part.restarts = Some(status.restarts);
    part
}

/// How many subscriptions of a subscriber are remembered, to be missed when they have ended.
const SEEN_MAX: usize = 100;

/// Of a subscriber without a router. A backend forgets a subscription that has ended, so it is remembered here.
fn subscriptions(
    name: &str,
    statuses: &[SubscriptionStatus],
    seen: &mut BTreeSet<Seen>,
    parts: &mut Vec<PartHealth>,
) {
    let before = parts.len();
    parts.extend(statuses.iter().map(|status| PartHealth::read("subscription", name, status)));
    for (topic, group) in &*seen {
        if !statuses.iter().any(|status| status.topic == *topic && status.group == *group) {
            let mut part = PartHealth::new("subscription", name);
            part.state = State::Ended;
            part.reason = Some("the subscription has ended".to_owned());
            part.topic = Some(topic.clone());
            part.group = group.clone();
            parts.push(part);
        }
    }
    for status in statuses {
        if seen.len() < SEEN_MAX {
            seen.insert((status.topic.clone(), status.group.clone()));
        }
    }
    if parts.len() == before {
        let mut part = PartHealth::new("subscription", name);
        part.state = State::Starting;
        part.reason = Some("it has not subscribed".to_owned());
        parts.push(part);
    }
}

#[cfg(feature = "forwarder")]
fn relay(name: &str, status: &watermill_forwarder::ForwarderStatus) -> PartHealth {
    let mut part = PartHealth::read("relay", name, &status.source);
    part.in_flight = Some(status.in_hand as u64);
    if status.phase != Phase::Running {
        part.state = of_phase(status.phase);
    } else if part.state == State::Ended {
        // Its source's subscription ends before it does.
        part.state = State::Draining;
    }
    part
}

fn of_phase(phase: Phase) -> State {
    match phase {
        Phase::Starting => State::Starting,
        Phase::Running => State::Healthy,
        Phase::Draining => State::Draining,
        _ => State::Ended,
    }
}

impl PartHealth {
    fn new(kind: &'static str, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            state: State::Healthy,
            reason: None,
            topic: None,
            group: None,
            in_flight: None,
            lag: None,
            oldest_seconds: None,
            held_back_by: None,
            restarts: None,
        }
    }

    /// Something that reads a topic.
    fn read(kind: &'static str, name: &str, status: &SubscriptionStatus) -> Self {
        Self {
            topic: Some(status.topic.clone()),
            group: status.group.clone(),
            in_flight: Some(status.outstanding as u64),
            lag: status.lag,
            oldest_seconds: status.oldest_unsettled.map(|age| age.as_secs_f64()),
            held_back_by: status.held_back_by.clone(),
            ..Self::new(kind, name).with(&status.health)
        }
    }

    fn with(mut self, condition: &Condition) -> Self {
        match condition {
            Condition::Healthy => self.state = State::Healthy,
            Condition::Degraded { reason } => {
                self.state = State::Degraded;
                self.reason = Some(reason.clone());
            }
            _ => self.state = State::Ended,
        }
        self
    }
}
