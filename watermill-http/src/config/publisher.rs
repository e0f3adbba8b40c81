//! [`HttpPublisherConfig`].

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use http::{
    HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};
use watermill_core::error::ConfigError;

use crate::{Secret, client::check_url};

/// Headers that say where a request ends.
const FRAMING: [HeaderName; 3] = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];

/// Nobody has a use for more; and what a clock can count is far from it.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How an [`HttpPublisher`](crate::HttpPublisher) posts.
#[derive(Clone)]
pub struct HttpPublisherConfig {
    pub(crate) target: Target,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) cloud_events_source: Option<String>,
    pub(crate) concurrency: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) call_budget: Duration,
    pub(crate) retry_after_max: Duration,
    pub(crate) metadata_bytes_max: usize,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<rustls::ClientConfig>,
    problems: Vec<String>,
}

/// Where messages are posted.
#[derive(Clone)]
pub(crate) enum Target {
    Topic,
    Url(String),
    Function(Arc<dyn Fn(&str) -> String + Send + Sync>),
}

impl HttpPublisherConfig {
    /// Posts the messages of all topics to one URL. Default: the topic is the URL, as Go's library has it.
    #[must_use]
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.target = Target::Url(url.into());
        self
    }

    /// Posts to the URL that a function makes of the topic. One that is no URL is an error of the topic.
    #[must_use]
    pub fn url_of(mut self, url_of: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.target = Target::Function(Arc::new(url_of));
        self
    }

    /// Adds a header to every request: `content-type`, `authorization`. A header of the same name that a message
    /// has comes from the message, and those that frame a request from the client. Values are not shown in `Debug`.
    /// Default: none.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(_)) if FRAMING.contains(&name) => {
                self.problems.push(format!("the header {name:?} is the client's to set"));
            }
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                self.headers.push((name, value));
            }
            _ => self.problems.push(format!("the header {name:?} is none, or its value")),
        }
        self
    }

    /// Signs each request as [Standard Webhooks](https://www.standardwebhooks.com) has it, with one signature for
    /// each secret: two while one takes the other's place. Messages then need an id without a dot. Default: no
    /// signature.
    #[must_use]
    pub fn sign_with(mut self, secrets: impl IntoIterator<Item = Secret>) -> Self {
        self.secrets = secrets.into_iter().collect();
        if self.secrets.is_empty() {
            self.problems.push("sign_with has no secret, so nothing would be signed".to_owned());
        }
        self
    }

    /// Adds the attributes of a [CloudEvent](https://cloudevents.io) in binary mode: `source` is its source, the
    /// type is the metadata entry `name` or else the topic, and the partition key the key. Messages then need an
    /// id. Default: none.
    #[must_use]
    pub fn cloud_events(mut self, source: impl Into<String>) -> Self {
        self.cloud_events_source = Some(source.into());
        self
    }

    /// Sets how many requests to one host are in progress at once, over all calls; others wait for their turn, within
    /// the [`call_budget`](Self::call_budget). As many connections are kept. Default: 32.
    #[must_use]
    pub fn concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests;
        self
    }

    /// Sets how long connecting may take, from the host's name to the end of the TLS handshake. Then nothing was sent.
    /// Default: 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long a request may take as a whole, from connecting to the answer. Default: 30 s, as a receiver may
    /// answer when it has handled the message.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets for how long a call begins requests, and waits for its turn at the host. What it has not begun with by
    /// then is not sent and not accepted, with an error that is worth another try: so whoever gives a call up after
    /// some time hears before what was accepted. A call ends within this and `timeout` together: to be less than a
    /// relay's `call_timeout`; and where a relay is to stop without duplicates, this and what a request really takes
    /// are to be less than it has to drain. Default: 20 s.
    #[must_use]
    pub fn call_budget(mut self, budget: Duration) -> Self {
        self.call_budget = budget;
        self
    }

    /// Sets how long a connection is kept without a request. To be less than the receiver keeps it. Default: 30 s;
    /// at most a day.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Sets how long `Retry-After` of an answer 429 or 503 holds back the requests to that host at most: of this
    /// call's next try, and of all others. Default: 60 s; at most a day. Zero disregards it.
    #[must_use]
    pub fn retry_after_max(mut self, at_most: Duration) -> Self {
        self.retry_after_max = at_most;
        self
    }

    /// Sets how many bytes the header with a message's metadata may have; larger ones are refused before anything
    /// is sent. Default: 8,000, which with the header's name is less than nginx and Apache take for one.
    #[must_use]
    pub fn metadata_bytes_max(mut self, bytes: usize) -> Self {
        self.metadata_bytes_max = bytes;
        self
    }

    /// Sets how TLS is done, for a private authority or a certificate of the client's. Default: what the machine
    /// trusts.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, config: rustls::ClientConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// # Errors
    ///
    /// With everything that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let url = match &self.target {
            Target::Url(url) => check_url(url).err().map(|problem| format!("url: {problem}")),
            _ => None,
        };
        ConfigError::check("configure the publisher to HTTP")
            .with(self.problems.iter().cloned().chain(url))
            .unless(self.cloud_events_source.as_deref() != Some(""), "the source of cloud events is empty")
            .unless(self.concurrency > 0, "concurrency is 0, so nothing could be sent")
            .unless(!self.connect_timeout.is_zero(), "connect_timeout is zero, so nothing would be in time")
            .unless(!self.timeout.is_zero(), "timeout is zero, so nothing would be in time")
            .unless(!self.call_budget.is_zero(), "call_budget is zero, so nothing would be sent")
            .unless(self.idle_timeout <= DAY, "idle_timeout is more than a day")
            .unless(self.retry_after_max <= DAY, "retry_after_max is more than a day")
            .unless(self.metadata_bytes_max >= 2, "metadata_bytes_max is less than no metadata have")
            .finish()
    }
}

