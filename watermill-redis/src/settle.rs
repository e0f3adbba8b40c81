//! [`RedisTransport`]: how entries become ours, and how outcomes become acks and claims.

use std::{
    mem,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Client, Script};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use watermill_core::{
    backend::{ById, Failure, Incoming, Settled, Shared, Transport, Trouble},
    delivery::Outcome,
};

use crate::{
    RedisSubscriberConfig, StartPosition,
    connection::{Connection, connection},
    marshaler,
};

/// Has what was given back, until somebody claims it: so that it is not ours, and the consumer can go.
const NOBODY: &str = "_watermill_given_back";
/// What was given back without a delay has been idle for so long that everybody may claim it.
const LONG_IDLE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Begins with the oldest pending entry, and is where a look at all of them ends.
const OLDEST: &str = "0-0";

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claim.lua")));
static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("settle.lua")));
static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("leave.lua")));

/// An entry that is pending for us. Claimed by anybody, it is another one, for the server counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    id: String,
    delivered: u32,
}

/// What a subscription has in hand.
pub(crate) type State = Shared<ById<Entry>>;

/// An entry as it is found: id, fields, and how often it was delivered.
type Found = (String, Vec<Bytes>, u32);

/// The answer to `XREADGROUP`: of each stream its name and its entries.
type Streams = Vec<(String, Vec<(String, Vec<Bytes>)>)>;

/// Whose an entry is from now on, for how long it has been idle, and how often it was delivered. `None` is an ack.
type Claim<'a> = Option<(&'a str, Duration, u32)>;

/// A stream, as one consumer of a group works on it.
pub(crate) struct RedisTransport {
    config: RedisSubscriberConfig,
    consumer: String,
    pub(crate) shared: Arc<State>,
    /// Waits for messages.
    reading: Connection,
    talking: Connection,
    pending: Mutex<Pending>,
}

/// Where to look for entries that were delivered before, and when.
#[derive(Clone)]
struct Pending {
    /// At those of our own, from an earlier life.
    own: bool,
    from: String,
    at: Instant,
}

impl RedisTransport {
    pub(crate) fn new(client: &Client, config: RedisSubscriberConfig, shared: Arc<State>) -> Self {
        let consumer = config.consumer.clone().unwrap_or_else(|| Uuid::now_v7().simple().to_string());
        let reading = connection(client.clone(), config.timeout, config.look_interval);
        let talking = connection(client.clone(), config.timeout, Duration::ZERO);
        let own = config.consumer.is_some();
        let pending = Mutex::new(Pending { own, from: OLDEST.to_owned(), at: Instant::now() });
        Self { config, consumer, shared, reading, talking, pending }
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
        let Pending { own, from, at } = self.pending().clone();
        if at <= Instant::now() {
            let (from, found) = self.claim(room, own, &from).await?;
            let mut pending = self.pending();
            let has_seen_all = found.is_empty() && from == OLDEST;
            pending.from = from;
            if own || !found.is_empty() {
                pending.own = own && !has_seen_all;
                return Ok(found);
            }
            if has_seen_all {
                pending.at = Instant::now() + self.config.look_interval;
            }
        }
        self.read(room).await
    }

    async fn claim(&self, room: usize, own: bool, from: &str) -> Result<(String, Vec<Found>), Failure> {
        let idle = if own { String::new() } else { millis(self.config.visibility_timeout) };
        let mut claim = CLAIM.key(self.shared.topic());
        claim.arg(&self.config.group).arg(&self.consumer).arg(room).arg(from).arg(idle);
        self.talking.call(async |mut connection| claim.invoke_async(&mut connection).await).await
    }

