//! How relays are doing: what their sources hold, and what the process says that runs them.

mod show;
mod verb;

use std::time::Duration;

use serde::{Deserialize, Serialize};
pub(crate) use verb::{Answer, run};
use watermill_core::{error::chain, router::Phase, subscription::Health};
use watermill_forwarder::{ForwarderControl, Held};
use watermill_sql::{Count, HeldBack, QueueStatus, SqlPool};

use crate::{
    config::{Layout, Source},
    metrics::{Owners, SourceFigures},
};

/// What a source holds, whoever reads it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SourceView {
    /// Messages that wait; of a table that is not Watermill's it is not known.
    pub(crate) backlog: Option<u64>,
    /// Whether they were counted; more than 10,000 are not.
    pub(crate) backlog_is_exact: bool,
    /// The age of the oldest of them.
    pub(crate) oldest_seconds: Option<f64>,
    /// The subscription that has the lease; none while nobody reads.
    pub(crate) active: Option<String>,
    /// Open transactions that write to the topic, and so may hold its readers back.
    pub(crate) writers: Vec<Writer>,
    /// Whether there are dead letters.
    pub(crate) has_dead_letters: bool,
    /// The shards of a log that is read in shards, by their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) shards: Vec<ShardView>,
    /// How many shards there will be, while that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shards_wanted: Option<u32>,
}

/// A shard of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShardView {
    pub(crate) number: u32,
    /// Everything of its keys up to this offset is done.
    pub(crate) position: i64,
    /// The process and the shard that has the lease.
    pub(crate) active: Option<String>,
}

/// Somebody's open transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Writer {
    /// The number that `pg_terminate_backend` or `KILL` takes.
    pub(crate) pid: i64,
    pub(crate) application: Option<String>,
    pub(crate) age_seconds: Option<f64>,
}

/// What the process says that runs a relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessView {
    /// `starting`, `running`, `draining` or `ended`.
    pub(crate) phase: String,
    /// `healthy`, or why it is not.
    pub(crate) health: String,
    pub(crate) forwarded: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) in_hand: usize,
    /// Who holds it back.
    pub(crate) held_back: Vec<HeldBackView>,
    /// What waits for a destination or a key.
    pub(crate) held: Vec<HeldView>,
    pub(crate) paused: Vec<PausedView>,
}

/// Somebody's transaction that a relay waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HeldBackView {
    pub(crate) holder: String,
    pub(crate) pid: Option<i64>,
    pub(crate) age_seconds: f64,
    pub(crate) waited_seconds: f64,
}

/// Messages that wait for something else than their turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HeldView {
    pub(crate) destination: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) messages: usize,
    pub(crate) attempts: u32,
    pub(crate) error: String,
    pub(crate) since_seconds: f64,
    pub(crate) paused: bool,
}

/// A destination, or a key of it, that somebody has paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PausedView {
    pub(crate) destination: String,
    pub(crate) key: Option<String>,
}

impl SourceView {
    /// Asks a source. What it costs is bounded. A topic that is not there yet is empty.
    pub(crate) async fn ask(pool: &SqlPool, source: &Source) -> Result<Self, String> {
        use watermill_core::error::SubscribeErrorKind::Topic;

        let nothing = || Self { backlog: Some(0), ..Self::default() };
        let mut view = match &source.layout {
            // What the database says is about tables of ours.
            _ if source.table.is_some() => Self::default(),
            Layout::Log(_) => match pool.log_status(&source.topic).await {
                Ok(log) => Self::of_log(source, log),
                Err(error) if error.kind() == Topic && source.create_tables => nothing(),
                Err(error) => return Err(chain(&error)),
            },
            Layout::Queue(_) => match pool.queue_status(&source.topic, None).await {
                Ok(queue) => Self {
                    backlog: Some(of_queue(&queue).map(|count| count.rows).sum()),
                    backlog_is_exact: of_queue(&queue).all(|count| count.is_exact),
                    oldest_seconds: queue.oldest_unclaimed.map(|age| age.as_secs_f64()),
                    active: (queue.in_hand.rows > 0).then(|| "workers".to_owned()),
                    ..Self::default()
                },
                Err(error) if error.kind() == Topic && source.create_tables => nothing(),
                Err(error) => return Err(chain(&error)),
            },
        };
        if !view.shards.is_empty() {
            let count = pool.shard_count(&source.topic, source.group()).await;
            let count = count.map_err(|error| chain(&error))?;
            view.shards_wanted = count.filter(|count| count.now != count.wanted).map(|count| count.wanted);
        }
        view.has_dead_letters = match pool.peek(&source.dead_letter_topic, 0, 1).await {
            Ok(letters) => !letters.is_empty(),
            Err(error) if error.kind() == Topic => false,
            Err(error) => return Err(chain(&error)),
        };
        Ok(view)
    }

