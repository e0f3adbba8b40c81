//! [`Pulls`]: asks a consumer for messages, and takes what comes.

use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subscriber, jetstream::consumer};
use futures::{FutureExt as _, StreamExt as _, future::join};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use watermill_core::backend::{Failure, Trouble};

use crate::{
    api::API,
    error::{connected, connects, of_sending, taken},
};

/// How long the server keeps a request.
const EXPIRES: Duration = Duration::from_secs(30);
/// How long to wait before asking again where all requests have ended without a message. The server ends none for
/// nothing, but while another begins to lead it may end each at once.
const PAUSE: Duration = Duration::from_millis(10);
/// The header that says how much of an expired request was not fulfilled.
const UNFULFILLED: &str = "Nats-Pending-Messages";

/// The requests for messages that the server has, and the inbox that the messages come to. A request stays with the
/// server until it is fulfilled, so that what is published later comes without being asked for again.
pub(crate) struct Pulls {
    client: Client,
    inbox: String,
    arriving: Subscriber,
    heartbeat: Duration,
    /// How many messages were asked for and have not come.
    asked: usize,
    /// What is said of requests from before a reconnect, or of another consumer, counts no more.
    round: u64,
    /// How often the client has been connected, as of the last request.
    connects: u64,
    /// When the server was last heard, when that was last looked for, and whether it is missed.
    heard: Instant,
    looked: Instant,
    silent: bool,
    ended: bool,
}

/// What has come of waiting.
pub(crate) enum Came {
    Messages(Arrived),
    /// The consumer is not there, or not just now, or the server is not.
    Gone,
}

/// Messages, none of which has been on its way for longer.
pub(crate) struct Arrived {
    pub(crate) messages: Vec<Message>,
    pub(crate) since: Instant,
}

/// What a status means.
enum Status {
    /// The server is there.
    Alive,
    Gone,
    Failed(Failure),
}

impl Pulls {
    pub(crate) async fn new(client: &Client, heartbeat: Duration) -> Result<Self, Failure> {
        let inbox = client.new_inbox();
        let arriving = client.subscribe(format!("{inbox}.*")).await.map_err(of_sending)?;
        let now = Instant::now();
        Ok(Self {
            client: client.clone(),
            inbox,
            arriving,
            heartbeat,
            asked: 0,
            round: 0,
            connects: 0,
            heard: now,
            looked: now,
            silent: false,
            ended: false,
        })
    }