    async fn read(&self, room: usize) -> Result<Vec<Found>, Failure> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.config.group).arg(&self.consumer).arg("COUNT").arg(room);
        read.arg("BLOCK").arg(millis(self.config.look_interval));
        read.arg("STREAMS").arg(self.shared.topic()).arg(">");
        let streams: Streams =
            self.reading.call(async |mut connection| read.query_async(&mut connection).await).await?;
        let entries = streams.into_iter().flat_map(|(_, entries)| entries);
        Ok(entries.map(|(id, fields)| (id, fields, 1)).collect())
    }

    fn incoming(&self, (id, fields, delivered): Found) -> Option<Incoming<Entry>> {
        let message = marshaler::read(fields).map_err(|error| {
            let fate = format!("entry {id} is no message; it stays pending and comes again, others go on");
            self.shared.report_undecodable(fate, error);
        });
        let since = id.split('-').next().and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
        let published_at = since.and_then(|since| UNIX_EPOCH.checked_add(since));
        let incoming = Incoming::new(Entry { id, delivered }, message.ok()?).published_at(published_at);
        Some(incoming.attempt(delivered).redelivered(delivered > 1))
    }

    /// Tells the server, and hears of each entry whether it was ours.
    async fn tell(&self, told: impl Iterator<Item = (&Entry, Claim<'_>)>) -> Result<Vec<bool>, Failure> {
        let mut settle = SETTLE.key(self.shared.topic());
        settle.arg(&self.config.group).arg(&self.consumer).arg(u8::from(self.config.delete_acked));
        for (Entry { id, delivered }, claim) in told {
            let (owner, idle, deliveries) = claim.unwrap_or_default();
            settle.arg(id).arg(delivered).arg(owner).arg(millis(idle)).arg(deliveries);
        }
        self.talking.call(async |mut connection| settle.invoke_async(&mut connection).await).await
    }

    fn claim_after(&self, settled: &Settled<Entry>) -> Claim<'static> {
        match &settled.outcome {
            Outcome::Nack { delay } => {
                let idle = match delay.is_zero() {
                    true => LONG_IDLE,
                    false => self.config.visibility_timeout.saturating_sub(*delay),
                };
                // The next claim counts one more.
                Some((NOBODY, idle, settled.attempt - u32::from(!settled.tried)))
            }
            _ => None,
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            Err(failure) if failure.trouble() == Trouble::Mismatch => {
                let (topic, group) = (self.shared.topic(), &self.config.group);
                tracing::warn!(topic, group, "the group was gone; made again, it begins at the oldest");
                self.create_group(StartPosition::Earliest).await.map(|()| Vec::new())
            }
            found => Ok(found?.into_iter().filter_map(|found| self.incoming(found)).collect()),
        }
    }

    async fn record(&self, settled: &mut Vec<Settled<Entry>>) -> Result<(), Failure> {
        let told = settled.iter().map(|settled| (&settled.id, self.claim_after(settled)));
        let ours = self.tell(told).await?;
        for (settled, ours) in mem::take(settled).into_iter().zip(ours) {
            if ours {
                settled.log_if_dropped(self.shared.topic());
                settled.recorded();
            } else {
                settled.lost();
            }
        }
        Ok(())
    }

    async fn extend(&self, in_hand: Vec<Entry>) -> Result<Vec<Entry>, Failure> {
        let keep = |entry: &Entry| Some((&*self.consumer, Duration::ZERO, entry.delivered));
        let ours = self.tell(in_hand.iter().map(|entry| (entry, keep(entry)))).await?;
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

#[cfg(test)]
mod tests {
    use redis::{Value, from_redis_value};

    use super::*;

    #[test]
    fn new_entries_are_read_in_either_version_of_the_protocol() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let fields = Value::Array(vec![text("payload"), text("x")]);
        let entries = Value::Array(vec![Value::Array(vec![text("1-0"), fields])]);
        let lists = Value::Array(vec![Value::Array(vec![text("t"), entries.clone()])]);
        let map = Value::Map(vec![(text("t"), entries)]);
        for answer in [lists, map] {
            let fields = vec![Bytes::from("payload"), Bytes::from("x")];
            let expected = vec![("t".to_owned(), vec![("1-0".to_owned(), fields)])];
            assert_eq!(from_redis_value::<Streams>(answer).unwrap(), expected);
        }
        assert_eq!(from_redis_value::<Streams>(Value::Nil).unwrap(), Vec::new());
    }
}
