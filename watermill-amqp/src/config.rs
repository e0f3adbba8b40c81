//! [`AmqpPublisherConfig`] and [`AmqpSubscriberConfig`]: plain data, checked as a whole.

use std::{fmt, net::Ipv6Addr, time::Duration};

use lapin::uri::{AMQPScheme, AMQPUri};
use watermill_core::{Backoff, error::ConfigError};

use crate::Topology;

/// What RabbitMQ takes as one message unless its `max_message_size` says otherwise.
const PAYLOAD_BYTES_MAX: usize = 128 * 1024 * 1024;

/// How an [`AmqpPublisher`](crate::AmqpPublisher) writes.
#[derive(Clone, Debug)]
pub struct AmqpPublisherConfig {
    pub(crate) server: Server,
    pub(crate) topology: Topology,
    pub(crate) mandatory: bool,
    pub(crate) persistent: bool,
    pub(crate) payload_bytes_max: usize,
    pub(crate) confirm_timeout: Duration,
}

/// How an [`AmqpSubscriber`](crate::AmqpSubscriber) reads.
#[derive(Clone, Debug)]
pub struct AmqpSubscriberConfig {
    pub(crate) server: Server,
    pub(crate) topology: Topology,
    pub(crate) group: Option<String>,
    pub(crate) fetch_ahead: usize,
    pub(crate) nack_delays: NackDelays,
    pub(crate) ack_interval: Duration,
    pub(crate) retry: Backoff,
}

/// Who waits for the delay of a nack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NackDelays {
    /// The subscription, which keeps the message meanwhile: it stays in its place, and before any later one.
    #[default]
    InHand,
    /// The server: a copy waits in a queue of its own for each delay, `<queue>_delay_<milliseconds>`, and comes back
    /// to the queue's end. Others are not held up, nothing is kept in memory, and the order is not kept. Delays are
    /// rounded up (to 100 ms, above a second to seconds, above a minute to minutes, above an hour to hours), and are 49
    /// days at most. A message whose metadata leave no room for what the server adds to a dead letter waits in memory, and
    /// goes back to its place. Not for a queue with a [maximal length](crate::Queue::length_max): what comes back to one that is full
    /// is dropped by the server.
    InQueues,
}

/// Where the server is, and how long to wait for it.
#[derive(Clone)]
pub(crate) struct Server {
    url: String,
    password: Option<String>,
    heartbeat: Duration,
    pub(crate) timeout: Duration,
}

impl AmqpPublisherConfig {
    /// Publishes to the server of an AMQP URL, `amqp://user:password@host:5672/%2f` (a virtual host is written with
    /// `%2f` for each `/` in its name), by a topology.
    pub fn new(url: impl Into<String>, topology: Topology) -> Self {
        Self {
            server: Server::new(url.into()),
            topology,
            mandatory: true,
            persistent: true,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            confirm_timeout: Duration::from_secs(30),
        }
    }

    /// Sets the password, where it does not stand in the URL. Default: the URL's.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.server.password = Some(password.into());
        self
    }

    /// Sets whether a message that no queue takes is an error. Default: yes. Otherwise it is gone, as it is with Go's
    /// library: for events that nobody need listen to.
    #[must_use]
    pub fn mandatory(mut self, mandatory: bool) -> Self {
        self.mandatory = mandatory;
        self
    }

    /// Sets whether messages outlive the server (delivery mode 2). Default: yes.
    #[must_use]
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.persistent = persistent;
        self
    }

    /// Sets the largest payload in bytes; what is larger is refused before anything is sent. Default: 128 MiB, as the
    /// server's `max_message_size`.
    #[must_use]
    pub fn payload_bytes_max(mut self, bytes: usize) -> Self {
        self.payload_bytes_max = bytes;
        self
    }

    /// Sets how long the server may take to confirm what a call has published. Default: 30 s. After that the call
    /// fails; if the server has confirmed nothing meanwhile, the connection is given up, and with it every other call that
    /// waits.
    #[must_use]
    pub fn confirm_timeout(mut self, timeout: Duration) -> Self {
        self.confirm_timeout = timeout;
        self
    }

    /// Sets how often each side says that it lives, in whole seconds. Default: 10 s. A side that was silent for twice
    /// as long is taken for dead.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.server.heartbeat = interval;
        self
    }

    /// Sets how long connecting, and each answer but a confirm, may take. Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.server.timeout = timeout;
        self
    }

    /// Where the server is, `amqp://host:port/vhost`, for people: without who logs in.
    pub fn server(&self) -> String {
        self.server.shown()
    }

    /// # Errors
    ///
    /// With everything that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Faults { url, heartbeat, timeout } = self.server.faults();
        ConfigError::check("configure the publisher to RabbitMQ")
            .unless(url.is_none(), url.unwrap_or_default())
            .unless(heartbeat, HEARTBEAT)
            .unless(timeout, TIMEOUT)
            .unless(self.payload_bytes_max > 0, "payload_bytes_max is 0, so nothing could be published")
            .unless(!self.confirm_timeout.is_zero(), "confirm_timeout is zero, so nothing would be in time")
            .finish()
    }
}