    /// Asks for up to `room` messages and waits a while for one, or until `closing` is cancelled.
    pub(crate) async fn next(
        &mut self,
        consumer: &consumer::Info,
        room: usize,
        closing: &CancellationToken,
    ) -> Result<Came, Failure> {
        self.ask(consumer, room).await?;
        let ack_wait = consumer.config.ack_wait;
        let next = tokio::select! {
            () = closing.cancelled() => return Ok(Came::nothing(self.looked)),
            next = timeout(self.heartbeat.min(ack_wait / 6), self.arriving.next()) => next,
        };
        let since = self.look(ack_wait).await?;
        let next = match next.ok().or_else(|| self.arriving.next().now_or_never()) {
            Some(next) => next,
            None => return Ok(self.nothing_came()),
        };
        (self.heard, self.silent) = (self.looked, false);
        let first = next.ok_or_else(|| Failure::because(Trouble::Closed, "the client has ended"))?;
        let mut messages = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message.status {
                None => messages.push(message),
                Some(status) => match self.told(status, &message) {
                    Status::Alive => {}
                    // What has come is handed out first; the next request hears the same again.
                    _ if !messages.is_empty() => break,
                    Status::Gone => return Ok(Came::Gone),
                    Status::Failed(failure) => return Err(failure),
                },
            }
            next = self.arriving.next().now_or_never().flatten();
        }
        self.asked = self.asked.saturating_sub(messages.len());
        if messages.is_empty() && self.asked == 0 {
            sleep(PAUSE).await;
        }
        Ok(Came::Messages(Arrived { messages, since }))
    }

    /// A consumer that is gone is silent like a server that is frozen: JetStream takes requests for any name.
    fn nothing_came(&mut self) -> Came {
        if !self.silent && self.looked < self.heard + 3 * self.heartbeat {
            return Came::nothing(self.looked);
        }
        self.silent = true;
        self.again();
        Came::Gone
    }

    /// What has come and nobody has taken.
    pub(crate) async fn arrived(&mut self, ack_wait: Duration) -> Result<Arrived, Failure> {
        let since = self.look(ack_wait).await?;
        let mut messages = Vec::new();
        while let Some(Some(message)) = self.arriving.next().now_or_never() {
            match message.status {
                None => messages.push(message),
                Some(status) => drop(self.told(status, &message)),
            }
        }
        self.asked = self.asked.saturating_sub(messages.len());
        Ok(Arrived { messages, since })
    }

    /// Since when may have come what is there now. If that is long ago, because nobody looked or this process was stopped,
    /// the rest of it is waited for, which would else be taken for new.
    async fn look(&mut self, ack_wait: Duration) -> Result<Instant, Failure> {
        let (since, now) = (self.looked, Instant::now());
        if now > since + ack_wait / 3 {
            taken(&self.client, ack_wait / 3).await?;
        }
        if now > since + 2 * self.heartbeat.max(ack_wait / 6) {
            self.heard = now;
        }
        self.looked = now;
        Ok(since)
    }

    /// Ends all requests, once, and asks `at_once` behind that; what the server had sent before it knew is returned.
    pub(crate) async fn end(
        &mut self,
        ack_wait: Duration,
        at_most: Duration,
        at_once: impl Future<Output = ()>,
    ) -> Option<Arrived> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let mut arrived =
            self.arrived(ack_wait).await.unwrap_or(Arrived { messages: Vec::new(), since: self.looked });
        let drained = timeout(at_most, async {
            if self.arriving.drain().await.is_err() {
                return;
            }
            let left = async {
                while let Some(message) = self.arriving.next().await {
                    arrived.messages.extend(Some(message).filter(|message| message.status.is_none()));
                }
            };
            join(at_once, left).await;
        });
        if drained.await.is_err() {
            tracing::debug!("the server has not ended the requests for messages in time");
        }
        Some(arrived)
    }

    /// Nothing that was asked for will come.
    pub(crate) fn again(&mut self) {
        self.asked = 0;
        self.round += 1;
    }

    /// Asks for what there is room for, in requests of at least half of it: there are never many.
    async fn ask(&mut self, consumer: &consumer::Info, room: usize) -> Result<(), Failure> {
        connected(&self.client)?;
        let connects = connects(&self.client);
        if connects != self.connects {
            self.again();
            self.connects = connects;
        }
        if 2 * self.asked > room || room == 0 || self.ended {
            return Ok(());
        }
        let batch = room - self.asked;
        let request = json!({
            "batch": batch,
            "expires": nanos(EXPIRES),
            "idle_heartbeat": nanos(self.heartbeat),
        });
        let subject = format!("{API}.CONSUMER.MSG.NEXT.{}.{}", consumer.stream_name, consumer.name);
        let reply = format!("{}.{}", self.inbox, self.round);
        self.client
            .publish_with_reply(subject, reply, request.to_string().into())
            .await
            .map_err(of_sending)?;
        self.asked += batch;
        Ok(())
    }

    fn told(&mut self, status: StatusCode, message: &Message) -> Status {
        let round = message.subject.rsplit('.').next().and_then(|round| round.parse().ok());
        if round != Some(self.round) {
            return Status::Alive;
        }
        let text = message.description.as_deref().unwrap_or_default();
        match status {
            StatusCode::IDLE_HEARTBEAT => return Status::Alive,
            StatusCode::TIMEOUT => {
                let unfulfilled = message.headers.as_ref().and_then(|headers| headers.get_last(UNFULFILLED));
                let unfulfilled = unfulfilled.and_then(|count| count.as_str().parse().ok());
                self.asked = self.asked.saturating_sub(unfulfilled.unwrap_or(self.asked));
                return Status::Alive;
            }
            _ => self.again(),
        }
        match status {
            StatusCode::NO_RESPONDERS | StatusCode::NOT_FOUND => Status::Gone,
            StatusCode::REQUEST_TERMINATED if text.contains("Consumer Deleted") => Status::Gone,
            // Another server leads, or this one ends: it is asked again at once.
            StatusCode::REQUEST_TERMINATED if text.contains("Leadership") || text.contains("Shutdown") => {
                Status::Alive
            }
            status => {
                let text = format!("the server refuses to hand out messages: {status} {text}");
                Status::Failed(Failure::because(Trouble::Unavailable, text))
            }
        }
    }
}

impl Came {
    fn nothing(since: Instant) -> Self {
        Self::Messages(Arrived { messages: Vec::new(), since })
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
