//! [`NatsPublisher`].

use std::collections::{HashSet, VecDeque};

use async_nats::{
    Client,
    jetstream::{
        Context, ContextBuilder,
        context::{PublishAckFuture, PublishErrorKind},
        message::PublishMessage,
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use watermill_core::{
    Message, Publisher,
    backend::{Calls, Failure, Trouble, Turns, records, refuse_delays},
    error::{self, ConfigError, PublishError},
    publisher::PublisherCapabilities,
};

use crate::{
    BACKEND, NatsPublisherConfig,
    api::Api,
    error::{connected, of_publish},
    marshaler, subject,
};

/// Publishes to JetStream: the topic is a subject, and `Ok` means that the server has stored each message in a stream.
///
/// The messages of a call are sent one behind the other, without waiting for the server's word on each; of one
/// key, each waits for the word on the one before, so that none is stored behind one that was not.
pub struct NatsPublisher {
    client: Client,
    jetstream: Context,
    api: Api,
    config: NatsPublisherConfig,
    turns: Turns,
    calls: Calls,
}

/// A message that can be sent.
struct Record {
    key: Option<Bytes>,
    message: PublishMessage,
}

impl NatsPublisher {
    /// A publisher by way of a client, which is connected, and connects again by itself.
    ///
    /// # Errors
    ///
    /// As [`NatsPublisherConfig::validate`].
    pub fn new(client: Client, config: NatsPublisherConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let jetstream = ContextBuilder::new()
            .timeout(config.timeout)
            .ack_timeout(config.timeout)
            .max_ack_inflight(config.in_flight_max)
            .backpressure_on_inflight(true)
            .build(client.clone());
        let api = Api::new(client.clone(), config.streams.clone(), config.timeout);
        let turns = Turns::new(config.timeout);
        Ok(Self { client, jetstream, api, config, turns, calls: Calls::default() })
    }

    fn records(&self, topic: &str, messages: Vec<Message>) -> Result<Vec<Record>, PublishError> {
        let bytes_max = self.config.message_bytes_max.unwrap_or(usize::MAX).min(self.client.max_payload());
        records(topic, messages, |message| {
            let key = message.key().cloned();
            let (headers, payload) = marshaler::write(message, self.config.deduplicate, bytes_max)?;
            Ok(Record { key, message: PublishMessage::build().headers(headers).payload(payload) })
        })
    }

    async fn send(&self, topic: &str, records: Vec<Record>) -> Result<(), PublishError> {
        let mut sending = Sending::new(topic, self.missing(), records.len());
        let turn = self.turns.take().await.ok_or_else(|| {
            Failure::because(Trouble::Unavailable, "the calls before cannot be sent").publishing(topic)
        })?;
        connected(&self.client).map_err(|failure| failure.publishing(topic))?;
        self.api.ensure_stream(topic).await.map_err(|failure| failure.publishing(topic))?;
        for (at, Record { key, message }) in records.into_iter().enumerate() {
            if !sending.may_send(at, key.as_ref()).await {
                continue;
            }
            match self.jetstream.send_publish(topic.to_owned(), message).await {
                Ok(ack) => sending.sent(at, key, ack),
                // Nor would the others be sent, or only after as long a wait each.
                Err(error) => {
                    sending.failed(at, of_publish(error, sending.missing));
                    sending.not_accepted.extend(at + 1..sending.count);
                    break;
                }
            }
        }
        match sending.first {
            None => turn.done(),
            Some(_) => drop(turn),
        }
        let outcome = sending.finish().await;
        if let Err(error) = &outcome
            && (error.kind() == error::PublishErrorKind::Topic || error.is_retryable())
        {
            self.api.forget(topic);
        }
        outcome
    }

    /// What it means that nobody answers for a topic: its stream has gone, or is not there yet again.
    fn missing(&self) -> Trouble {
        if self.api.makes_streams() { Trouble::Unavailable } else { Trouble::Topic }
    }
}

#[async_trait]
impl Publisher for NatsPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let Some(_call) = self.calls.begin(topic, &messages)? else { return Ok(()) };
        subject::check(topic).map_err(|failure| failure.publishing(topic))?;
        refuse_delays(topic, &messages)?;
        let records = self.records(topic, messages)?;
        self.send(topic, records).await
    }

    /// The client is its owner's, and goes on.
    async fn close(&self) -> Result<(), PublishError> {
        self.calls.close().await;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND).keeps_order(true)
    }
}

impl std::fmt::Debug for NatsPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsPublisher").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A call on its way.
struct Sending<'t> {
    topic: &'t str,
    missing: Trouble,
    count: usize,
    /// What the server has not answered, in the order of sending.
    in_flight: VecDeque<(usize, Option<Bytes>, PublishAckFuture)>,
    /// The keys of these.
    busy: HashSet<Bytes>,
    /// The keys of what was not accepted.
    failed_keys: HashSet<Bytes>,
    not_accepted: Vec<usize>,
    first: Option<(usize, Failure)>,
    /// The server has not answered in time.
    silent: bool,
}

impl<'t> Sending<'t> {
    fn new(topic: &'t str, missing: Trouble, count: usize) -> Self {
        Self {
            topic,
            missing,
            count,
            in_flight: VecDeque::with_capacity(count),
            busy: HashSet::new(),
            failed_keys: HashSet::new(),
            not_accepted: Vec::new(),
            first: None,
            silent: false,
        }
    }

    /// Waits for the word on the message of the same key before. If that failed, this one does.
    async fn may_send(&mut self, at: usize, key: Option<&Bytes>) -> bool {
        let Some(key) = key else { return true };
        while self.busy.contains(key) && self.one().await {}
        let may = !self.failed_keys.contains(key);
        if !may {
            self.not_accepted.push(at);
        }
        may
    }

    fn sent(&mut self, at: usize, key: Option<Bytes>, ack: PublishAckFuture) {
        self.busy.extend(key.clone());
        self.in_flight.push_back((at, key, ack));
    }

    /// Takes the server's word on the oldest message; false when there is none.
    async fn one(&mut self) -> bool {
        let Some((at, key, ack)) = self.in_flight.pop_front() else { return false };
        // Each has its own time from here on: once one has waited for nothing, the others are not waited for.
        let answer = match self.silent {
            false => ack.await,
            true => {
                ack.into_future().now_or_never().unwrap_or_else(|| Err(PublishErrorKind::TimedOut.into()))
            }
        };
        if let Some(key) = &key {
            self.busy.remove(key);
        }
        match answer {
            Ok(ack) if ack.duplicate => {
                tracing::debug!(
                    self.topic,
                    at,
                    "the server has a message with this id, and does not store it again"
                );
            }
            Ok(_) => {}
            Err(error) => {
                self.silent |= error.kind() == PublishErrorKind::TimedOut;
                self.failed_keys.extend(key);
                self.failed(at, of_publish(error, self.missing));
            }
        }
        true
    }

    fn failed(&mut self, at: usize, failure: Failure) {
        self.not_accepted.push(at);
        if self.first.as_ref().is_none_or(|(first, _)| at < *first) {
            self.first = Some((at, failure));
        }
    }

    async fn finish(mut self) -> Result<(), PublishError> {
        while self.one().await {}
        let Some((at, failure)) = self.first else { return Ok(()) };
        self.not_accepted.sort_unstable();
        let detail = format!("message {at} of {}: {}", self.count, failure.text());
        let error = failure.explained(detail).publishing(self.topic);
        Err(if self.not_accepted.len() == self.count {
            error
        } else {
            error.with_not_accepted(self.not_accepted)
        })
    }
}