impl AmqpSubscriberConfig {
    /// Reads from the server of an AMQP URL, see [`AmqpPublisherConfig::new`], by a topology.
    pub fn new(url: impl Into<String>, topology: Topology) -> Self {
        Self {
            server: Server::new(url.into()),
            topology,
            group: None,
            fetch_ahead: 64,
            nack_delays: NackDelays::default(),
            ack_interval: Duration::from_millis(2),
            retry: Backoff::default(),
        }
    }

    /// Sets the password, where it does not stand in the URL. Default: the URL's.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.server.password = Some(password.into());
        self
    }

    /// Sets the consumer group, which has a queue of its own. Default: none, whose queue has the topic's name.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Sets how many messages the server sends beyond what the window lets out, as a part of the prefetch. Default: 64.
    /// They are this consumer's: where handlers are slow and consumers many, fewer share the work better.
    #[must_use]
    pub fn fetch_ahead(mut self, messages: usize) -> Self {
        self.fetch_ahead = messages;
        self
    }

    /// Sets who waits for the delay of a nack. Default: [`NackDelays::InHand`].
    #[must_use]
    pub fn nack_delays(mut self, delays: NackDelays) -> Self {
        self.nack_delays = delays;
        self
    }

    /// Sets how long an ack may wait to be sent with others, up to 100 of them. Default: 2 ms. `ack_confirmed` does
    /// not wait.
    #[must_use]
    pub fn ack_interval(mut self, interval: Duration) -> Self {
        self.ack_interval = interval;
        self
    }

    /// Sets the waits between attempts while the server fails. Default: [`Backoff::default`], 100 ms doubling to 30 s.
    #[must_use]
    pub fn retry(mut self, retry: Backoff) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how often each side says that it lives, in whole seconds. Default: 10 s. A side that was silent for twice
    /// as long is taken for dead, and what it had is delivered to others.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.server.heartbeat = interval;
        self
    }

    /// Sets how long connecting, and each answer, may take. Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.server.timeout = timeout;
        self
    }

    /// How long what was delivered is surely ours, without a word from the server.
    pub(crate) fn lease(&self) -> Duration {
        self.server.heartbeat * 3 / 2
    }

    /// # Errors
    ///
    /// With everything that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Faults { url, heartbeat, timeout } = self.server.faults();
        let group = self.group.as_deref();
        ConfigError::check("configure the subscriber to RabbitMQ")
            .unless(url.is_none(), url.unwrap_or_default())
            .unless(heartbeat, HEARTBEAT)
            .unless(timeout, TIMEOUT)
            .unless(group != Some(""), "group is empty; leave it out")
            .unless(
                group.is_none() || self.topology.has_groups,
                "the topology has no groups: all share one queue",
            )
            .unless(
                self.nack_delays == NackDelays::InHand || !self.topology.is_single_active,
                "a single active consumer reads in order, which nack_delays in queues do not keep",
            )
            .finish()
    }
}

const NO_URL: &str = "url is not of the form amqp://user:password@host:5672/%2f";
const HEARTBEAT: &str = "heartbeat is not between 1 s and 65,535 s";
const TIMEOUT: &str = "timeout is zero, so nothing would be in time";

/// What is wrong with a [`Server`].
struct Faults {
    url: Option<String>,
    heartbeat: bool,
    timeout: bool,
}

impl Server {
    fn new(url: String) -> Self {
        Self { url, password: None, heartbeat: Duration::from_secs(10), timeout: Duration::from_secs(5) }
    }

