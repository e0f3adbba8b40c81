//! [`NewSubscription`]: how a subscription is made that is missing.

use std::time::Duration;

use google_cloud_pubsub::model::{DeadLetterPolicy, RetryPolicy, Subscription as Native};

use super::{check_name, within};
use crate::PubSubAccess;

/// How a subscription is made that is missing. One that is there is never changed: where it differs, a
/// warning says in what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSubscription {
    pub(crate) ack_deadline: Duration,
    pub(crate) ordered: bool,
    pub(crate) exactly_once: bool,
    pub(crate) dead_letters: Option<(String, u32)>,
    pub(crate) retry: Option<(Duration, Duration)>,
    pub(crate) filter: String,
}

/// The service's bounds, in seconds.
const ACK_DEADLINE: std::ops::RangeInclusive<u64> = 10..=600;
const RETRY: std::ops::RangeInclusive<u64> = 0..=600;
const ATTEMPTS: std::ops::RangeInclusive<u32> = 5..=100;
const FILTER_BYTES_MAX: usize = 256;

impl Default for NewSubscription {
    fn default() -> Self {
        Self {
            ack_deadline: Duration::from_secs(10),
            ordered: true,
            exactly_once: false,
            dead_letters: None,
            retry: None,
            filter: String::new(),
        }
    }
}

impl NewSubscription {
    /// A subscription with message ordering, an ack deadline of 10 s, and nothing besides.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the ack deadline, 10 s to 10 min, in whole seconds. Default: 10 s. It counts before a reader of
    /// this crate has extended it to its own
    /// [`lease`](super::PubSubSubscriberConfig::lease).
    #[must_use]
    pub fn ack_deadline(mut self, deadline: Duration) -> Self {
        self.ack_deadline = deadline;
        self
    }

    /// Sets whether messages of one ordering key are delivered in order. Default: on. Off, the service is
    /// quicker and each message may come at any time.
    #[must_use]
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.ordered = ordered;
        self
    }

    /// Sets whether the service keeps a message from coming again once its ack is confirmed, and its lease
    /// from being another's. Default: off. Within one region, and slower.
    #[must_use]
    pub fn exactly_once(mut self, exactly_once: bool) -> Self {
        self.exactly_once = exactly_once;
        self
    }

    /// Lets the service move a message to this topic of the project after it was delivered so often, 5 to
    /// 100 times. Default: none. With it deliveries are counted, and
    /// [`DeliveryInfo::attempt`](watermill_core::DeliveryInfo::attempt) tells.
    ///
    /// The service's own account needs to publish there and to ack here, and a topic that nobody has
    /// subscribed to keeps nothing: see
    /// [Google's guide](https://cloud.google.com/pubsub/docs/handling-failures#grant_forwarding_permissions).
    #[must_use]
    pub fn dead_letters(mut self, topic: impl Into<String>, after_attempts: u32) -> Self {
        self.dead_letters = Some((topic.into(), after_attempts));
        self
    }

    /// Sets how long the service waits before it delivers a nacked message again: from `min`, growing to
    /// `max`, at most 10 min. Default: none, and it does so at once.
    #[must_use]
    pub fn retry(mut self, min: Duration, max: Duration) -> Self {
        self.retry = Some((min, max));
        self
    }

    /// Sets a [filter] over attributes; what it does not let through is acked by the service. Default: none.
    ///
    /// [filter]: https://cloud.google.com/pubsub/docs/subscription-message-filter
    #[must_use]
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.filter = filter.into();
        self
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |fine: bool, problem: String| {
            if !fine {
                problems.push(problem);
            }
        };
        check(within(self.ack_deadline, ACK_DEADLINE), "ack_deadline: it is 10 s to 10 min".to_owned());
        check(self.filter.len() <= FILTER_BYTES_MAX, "filter: it is longer than 256 bytes".to_owned());
        if let Some((topic, attempts)) = &self.dead_letters {
            check(ATTEMPTS.contains(attempts), "dead_letters: 5 to 100 attempts are possible".to_owned());
            if let Err(problem) = check_name(topic) {
                check(false, format!("dead_letters: {problem}"));
            }
        }
        if let Some((min, max)) = self.retry {
            let fine = within(min, RETRY) && within(max, RETRY) && min <= max;
            check(fine, "retry: from min to max, both 0 s to 10 min".to_owned());
        }
        problems
    }

    /// As the service takes it.
    pub(crate) fn native(&self, access: &PubSubAccess, name: &str, topic: &str) -> Native {
        let deadline = i32::try_from(self.ack_deadline.as_secs()).unwrap_or(i32::MAX);
        let mut native = Native::new()
            .set_name(access.subscription(name))
            .set_topic(access.topic(topic))
            .set_ack_deadline_seconds(deadline)
            .set_enable_message_ordering(self.ordered)
            .set_enable_exactly_once_delivery(self.exactly_once)
            .set_filter(&self.filter);
        if let Some((topic, attempts)) = &self.dead_letters {
            native = native.set_dead_letter_policy(
                DeadLetterPolicy::new()
                    .set_dead_letter_topic(access.topic(topic))
                    .set_max_delivery_attempts(i32::try_from(*attempts).unwrap_or(i32::MAX)),
            );
        }
        if let Some((min, max)) = self.retry {
            let native_retry = RetryPolicy::new()
                .set_minimum_backoff(google_cloud_wkt::Duration::try_from(min).unwrap_or_default())
                .set_maximum_backoff(google_cloud_wkt::Duration::try_from(max).unwrap_or_default());
            native = native.set_retry_policy(native_retry);
        }
        native
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_named() {
        assert!(NewSubscription::new().problems().is_empty());
        let odd = NewSubscription::new()
            .ack_deadline(Duration::from_secs(9))
            .filter("x".repeat(257))
            .dead_letters("no topic", 4)
            .retry(Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(odd.problems().len(), 5, "{:?}", odd.problems());
    }
}
