//! [`Api`]: what JetStream is asked about streams and consumers.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_nats::{
    Client, Request,
    jetstream::{
        ErrorCode,
        consumer::{self, AckPolicy, DeliverPolicy},
        response::Response,
    },
};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use watermill_core::backend::{Failure, Trouble};

use crate::{
    NatsSubscriberConfig, StartPosition,
    config::Streams,
    error::{answered, connected, of_request},
};

/// So many topics are known to have a stream; beyond that all are forgotten and asked for again.
const KNOWN_MAX: usize = 10_000;

/// A server removes the files of a stream or a consumer when it has said that it is gone. One of the same name that is made meanwhile
/// would lose its own.
const MADE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// JetStream's requests, and which topics are known to have a stream.
pub(crate) struct Api {
    client: Client,
    streams: Streams,
    timeout: Duration,
    known: Mutex<HashSet<String>>,
    /// When a stream or a consumer was last found to have gone.
    gone: Mutex<Option<Instant>>,
}

/// The answer to `STREAM.NAMES`, of which there are pages; more than one stream is a mistake anyway.
#[derive(Deserialize)]
struct Names {
    #[serde(default)]
    streams: Option<Vec<String>>,
}

impl Api {
    pub(crate) fn new(client: Client, streams: Streams, timeout: Duration) -> Self {
        Self { client, streams, timeout, known: Mutex::default(), gone: Mutex::default() }
    }

    /// Sees to it that a stream has the topic, and asks no more than once.
    pub(crate) async fn ensure_stream(&self, topic: &str) -> Result<(), Failure> {
        if self.known().contains(topic) {
            return Ok(());
        }
        self.stream(topic).await?;
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(topic.to_owned());
        Ok(())
    }

    /// The topic's stream, or what belongs to it, is not there any more.
    pub(crate) fn forget(&self, topic: &str) {
        self.known().remove(topic);
        *self.gone.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Waits until what has just been deleted may be made again.
    async fn wait_for_the_end_of_the_former(&self) {
        let gone = *self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gone) = gone {
            sleep_until(gone + MADE_AGAIN_AFTER).await;
        }
    }

    /// Whether a stream that has gone is made again.
    pub(crate) fn makes_streams(&self) -> bool {
        matches!(self.streams, Streams::OnDemand(_))
    }

    /// The stream that has the topic, made if there is none.
    pub(crate) async fn stream(&self, topic: &str) -> Result<String, Failure> {
        let names: Names = self.ask("STREAM.NAMES", &json!({ "subject": topic })).await?.map_err(answered)?;
        match (names.streams.as_deref(), &self.streams) {
            (Some([name]), _) => Ok(name.clone()),
            (Some([one, two, ..]), _) => {
                let text = format!("the topic is in more than one stream, {one:?} and {two:?}");
                Err(Failure::because(Trouble::Topic, text))
            }
            (_, Streams::OnDemand(of_topic)) => {
                self.wait_for_the_end_of_the_former().await;
                let config = of_topic(topic);
                let name = config.name.clone();
                let created: Result<serde_json::Value, _> =
                    self.ask(&format!("STREAM.CREATE.{name}"), &config).await?;
                created.map_err(|error| {
                    let text = format!("no stream has the topic, and {name:?} cannot be made for it");
                    answered(error).explained(text)
                })?;
                tracing::info!(topic, stream = name, "made a stream");
                Ok(name)
            }
            (_, Streams::Existing) => Err(Failure::because(
                Trouble::Topic,
                "no stream has the topic, and the configuration has none made: create one with this subject",
            )),
        }
    }

    /// The consumer, if it is there.
    pub(crate) async fn consumer(&self, stream: &str, name: &str) -> Result<Option<consumer::Info>, Failure> {
        match self.ask(&format!("CONSUMER.INFO.{stream}.{name}"), &json!({})).await? {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND => Ok(None),
            Err(error) => Err(answered(error)),
        }
    }

    /// The group's consumer of a topic, made if it is not there.
    pub(crate) async fn ensure_consumer(
        &self,
        topic: &str,
        config: &NatsSubscriberConfig,
        start: StartPosition,
    ) -> Result<consumer::Info, Failure> {
        let stream = self.stream(topic).await?;
        let name = (config.consumer.0)(&config.group, topic);
        let info = match self.consumer(&stream, &name).await? {
            Some(info) => info,
            None => {
                self.wait_for_the_end_of_the_former().await;
                let wanted = wanted(topic, &name, config, start);
                let create = json!({ "stream_name": stream, "config": wanted });
                let subject = format!("CONSUMER.DURABLE.CREATE.{stream}.{name}");
                let info = self.ask(&subject, &create).await?.map_err(answered)?;
                tracing::info!(topic, stream, consumer = name, "made a consumer");
                info
            }
        };
        match misfit(&info.config, topic, config) {
            Some(why) => {
                let text = format!(
                    "the consumer {name:?} of stream {stream:?} {why}: delete it, or give the group another with \
                     NatsSubscriberConfig::consumer"
                );
                Err(Failure::because(Trouble::Mismatch, text))
            }
            None => Ok(info),
        }
    }

    /// An answer of JetStream's, an error of its own included.
    async fn ask<T: DeserializeOwned>(
        &self,
        what: &str,
        with: &impl Serialize,
    ) -> Result<Result<T, async_nats::jetstream::Error>, Failure> {
        connected(&self.client)?;
        let payload = serde_json::to_vec(with).map_err(|error| Failure::new(Trouble::Config, error))?;
        let request = Request::new().payload(Bytes::from(payload)).timeout(Some(self.timeout));
        let answer = self.client.send_request(format!("{API}.{what}"), request).await.map_err(of_request)?;
        match serde_json::from_slice(&answer.payload) {
            Ok(Response::Ok(answer)) => Ok(Ok(answer)),
            Ok(Response::Err { error }) => Ok(Err(error)),
            Err(error) => {
                Err(Failure::new(Trouble::Refused, error).explained("JetStream's answer is not understood"))
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What JetStream's requests begin with.
pub(crate) const API: &str = "$JS.API";

fn wanted(topic: &str, name: &str, config: &NatsSubscriberConfig, start: StartPosition) -> consumer::Config {
    consumer::Config {
        durable_name: Some(name.to_owned()),
        deliver_policy: match start {
            StartPosition::Earliest => DeliverPolicy::All,
            StartPosition::Latest => DeliverPolicy::New,
        },
        ack_policy: AckPolicy::Explicit,
        ack_wait: config.ack_wait,
        // For ever: how often a message is tried is the handler's policy.
        max_deliver: -1,
        max_ack_pending: config.pending_max(),
        filter_subject: topic.to_owned(),
        ..consumer::Config::default()
    }
}

/// What keeps a consumer that is there from being the group's.
fn misfit(found: &consumer::Config, topic: &str, config: &NatsSubscriberConfig) -> Option<String> {
    let filter = &found.filter_subject;
    if !filter.is_empty() && filter != topic {
        return Some(format!("reads {filter:?}"));
    }
    if found.deliver_subject.is_some() {
        return Some("is a push consumer".to_owned());
    }
    if found.ack_policy != AckPolicy::Explicit {
        return Some("is not acked message by message".to_owned());
    }
    let pending_max = found.max_ack_pending;
    match config.ordered {
        true if pending_max != 1 => {
            Some(format!("has {pending_max} as its max_ack_pending, and order needs 1"))
        }
        _ => None,
    }
}
