//! [`HttpPublisher`].

use std::{
    collections::HashMap,
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderName, HeaderValue, Request, Uri, header::CONTENT_LENGTH};
use http_body_util::Full;
use tokio::time::Instant;
use watermill_core::{
    Message, Publisher,
    backend::{Calls, Failure, Trouble, refuse_delays},
    error::{ConfigError, PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

use crate::{
    BACKEND, HttpPublisherConfig,
    client::{Client, check_url},
    hosts::{Host, Hosts},
    marshaler::{self, Record},
    signature,
};

/// Posts each message to a URL, which is the topic or is made of it.
///
/// The messages of a call that have the same key are posted one after another, each when the one before was
/// accepted; what is behind one that was not accepted is not tried. Others go side by side. What a call has not begun
/// with within its [budget](HttpPublisherConfig::call_budget) is not tried either.
///
/// # Cancel safety
///
/// Of a `publish` future that was dropped, requests that were on their way may still arrive.
pub struct HttpPublisher {
    config: HttpPublisherConfig,
    client: Client,
    hosts: Hosts,
    calls: Calls,
}

/// The messages of a call that keep their order, by their positions.
type Lane = Vec<(usize, Record)>;

/// Where a call posts to, and since when.
struct Call<'c> {
    host: &'c Host,
    url: &'c Uri,
    begun: Instant,
}

/// What was not accepted of a lane, and why.
struct NotAccepted {
    positions: Vec<usize>,
    why: Failure,
}

impl HttpPublisher {
    /// A publisher. Nothing connects before the first call.
    ///
    /// # Errors
    ///
    /// As [`HttpPublisherConfig::validate`].
    pub fn new(config: HttpPublisherConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let client = Client::new(&config)
            .map_err(|problem| ConfigError::new("configure the publisher to HTTP", problem))?;
        Ok(Self { config, client, hosts: Hosts::default(), calls: Calls::default() })
    }

    /// The messages as they are sent, unless the call cannot be made at all.
    fn lanes(&self, topic: &str, messages: Vec<Message>) -> Result<Vec<Lane>, PublishError> {
        let mut lanes: Vec<Lane> = Vec::new();
        let mut lane_of: HashMap<Bytes, usize> = HashMap::new();
        for (at, message) in messages.into_iter().enumerate() {
            let key = message.key().cloned();
            let record = marshaler::write(topic, message, &self.config).map_err(|why| {
                PublishError::new(PublishErrorKind::Message, topic).because(format!("message {at}: {why}"))
            })?;
            let lane = key.map_or(lanes.len(), |key| *lane_of.entry(key).or_insert(lanes.len()));
            match lanes.get_mut(lane) {
                Some(lane) => lane.push((at, record)),
                None => lanes.push(vec![(at, record)]),
            }
        }
        Ok(lanes)
    }

    /// Posts one after another, up to the first that is not accepted.
    async fn post_all(&self, call: &Call<'_>, lane: Lane) -> Option<NotAccepted> {
        let mut lane = lane.into_iter();
        while let Some((at, record)) = lane.next() {
            if let Err(why) = self.post(call, record).await {
                let positions = [at].into_iter().chain(lane.map(|(behind, _)| behind)).collect();
                return Some(NotAccepted { positions, why });
            }
        }
        None
    }

    async fn post(&self, call: &Call<'_>, record: Record) -> Result<(), Failure> {
        let budget = self.config.call_budget;
        let left = budget.saturating_sub(call.begun.elapsed());
        if left.is_zero() {
            let why = format!("not sent, since the call began more than {budget:?} ago");
            return Err(Failure::because(Trouble::Unavailable, why));
        }
        let _turn = call.host.turn(left).await?;
        let answer = self.client.send(self.request(call.url, record)?).await?;
        let at_most = self.config.retry_after_max;
        if let Some(asked) = answer.leave_host_alone() {
            call.host.leave_alone(asked.min(at_most));
        }
        answer.accepted(at_most)
    }

    /// Signed now, since a receiver looks at the time.
    fn request(
        &self,
        url: &Uri,
        Record { id, mut headers, body }: Record,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        if !self.config.secrets.is_empty() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
            let signatures = signature::sign(&self.config.secrets, id.as_str(), &now, &body);
            for (name, value) in [
                (signature::ID, id.as_str()),
                (signature::TIMESTAMP, &now),
                (signature::SIGNATURE, &signatures),
            ] {
                let value = HeaderValue::from_bytes(value.as_bytes());
                let value = value.map_err(|error| Failure::new(Trouble::Message, error))?;
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        if body.is_empty() {
            // Said as Go says it: the client leaves it out, and some servers answer that with 411.
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        let mut request = Request::post(url).body(Full::new(body));
        if let Ok(request) = &mut request {
            *request.headers_mut() = headers;
        }
        request.map_err(|error| Failure::new(Trouble::Message, error))
    }
}

#[async_trait]
impl Publisher for HttpPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let Some(_call) = self.calls.begin(topic, &messages)? else { return Ok(()) };
        refuse_delays(topic, &messages)?;
        let url = check_url(&self.config.target.url(topic))
            .map_err(|problem| Failure::because(Trouble::Topic, problem).publishing(topic))?;
        let (of, lanes) = (messages.len(), self.lanes(topic, messages)?);
        let host = self.hosts.of(&name_of(&url), self.config.concurrency);
        let call = Call { host: &host, url: &url, begun: Instant::now() };
        let posted: Vec<_> = stream::iter(lanes)
            .map(|lane| self.post_all(&call, lane))
            .buffer_unordered(self.config.concurrency)
            .filter_map(std::future::ready)
            .collect()
            .await;
        match worst(posted) {
            None => Ok(()),
            Some(NotAccepted { positions, why }) if positions.len() == of => Err(why.publishing(topic)),
            Some(NotAccepted { positions, why }) => Err(why.publishing(topic).with_not_accepted(positions)),
        }
    }

    /// Waits for the calls in progress, each of which ends within `call_budget` and `timeout` together.
    async fn close(&self) -> Result<(), PublishError> {
        self.calls.close().await;
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new(BACKEND)
    }
}

impl fmt::Debug for HttpPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPublisher").field("config", &self.config).finish_non_exhaustive()
    }
}

fn name_of(url: &Uri) -> String {
    let authority = url.authority().map(|authority| authority.as_str().to_ascii_lowercase());
    format!("{}://{}", url.scheme_str().unwrap_or_default(), authority.unwrap_or_default())
}

/// All that was not accepted, with one reason: of what passes if there is that, for then trying again may help; and
/// else of the first message.
fn worst(not_accepted: Vec<NotAccepted>) -> Option<NotAccepted> {
    let mut positions: Vec<_> = not_accepted.iter().flat_map(|lane| lane.positions.iter().copied()).collect();
    positions.sort_unstable();
    let first =
        not_accepted.into_iter().min_by_key(|lane| (!lane.why.is_passing(), lane.positions.first().copied()));
    first.map(|NotAccepted { why, .. }| NotAccepted { positions, why })
}
