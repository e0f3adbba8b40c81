//! [`NatsTransport`]: how messages become ours, and how outcomes become acks.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_nats::{
    Client, Message, Request, RequestErrorKind, Subject,
    jetstream::{AckKind, consumer},
};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    backend::{ById, Failure, Incoming, Settled, Shared, Transport, Trouble},
    delivery::{Origin, Outcome},
};

use crate::{
    NatsSubscriberConfig, StartPosition,
    api::Api,
    error::{connected, connects, of_request, of_sending},
    marshaler,
    pulls::{Arrived, Came, Pulls},
};

/// How often the server is asked how many messages the group has not settled.
const LAG_INTERVAL: Duration = Duration::from_secs(5);

/// A delivery, by the subject on which it is settled. Delivered again, it is another one, for the server counts.
#[derive(Clone, Debug)]
pub(crate) struct Held(Arc<Delivered>);

#[derive(Debug)]
struct Delivered {
    reply: Subject,
    /// When it comes to others. Our own clock is begun before the server's.
    until: StdMutex<Instant>,
}

/// What a subscription has in hand.
pub(crate) type State = Shared<ById<Held>>;

/// A consumer, as one member of its group works on it.
pub(crate) struct NatsTransport {
    client: Client,
    api: Api,
    config: NatsSubscriberConfig,
    shared: Arc<State>,
    origin: Origin,
    consumer: StdMutex<Arc<consumer::Info>>,
    inbox: Mutex<Inbox>,
    /// When the group's lag was asked for last.
    measured: StdMutex<Option<Instant>>,
}

struct Inbox {
    pulls: Pulls,
    /// What has come while the ledger had no room. It is kept from running out like what is in hand.
    waiting: Vec<(Held, Incoming<Held>)>,
}

impl NatsTransport {
    pub(crate) fn new(
        client: Client,
        api: Api,
        config: NatsSubscriberConfig,
        (shared, origin): (Arc<State>, Origin),
        consumer: consumer::Info,
        pulls: Pulls,
    ) -> Self {
        let inbox = Mutex::new(Inbox { pulls, waiting: Vec::new() });
        Self {
            client,
            api,
            config,
            shared,
            origin,
            consumer: StdMutex::new(Arc::new(consumer)),
            inbox,
            measured: StdMutex::default(),
        }
    }

    /// Tells the server of deliveries, which takes what a connection brings in its order: it confirms the last, and has
    /// the others then. False when the consumer is another one now, which knows none of them.
    async fn tell(&self, told: &[(&Held, AckKind)]) -> Result<bool, Failure> {
        let Some(((last, kind), before)) = told.split_last() else { return Ok(true) };
        connected(&self.client)?;
        let connects_before = connects(&self.client);
        for (held, kind) in before {
            self.client.publish(held.reply(), Bytes::from(*kind)).await.map_err(of_sending)?;
        }
        let request = Request::new().payload(Bytes::from(*kind)).timeout(Some(self.config.timeout));
        match self.client.send_request(last.reply(), request).await {
            Ok(_) if before.is_empty() || connects(&self.client) == connects_before => Ok(true),
            Ok(_) => Err(Failure::because(
                Trouble::Unavailable,
                "the connection was lost and is there again, and nobody knows which acks have arrived: they are sent again",
            )),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => match self.has_gone().await? {
                true => Ok(false),
                false => Err(of_request(error)),
            },
            Err(error) => Err(of_request(error)),
        }
    }

    /// Looks for a consumer that does not answer, and makes it again where it was deleted. True when it is another one
    /// than before: nothing in hand is ours any more.
    async fn has_gone(&self) -> Result<bool, Failure> {
        let before = self.consumer();
        let topic = self.shared.topic();
        self.api.forget(topic);
        // From the oldest message on, so that none is missed.
        let now = self.api.ensure_consumer(topic, &self.config, StartPosition::Earliest).await?;
        let is_same =
            |one: &consumer::Info| (&one.stream_name, one.created) == (&now.stream_name, now.created);
        // Fetching and recording may both have found that it has gone: it is replaced once.
        if is_same(&self.consumer()) {
            return Ok(!is_same(&before));
        }
        tracing::warn!(
            topic,
            group = self.config.group,
            "the consumer was deleted; another one begins with the oldest message, and what was in hand comes again"
        );
        *self.lock_consumer() = Arc::new(now);
        self.shared.lose(&self.origin);
        Ok(true)
    }