impl Target {
    pub(crate) fn url<'t>(&'t self, topic: &'t str) -> Cow<'t, str> {
        match self {
            Self::Topic => topic.into(),
            Self::Url(url) => url.into(),
            Self::Function(url_of) => url_of(topic).into(),
        }
    }
}

impl Default for HttpPublisherConfig {
    fn default() -> Self {
        Self {
            target: Target::Topic,
            headers: Vec::new(),
            secrets: Vec::new(),
            cloud_events_source: None,
            concurrency: 32,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            call_budget: Duration::from_secs(20),
            retry_after_max: Duration::from_secs(60),
            metadata_bytes_max: 8_000,
            #[cfg(feature = "tls")]
            tls: None,
            problems: Vec::new(),
        }
    }
}

impl fmt::Debug for HttpPublisherConfig {
    /// Without URLs and the values of headers, which may have secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("HttpPublisherConfig")
            .field("headers", &headers)
            .field("secrets", &self.secrets.len())
            .field("cloud_events_source", &self.cloud_events_source)
            .field("concurrency", &self.concurrency)
            .field("connect_timeout", &self.connect_timeout)
            .field("timeout", &self.timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("call_budget", &self.call_budget)
            .field("retry_after_max", &self.retry_after_max)
            .field("metadata_bytes_max", &self.metadata_bytes_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(HttpPublisherConfig::default().validate(), Ok(()));
        assert_eq!(HttpPublisherConfig::default().url("http://localhost:8080/hooks").validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = HttpPublisherConfig::default()
            .url("localhost:8080")
            .header("no name", "value")
            .header("name", "no\nvalue")
            .header("Content-Length", "5")
            .sign_with([])
            .retry_after_max(Duration::MAX)
            .idle_timeout(Duration::MAX)
            .cloud_events("")
            .concurrency(0)
            .connect_timeout(Duration::ZERO)
            .timeout(Duration::ZERO)
            .call_budget(Duration::ZERO)
            .metadata_bytes_max(0);
        assert_eq!(config.validate().unwrap_err().problems().count(), 13);
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = HttpPublisherConfig::default()
            .url("https://example.org/?token=hidden")
            .header("authorization", "hidden");
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
