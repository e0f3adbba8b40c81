//! [`Pulls`]: asks a consumer for messages, and takes what comes.

use std::{sync::atomic::Ordering, time::Duration};

use async_nats::{Client, Message, StatusCode, Subscriber};
use futures::{FutureExt as _, StreamExt as _};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use watermill_core::backend::{Failure, Trouble};

use crate::{
    api::API,
    error::{connected, of_sending},
};

/// How long the server keeps a request.
const EXPIRES: Duration = Duration::from_secs(30);
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
    /// When the server was last heard, when that was last listened for, and whether it is missed.
    heard: Instant,
    listened: Instant,
    silent: bool,
}

/// What has come of waiting.
pub(crate) enum Came {
    Messages(Vec<Message>),
    /// The consumer is not there, or not just now.
    Gone,
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
            listened: now,
            silent: false,
        })
    }

    /// Asks for up to `room` messages and waits a while for one, at most for `at_most`, or until `closing` is cancelled.
    pub(crate) async fn next(
        &mut self,
        consumer: (&str, &str),
        room: usize,
        at_most: Duration,
        closing: &CancellationToken,
    ) -> Result<Came, Failure> {
        self.ask(consumer, room).await?;
        let now = Instant::now();
        if now > self.listened + self.heartbeat {
            self.heard = now;
        }
        let next = tokio::select! {
            () = closing.cancelled() => return Ok(Came::Messages(Vec::new())),
            next = timeout(at_most.min(self.heartbeat), self.arriving.next()) => next,
        };
        self.listened = Instant::now();
        let Ok(next) = next else { return self.nothing_came() };
        (self.heard, self.silent) = (self.listened, false);
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
        Ok(Came::Messages(messages))
    }

    fn nothing_came(&mut self) -> Result<Came, Failure> {
        let silence = self.listened - self.heard;
        if !self.silent && silence < 3 * self.heartbeat {
            return Ok(Came::Messages(Vec::new()));
        }
        self.silent = true;
        self.again();
        Err(Failure::because(Trouble::Unavailable, "the server is silent: it sends neither messages nor heartbeats"))
    }

    /// What has come and nobody has taken.
    pub(crate) fn arrived(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(Some(message)) = self.arriving.next().now_or_never() {
            match message.status {
                None => messages.push(message),
                Some(status) => drop(self.told(status, &message)),
            }
        }
        self.asked = self.asked.saturating_sub(messages.len());
        messages
    }

    /// Ends all requests; what the server had sent before it knew is returned.
    pub(crate) async fn end(&mut self, at_most: Duration) -> Vec<Message> {
        let mut messages = Vec::new();
        let drained = timeout(at_most, async {
            if self.arriving.drain().await.is_ok() {
                while let Some(message) = self.arriving.next().await {
                    messages.extend(Some(message).filter(|message| message.status.is_none()));
                }
            }
        });
        if drained.await.is_err() {
            tracing::debug!("the server has not ended the requests for messages in time");
        }
        messages
    }

    /// Nothing that was asked for will come.
    pub(crate) fn again(&mut self) {
        self.asked = 0;
        self.round += 1;
    }

    /// Asks for what there is room for, in requests of at least half of it: there are never many.
    async fn ask(&mut self, (stream, consumer): (&str, &str), room: usize) -> Result<(), Failure> {
        connected(&self.client)?;
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        if connects != self.connects {
            self.again();
            self.connects = connects;
        }
        if 2 * self.asked > room || room == 0 {
            return Ok(());
        }
        let batch = room - self.asked;
        let request = json!({
            "batch": batch,
            "expires": nanos(EXPIRES),
            "idle_heartbeat": nanos(self.heartbeat),
        });
        let subject = format!("{API}.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        let reply = format!("{}.{}", self.inbox, self.round);
        self.client.publish_with_reply(subject, reply, request.to_string().into()).await.map_err(of_sending)?;
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
            StatusCode::REQUEST_TERMINATED if text.contains("Leadership") || text.contains("Shutdown") => Status::Alive,
            status => {
                let text = format!("the server refuses to hand out messages: {status} {text}");
                Status::Failed(Failure::because(Trouble::Unavailable, text))
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