    /// What has come and is ours still.
    fn incoming(&self, Arrived { messages, since }: Arrived) -> impl Iterator<Item = (Held, Incoming<Held>)> {
        let until = since + self.ack_wait();
        let is_ours = until > Instant::now();
        if !is_ours && !messages.is_empty() {
            let (topic, count) = (self.shared.topic(), messages.len());
            tracing::warn!(
                topic,
                count,
                "messages came while this process was stopped, and are for others by now"
            );
        }
        let messages = if is_ours { messages } else { Vec::new() };
        messages.into_iter().filter_map(move |message| self.delivered(message, until))
    }

    fn delivered(&self, message: Message, until: Instant) -> Option<(Held, Incoming<Held>)> {
        let reply = message.reply?;
        let Some((attempt, published_at)) = read_reply(&reply) else {
            tracing::debug!(topic = self.shared.topic(), %reply, "something that is no delivery came to the inbox");
            return None;
        };
        let held = Held(Arc::new(Delivered { reply, until: StdMutex::new(until) }));
        let incoming =
            Incoming::new(held.clone(), marshaler::read(message.headers.as_ref(), message.payload));
        Some((held, incoming.attempt(attempt).redelivered(attempt > 1).published_at(published_at)))
    }

    /// Once nobody takes messages any more, the requests end, before anything is given back: it would come here again.
    async fn leave_if_over(&self) {
        if !self.shared.closing().is_cancelled() && !self.shared.lock().is_stopped() {
            return;
        }
        // Servers of 2.9 take a request to which nobody listens for one until they are asked how many there are. If something is
        // given back before, they keep it until `ack_wait` is over, and hand out their last message twice.
        let counting = async {
            let consumer = self.consumer();
            if let Err(failure) = self.api.consumer(&consumer.stream_name, &consumer.name).await {
                tracing::debug!(
                    topic = self.shared.topic(),
                    reason = failure.text(),
                    "the consumer does not answer"
                );
            }
        };
        let mut inbox = self.inbox.lock().await;
        if let Some(arrived) = inbox.pulls.end(self.ack_wait(), self.config.timeout, counting).await {
            inbox.waiting.extend(self.incoming(arrived));
        }
    }

    /// Asks now and then how many messages the group has not settled: those that nobody has been sent, and those that
    /// somebody has in hand.
    async fn measure(&self) {
        if !self.is_to_be_measured() {
            return;
        }
        let consumer = self.consumer();
        // Whoever does not answer is heard of by way of what is fetched.
        let asked = timeout(self.config.heartbeat, self.api.consumer(&consumer.stream_name, &consumer.name));
        if let Ok(Ok(Some(info))) = asked.await {
            let in_hand = u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX);
            self.shared.lock().lag = Some(info.num_pending.saturating_add(in_hand));
        }
    }

    fn is_to_be_measured(&self) -> bool {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, before) = (Instant::now(), *measured);
        let is_due = before.is_none_or(|at| at + LAG_INTERVAL <= now);
        *measured = if is_due { Some(now) } else { before };
        is_due
    }

    fn ack_wait(&self) -> Duration {
        self.consumer().config.ack_wait
    }

    fn consumer(&self) -> Arc<consumer::Info> {
        self.lock_consumer().clone()
    }

    fn lock_consumer(&self) -> MutexGuard<'_, Arc<consumer::Info>> {
        self.consumer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Transport for NatsTransport {
    type Id = Held;

    async fn fetch(&self, room: usize, closing: &CancellationToken) -> Result<Vec<Incoming<Held>>, Failure> {
        self.measure().await;
        let mut inbox = self.inbox.lock().await;
        if !inbox.waiting.is_empty() {
            let room = room.min(inbox.waiting.len());
            return Ok(inbox.waiting.drain(..room).map(|(_, incoming)| incoming).collect());
        }
        let consumer = self.consumer();
        match inbox.pulls.next(&consumer, room, closing).await? {
            Came::Messages(arrived) => Ok(self.incoming(arrived).map(|(_, incoming)| incoming).collect()),
            Came::Gone => match self.has_gone().await? {
                true => Ok(Vec::new()),
                false => Err(Failure::because(Trouble::Unavailable, "the consumer does not answer just now")),
            },
        }
    }

    async fn record(&self, settled: &mut Vec<Settled<Held>>) -> Result<(), Failure> {
        self.leave_if_over().await;
        let now = Instant::now();
        settled.extract_if(.., |settled| settled.id.until() <= now).for_each(Settled::lost);
        let told: Vec<_> = settled.iter().map(|settled| (&settled.id, kind(&settled.outcome))).collect();
        if self.tell(&told).await? {
            settled.iter().for_each(|settled| settled.log_if_dropped(self.shared.topic()));
        } else {
            settled.drain(..).for_each(Settled::lost);
        }
        Ok(())
    }

    async fn extend(&self, mut in_hand: Vec<Held>) -> Result<Vec<Held>, Failure> {
        self.measure().await;
        self.leave_if_over().await;
        let now = Instant::now();
        let lost: Vec<_> = in_hand.extract_if(.., |held| held.until() <= now).collect();
        // Somebody who fetches takes what comes; otherwise nobody does.
        if let Ok(mut inbox) = self.inbox.try_lock() {
            let arrived = inbox.pulls.arrived(self.ack_wait()).await?;
            inbox.waiting.retain(|(held, _)| held.until() > now);
            inbox.waiting.extend(self.incoming(arrived));
            in_hand.extend(inbox.waiting.iter().map(|(held, _)| held.clone()));
        }
        let told: Vec<_> = in_hand.iter().map(|held| (held, AckKind::Progress)).collect();
        if self.tell(&told).await? {
            let until = now + self.ack_wait();
            in_hand.iter().for_each(|held| *held.lock() = until);
        }
        Ok(lost)
    }

    /// What the server has sent meanwhile is for others.
    async fn close(&self) {
        self.leave_if_over().await;
        let held: Vec<_> = self.inbox.lock().await.waiting.drain(..).map(|(held, _)| held).collect();
        let told: Vec<_> = held.iter().map(|held| (held, AckKind::Nak(None))).collect();
        if let Err(failure) = self.tell(&told).await {
            let (topic, reason) = (self.shared.topic(), failure.text());
            tracing::debug!(
                topic,
                reason,
                "messages that came at the end come to others when ack_wait is over"
            );
        }
    }
}

