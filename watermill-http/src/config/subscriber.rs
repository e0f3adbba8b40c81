//! [`HttpSubscriberConfig`].

use std::time::Duration;

use watermill_core::error::ConfigError;

use crate::Secret;

/// How an [`HttpSubscriber`](crate::HttpSubscriber) takes requests.
#[derive(Clone, Debug)]
pub struct HttpSubscriberConfig {
    pub(crate) secrets: Option<Vec<Secret>>,
    pub(crate) tolerance: Duration,
    pub(crate) requests_max: usize,
    pub(crate) body_bytes_max: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) answer_timeout: Duration,
    pub(crate) retry_after: Duration,
}

impl HttpSubscriberConfig {
    /// Takes only requests that are signed with one of these secrets, as
    /// [Standard Webhooks](https://www.standardwebhooks.com) has it; others are answered with 401. Default: no
    /// signature is asked for, nor looked at.
    #[must_use]
    pub fn verify_with(mut self, secrets: impl IntoIterator<Item = Secret>) -> Self {
        self.secrets = Some(secrets.into_iter().collect());
        self
    }

    /// Sets how far the time of a signature may be from now, in either direction. For as long, whoever has seen a
    /// request can send it again. Default: 5 minutes.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Sets how many requests are in hand at once, over all topics: being read, waiting for a handler or with one.
    /// More are answered with 503. With `body_bytes_max` it bounds the memory. Default: 256.
    #[must_use]
    pub fn requests_max(mut self, requests: usize) -> Self {
        self.requests_max = requests;
        self
    }

    /// Sets the largest body in bytes; larger ones are answered with 413. Default: 1 MiB.
    #[must_use]
    pub fn body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self
    }

    /// Sets how long a body may take to arrive; later it is answered with 408. Default: 10 s.
    #[must_use]
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout = timeout;
        self
    }

    /// Sets how long a request waits for its outcome, in the queue and with the handler. Then its delivery is lost, and it is
    /// answered with 503. To be less than senders wait. Default: 25 s.
    #[must_use]
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// Sets the `Retry-After` of an answer 503 to one request too many, in whole seconds. Default: 1 s.
    #[must_use]
    pub fn retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// # Errors
    ///
    /// With everything that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        // A list that came out empty must not open the door.
        let has_secret = self.secrets.as_ref().is_none_or(|secrets| !secrets.is_empty());
        ConfigError::check("configure the subscriber to HTTP")
            .unless(has_secret, "verify_with has no secret, so nothing would be taken")
            .unless(self.requests_max > 0, "requests_max is 0, so nothing would be taken")
            .unless(!self.body_timeout.is_zero(), "body_timeout is zero, so nothing would be in time")
            .unless(!self.answer_timeout.is_zero(), "answer_timeout is zero, so nothing would be in time")
            .finish()
    }
}

impl Default for HttpSubscriberConfig {
    fn default() -> Self {
        Self {
            secrets: None,
            tolerance: Duration::from_secs(5 * 60),
            requests_max: 256,
            body_bytes_max: 1024 * 1024,
            body_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(25),
            retry_after: Duration::from_secs(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(HttpSubscriberConfig::default().validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = HttpSubscriberConfig::default()
            .verify_with([])
            .requests_max(0)
            .body_timeout(Duration::ZERO)
            .answer_timeout(Duration::ZERO);
        assert_eq!(config.validate().unwrap_err().problems().count(), 4);
    }
}
