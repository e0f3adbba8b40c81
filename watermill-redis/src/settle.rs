//! [`RedisTransport`]: how entries become ours, and how outcomes become acks and claims.

use std::{
    mem,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Client, RedisResult, Script, Value, from_redis_value};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watermill_core::{
    backend::{ById, Failure, Incoming, Settled, Shared, Transport, Trouble},
    delivery::Outcome,
    error::{SubscribeError, SubscribeErrorKind},
};

use crate::{RedisSubscriberConfig, StartPosition, connection::Connection, marshaler};

/// Has what was given back, until somebody claims it: so that it is not ours, and the consumer can go.
const NOBODY: &str = "_watermill_given_back";
/// What was given back without a delay has been idle for so long that everybody may claim it.
const LONG_IDLE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Begins with the oldest pending entry, and is where a look at all of them ends.
const OLDEST: &str = "0-0";

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claim.lua")));
static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("settle.lua")));
/// Deleting a consumer deletes what it has pending.
static LEAVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
           redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
         end",
    )
});

/// An entry that is pending for us. Claimed by anybody, it is another one, for the server counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    id: String,
    delivered: u32,
}

/// An entry as it is found, and how often it was delivered.
type Found = (String, Vec<Bytes>, u32);

/// A stream, as one consumer of a group works on it.
pub(crate) struct RedisTransport {
    config: RedisSubscriberConfig,
    consumer: String,
    shared: Arc<Shared<ById<Entry>>>,
    /// Waits for messages.
    reading: Connection,
    talking: Connection,
    pending: Mutex<Pending>,
}

/// Where to look for entries that were delivered before.
struct Pending {
    /// Behind which of our own, until all were found.
    own: Option<String>,
    /// From which one of others', and when.
    others: String,
    look_at: Instant,
}