impl Held {
    fn reply(&self) -> Subject {
        self.0.reply.clone()
    }

    fn until(&self) -> Instant {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.0.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.0.reply == other.0.reply
    }
}

impl Eq for Held {}

impl Hash for Held {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.reply.as_str().hash(state);
    }
}

fn kind(outcome: &Outcome) -> AckKind {
    match outcome {
        Outcome::Nack { delay } => AckKind::Nak(Some(*delay).filter(|delay| !delay.is_zero())),
        Outcome::Reject { .. } => AckKind::Term,
        _ => AckKind::Ack,
    }
}

/// Which delivery it is, and when the message was published, by the subject on which it is settled:
/// `$JS.ACK.<stream>.<consumer>.<delivery>.<in the stream>.<of the consumer>.<published at>.<pending>`, in newer servers with
/// domain and account before the stream.
fn read_reply(reply: &str) -> Option<(u32, Option<SystemTime>)> {
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let at = match tokens.len() {
        7 => 2,
        9.. => 4,
        _ => return None,
    };
    let since_epoch = tokens[at + 3].parse().ok().map(Duration::from_nanos);
    let attempt = u32::try_from(tokens[at].parse::<u64>().ok()?).unwrap_or(u32::MAX);
    Some((attempt, since_epoch.and_then(|since_epoch| UNIX_EPOCH.checked_add(since_epoch))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_tells_the_attempt_and_the_time_in_old_and_new_form() {
        let published_at = Some(UNIX_EPOCH + Duration::from_nanos(1_790_230_470_084_404_000));
        for reply in [
            "$JS.ACK.events.durable.3.100.7.1790230470084404000.42",
            "$JS.ACK._.szMpdrwD.events.durable.3.100.7.1790230470084404000.1",
            "$JS.ACK.hub.szMpdrwD.events.durable.3.100.7.1790230470084404000.1.token",
        ] {
            assert_eq!(read_reply(reply), Some((3, published_at)), "{reply}");
        }
        for reply in
            ["", "$JS.ACK.a.b.1.2.3.4", "$JS.FC.events.durable.3.100.7.1.42", "$JS.ACK.a.b.x.1.1.1.1"]
        {
            assert_eq!(read_reply(reply), None, "{reply}");
        }
    }

    #[test]
    fn an_outcome_is_told_in_the_words_of_the_server() {
        let word = |outcome: &Outcome| Bytes::from(kind(outcome));
        assert_eq!(word(&Outcome::Ack), "+ACK");
        assert_eq!(word(&Outcome::Reject { reason: "no".to_owned() }), "+TERM");
        assert_eq!(word(&Outcome::Nack { delay: Duration::ZERO }), "-NAK");
        let later = Outcome::Nack { delay: Duration::from_millis(5) };
        assert_eq!(word(&later), "-NAK {\"delay\":5000000}");
    }
}