    /// What there is to measure. Of a table that is not Watermill's nothing is known but the dead letters, and of a queue
    /// whether somebody works on it only while a worker has messages.
    pub(crate) fn figures(&self, source: &Source) -> SourceFigures {
        let is_known = self.backlog.is_some();
        let is_log = matches!(source.layout, Layout::Log(_));
        SourceFigures {
            backlog: self.backlog,
            oldest: is_known.then(|| Duration::from_secs_f64(self.oldest_seconds.unwrap_or(0.0))),
            has_owner: Some(self.active.is_some()).filter(|is_owned| is_known && (is_log || *is_owned)),
            has_dead_letters: self.has_dead_letters,
        }
    }

    /// Who has the lease of the topic, or of each of its shards.
    pub(crate) fn owners(&self) -> Owners {
        if self.shards.is_empty() {
            return self.active.iter().map(|owner| (None, owner.clone())).collect();
        }
        let owned = self.shards.iter().filter_map(|shard| Some((Some(shard.number), shard.active.clone()?)));
        owned.collect()
    }

    fn of_log(source: &Source, log: watermill_sql::LogStatus) -> Self {
        let writers = log.writers.into_iter().map(|writer| Writer {
            pid: writer.id,
            application: writer.application,
            age_seconds: writer.age.map(|age| age.as_secs_f64()),
        });
        let writers = writers.collect();
        let mut groups = log.groups.into_iter().filter(|group| group.group == source.group()).peekable();
        if groups.peek().is_none() {
            return Self { backlog: Some(0), backlog_is_exact: true, writers, ..Self::default() };
        }
        // Behind the position of a shard are also rows of the others: the one that is furthest back has them all.
        let mut view = Self { backlog_is_exact: true, writers, ..Self::default() };
        for group in groups {
            let active = group.owner.map(|owner| owner.owner);
            view.backlog = view.backlog.max(Some(group.backlog.rows));
            view.backlog_is_exact &= group.backlog.is_exact;
            let oldest = group.oldest_unread.map_or(0.0, |age| age.as_secs_f64());
            view.oldest_seconds = group
                .oldest_unread
                .map(|_| view.oldest_seconds.unwrap_or(0.0).max(oldest))
                .or(view.oldest_seconds);
            if let Some(number) = group.shard {
                view.shards.push(ShardView { number, position: group.position, active: active.clone() });
            }
            view.active = view.active.or(active);
        }
        view.shards.sort_by_key(|shard| shard.number);
        view
    }
}

impl ProcessView {
    pub(crate) fn of(control: &ForwarderControl, held_back: &[HeldBack]) -> Self {
        let status = control.status();
        let phase = match status.phase {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Ended => "ended",
            _ => "draining",
        };
        let health = match status.source.health {
            Health::Healthy => "healthy".to_owned(),
            Health::Degraded { reason } => reason,
            _ => "ended".to_owned(),
        };
        let paused = control
            .paused()
            .into_iter()
            .map(|(destination, key)| PausedView { destination, key: key.as_deref().map(text) });
        Self {
            phase: phase.to_owned(),
            health,
            forwarded: status.counts.forwarded,
            dead_lettered: status.counts.dead_lettered,
            in_hand: status.in_hand,
            held_back: held_back.iter().map(HeldBackView::of).collect(),
            held: status.held.iter().map(HeldView::of).collect(),
            paused: paused.collect(),
        }
    }

    /// A relay that could not be made yet.
    pub(crate) fn starting() -> Self {
        Self {
            phase: "starting".to_owned(),
            health: "its destination could not be set up yet".to_owned(),
            forwarded: 0,
            dead_lettered: 0,
            in_hand: 0,
            held_back: Vec::new(),
            held: Vec::new(),
            paused: Vec::new(),
        }
    }
}

impl HeldBackView {
    fn of(held: &HeldBack) -> Self {
        Self {
            holder: held.holder.clone(),
            pid: held.id,
            age_seconds: held.age.as_secs_f64(),
            waited_seconds: held.waited.as_secs_f64(),
        }
    }
}

impl HeldView {
    fn of(held: &Held) -> Self {
        Self {
            destination: held.destination.clone(),
            key: held.key.as_deref().map(text),
            messages: held.messages,
            attempts: held.attempts,
            error: held.error.clone(),
            since_seconds: held.since.as_secs_f64(),
            paused: held.paused,
        }
    }
}

/// All messages that wait in a queue.
fn of_queue(queue: &QueueStatus) -> impl Iterator<Item = Count> {
    [queue.due, queue.behind, queue.delayed, queue.in_hand].into_iter()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