    fn faults(&self) -> Faults {
        let url = match self.uri() {
            Err(why) => Some(why.to_owned()),
            Ok(uri) if uri.scheme == AMQPScheme::AMQPS && !cfg!(feature = "tls") => {
                Some("url asks for TLS, which needs the feature `tls` of watermill-amqp".to_owned())
            }
            Ok(_) => None,
        };
        let heartbeat = (1..=u64::from(u16::MAX)).contains(&self.heartbeat.as_secs());
        Faults { url, heartbeat, timeout: !self.timeout.is_zero() }
    }

    /// The address, with what else the client takes from it. What is wrong with it is said without the client's reason,
    /// which may have the whole of it, the password too.
    pub(crate) fn uri(&self) -> Result<AMQPUri, &'static str> {
        let mut uri: AMQPUri = self.url.parse().map_err(|_| NO_URL)?;
        // The client knows no such host, and would go to its own machine instead.
        if let Some(address) = ipv6_host(&self.url)? {
            uri.authority.host = address.to_string();
        }
        uri.query.heartbeat = u16::try_from(self.heartbeat.as_secs()).ok();
        if let Some(password) = &self.password {
            uri.authority.userinfo.password.clone_from(password);
        }
        Ok(uri)
    }

    /// Without who logs in.
    fn shown(&self) -> String {
        match self.uri() {
            Ok(AMQPUri { scheme, authority, vhost, .. }) => {
                let host = if authority.host.contains(':') {
                    format!("[{}]", authority.host)
                } else {
                    authority.host
                };
                format!("{scheme}://{host}:{}/{vhost}", authority.port)
            }
            Err(_) => "(not a URL)".to_owned(),
        }
    }
}

/// The host of a URL, where that is an address in brackets.
fn ipv6_host(url: &str) -> Result<Option<Ipv6Addr>, &'static str> {
    let Some((_, rest)) = url.split_once("://") else { return Ok(None) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let Some((address, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) else {
        return Ok(None);
    };
    address.parse().map(Some).map_err(|_| NO_URL)
}

/// Without the password.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("url", &self.shown())
            .field("heartbeat", &self.heartbeat)
            .field("timeout", &self.timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "amqp://guest:secret@localhost/%2f";

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(AmqpPublisherConfig::new(URL, Topology::pub_sub()).validate(), Ok(()));
        assert_eq!(AmqpSubscriberConfig::new(URL, Topology::pub_sub()).group("g").validate(), Ok(()));
        assert_eq!(AmqpSubscriberConfig::new(URL, Topology::queue()).validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = AmqpSubscriberConfig::new("http://x", Topology::queue().single_active_consumer())
            .group("")
            .nack_delays(NackDelays::InQueues)
            .heartbeat(Duration::from_millis(10))
            .timeout(Duration::ZERO);
        assert_eq!(config.validate().unwrap_err().problems().count(), 6);
        let config = AmqpPublisherConfig::new(URL, Topology::queue())
            .payload_bytes_max(0)
            .confirm_timeout(Duration::ZERO);
        assert_eq!(config.validate().unwrap_err().problems().count(), 2);
    }

    #[test]
    fn the_password_of_what_is_no_url_is_not_shown() {
        for url in ["amqp:guest:secret@localhost", "amqp://guest:secret@local host"] {
            let error = AmqpPublisherConfig::new(url, Topology::queue()).validate().unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_address_in_brackets_is_the_host() {
        let host = |url: &str| Server::new(url.to_owned()).uri().map(|uri| uri.authority.host);
        for url in ["amqp://[::1]", "amqps://guest:p%40[w@[::1]:5671/%2f?heartbeat=5"] {
            assert_eq!(host(url), Ok("::1".to_owned()), "{url}");
        }
        assert_eq!(host("amqp://rabbit/[::1]"), Ok("rabbit".to_owned()));
        assert_eq!(host("amqp://[::1"), Err(NO_URL));
    }

    #[test]
    fn the_password_is_not_shown() {
        let config = AmqpPublisherConfig::new(URL, Topology::queue()).password("hidden");
        let shown = format!("{config:?}");
        assert!(shown.contains("amqp://localhost:5672//"), "{shown}");
        assert!(!shown.contains("secret") && !shown.contains("hidden"), "{shown}");
        assert_eq!(config.server.uri().unwrap().authority.userinfo.password, "hidden");
    }
}