impl RedisTransport {
    pub(crate) fn new(
        client: &Client,
        config: RedisSubscriberConfig,
        consumer: String,
        shared: Arc<Shared<ById<Entry>>>,
    ) -> Self {
        Self {
            reading: Connection::new(client.clone(), config.timeout, config.look_interval),
            talking: Connection::new(client.clone(), config.timeout, Duration::ZERO),
            pending: Mutex::new(Pending {
                own: config.consumer.is_some().then(|| OLDEST.to_owned()),
                others: OLDEST.to_owned(),
                look_at: Instant::now(),
            }),
            config,
            consumer,
            shared,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<ById<Entry>>> {
        &self.shared
    }

    /// Creates the group unless it is there.
    pub(crate) async fn create_group(&self, start: StartPosition) -> Result<(), Failure> {
        let start = if start == StartPosition::Earliest { "0" } else { "$" };
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(self.shared.topic()).arg(&self.config.group).arg(start).arg("MKSTREAM");
        let created = async |mut connection| match create.exec_async(&mut connection).await {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            created => created,
        };
        self.talking.call(created).await
    }

    /// What is there: our own of an earlier life first, then what others left, then what is new.
    async fn find(&self, room: usize) -> Result<Vec<Found>, Failure> {
        let own = self.pending().own.clone();
        if let Some(behind) = own {
            let (behind, found) = self.claim(room, &behind, None).await?;
            self.pending().own = Some(behind).filter(|behind| !behind.is_empty());
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let others = {
            let pending = self.pending();
            (pending.look_at <= Instant::now()).then(|| pending.others.clone())
        };
        if let Some(from) = others {
            let (from, found) = self.claim(room, &from, Some(self.config.visibility_timeout)).await?;
            let mut pending = self.pending();
            if !found.is_empty() {
                pending.others = from;
                return Ok(found);
            }
            if from == OLDEST {
                pending.look_at = Instant::now() + self.config.look_interval;
            }
            pending.others = from;
        }
        self.read(room).await
    }

    async fn claim(
        &self,
        room: usize,
        from: &str,
        idle: Option<Duration>,
    ) -> Result<(String, Vec<Found>), Failure> {
        let mut claim = CLAIM.key(self.shared.topic());
        claim.arg(&self.config.group).arg(&self.consumer).arg(room).arg(from);
        claim.arg(idle.map(millis).unwrap_or_default());
        self.talking.call(async |mut connection| claim.invoke_async(&mut connection).await).await
    }

    async fn read(&self, room: usize) -> Result<Vec<Found>, Failure> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.config.group).arg(&self.consumer).arg("COUNT").arg(room);
        read.arg("BLOCK")
            .arg(millis(self.config.look_interval))
            .arg("STREAMS")
            .arg(self.shared.topic())
            .arg(">");
        let answer =
            self.reading.call(async |mut connection| new_entries(read.query_async(&mut connection).await?));
        answer.await
    }

    fn incoming(&self, (id, fields, delivered): Found) -> Option<Incoming<Entry>> {
        let message = match marshaler::read(fields) {
            Ok(message) => message,
            Err(error) => {
                let detail =
                    format!("entry {id} is no message; it stays pending and comes again, others go on");
                tracing::error!(topic = self.shared.topic(), error, "{detail}");
                let report = SubscribeError::new(SubscribeErrorKind::Undecodable, self.shared.topic());
                self.shared.report(report.because(detail).with_source(error));
                return None;
            }
        };
        let published_at = id.split('-').next().and_then(|millis| millis.parse().ok());
        let published_at =
            published_at.and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis)));
        let incoming = Incoming::new(Entry { id, delivered }, message).published_at(published_at);
        Some(incoming.attempt(delivered).redelivered(delivered > 1))
    }

    /// Tells the server, and hears of each entry whether it was ours.
    async fn tell(&self, told: impl Iterator<Item = (Entry, Verb)>) -> Result<Vec<bool>, Failure> {
        let mut settle = SETTLE.key(self.shared.topic());
        settle
            .arg(&self.config.group)
            .arg(&self.consumer)
            .arg(NOBODY)
            .arg(u8::from(self.config.delete_acked));
        for (Entry { id, delivered }, verb) in told {
            settle.arg(id).arg(delivered);
            match verb {
                Verb::Ack => settle.arg("ack").arg("").arg(""),
                Verb::Keep => settle.arg("keep").arg("").arg(""),
                Verb::Release { idle, deliveries } => settle.arg("release").arg(millis(idle)).arg(deliveries),
            };
        }
        self.talking.call(async |mut connection| settle.invoke_async(&mut connection).await).await
    }

    fn verb(&self, settled: &Settled<Entry>) -> Verb {
        match &settled.outcome {
            Outcome::Nack { delay } => Verb::Release {
                idle: match delay.is_zero() {
                    true => LONG_IDLE,
                    false => self.config.visibility_timeout.saturating_sub(*delay),
                },
                // The next claim counts one more.
                deliveries: settled.attempt - u32::from(!settled.tried),
            },
            Outcome::Reject { reason } => {
                let (topic, message) = (self.shared.topic(), settled.message.id().as_str());
                tracing::error!(
                    topic,
                    message,
                    attempt = settled.attempt,
                    reason,
                    "rejected: there are no dead letters"
                );
                Verb::Ack
            }
            _ => Verb::Ack,
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Verb {
    Ack,
    Keep,
    Release { idle: Duration, deliveries: u32 },
}

#[async_trait]
impl Transport for RedisTransport {
    type Id = Entry;

    async fn fetch(
        &self,
        room: usize,
        _closing: &CancellationToken,
    ) -> Result<Vec<Incoming<Entry>>, Failure> {
        match self.find(room).await {
            Ok(found) => Ok(found.into_iter().filter_map(|found| self.incoming(found)).collect()),
            Err(failure) if failure.trouble() == Trouble::Mismatch => {
                let (topic, group) = (self.shared.topic(), &self.config.group);
                tracing::warn!(
                    topic,
                    group,
                    "the group was gone; made again, it begins with the oldest message"
                );
                self.create_group(StartPosition::Earliest).await.map(|()| Vec::new())
            }
            Err(failure) => Err(failure),
        }
    }

    async fn record(&self, settled: &mut Vec<Settled<Entry>>) -> Result<(), Failure> {
        let told = settled.iter().map(|settled| (settled.id.clone(), self.verb(settled)));
        let mut ours = self.tell(told).await?.into_iter();
        for settled in mem::take(settled) {
            if ours.next() == Some(true) { settled.recorded() } else { settled.lost() }
        }
        Ok(())
    }

    async fn extend(&self, in_hand: Vec<Entry>) -> Result<Vec<Entry>, Failure> {
        let ours = self.tell(in_hand.iter().map(|entry| (entry.clone(), Verb::Keep))).await?;
        Ok(in_hand.into_iter().zip(ours).filter(|(_, ours)| !ours).map(|(entry, _)| entry).collect())
    }

    /// A consumer that nobody will ask for again goes.
    async fn close(&self) {
        if self.config.consumer.is_none() {
            let mut leave = LEAVE.key(self.shared.topic());
            leave.arg(&self.config.group).arg(&self.consumer);
            let left =
                self.talking.call(async |mut connection| leave.invoke_async::<()>(&mut connection).await);
            if let Err(failure) = left.await {
                tracing::debug!(
                    consumer = self.consumer,
                    reason = failure.text(),
                    "a consumer is left behind"
                );
            }
        }
    }
}

/// As much as the server knows of time.
fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// Of the answer to `XREADGROUP` for one stream: nothing, or its name and its entries, in a map or a list.
fn new_entries(answer: Value) -> RedisResult<Vec<Found>> {
    let entries = match answer {
        Value::Map(streams) => streams.into_iter().next().map(|(_, entries)| entries),
        Value::Array(streams) => match streams.into_iter().next() {
            Some(Value::Array(stream)) => stream.into_iter().nth(1),
            _ => None,
        },
        _ => None,
    };
    let entries: Vec<(String, Vec<Bytes>)> = from_redis_value(entries.unwrap_or(Value::Array(Vec::new())))?;
    Ok(entries.into_iter().map(|(id, fields)| (id, fields, 1)).collect())
}
