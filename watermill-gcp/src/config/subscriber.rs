//! [`PubSubSubscriberConfig`].

use std::{fmt, sync::Arc, time::Duration};

use watermill_core::{Backoff, error::ConfigError};

use super::{NewSubscription, check_name, within};
use crate::PubSubAccess;

/// How a [`PubSubSubscriber`](crate::PubSubSubscriber) reads.
#[derive(Clone, Debug)]
pub struct PubSubSubscriberConfig {
    pub(crate) access: PubSubAccess,
    pub(crate) group: Option<String>,
    pub(crate) name: SubscriptionName,
    pub(crate) create_topics: bool,
    pub(crate) create_subscriptions: Option<NewSubscription>,
    pub(crate) ordered: bool,
    pub(crate) counts_attempts: bool,
    pub(crate) dead_letter_topic: Option<String>,
    pub(crate) lease: Duration,
    pub(crate) max_lease: Duration,
    pub(crate) outstanding_bytes: u32,
    pub(crate) go_metadata: bool,
    pub(crate) probe_interval: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) retry: Backoff,
}

/// Names the subscription of a topic and a group.
#[derive(Clone)]
pub(crate) enum SubscriptionName {
    Suffix,
    By(Arc<ChooseName>),
}

type ChooseName = dyn Fn(&str, Option<&str>) -> String + Send + Sync;

/// The client's bounds, in seconds.
const LEASE: std::ops::RangeInclusive<u64> = 10..=600;
/// Seven days, as long as the service keeps a message by default.
const MAX_LEASE: std::ops::RangeInclusive<u64> = 10..=604_800;

impl SubscriptionName {
    pub(crate) fn of(&self, topic: &str, group: Option<&str>) -> String {
        match (self, group) {
            (Self::By(choose), group) => choose(topic, group),
            (Self::Suffix, Some(group)) => format!("{topic}_{group}"),
            (Self::Suffix, None) => topic.to_owned(),
        }
    }
}

impl fmt::Debug for SubscriptionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Suffix) { "Suffix" } else { "By(..)" })
    }
}

impl PubSubSubscriberConfig {
    /// Reads the topics of a project.
    pub fn new(access: impl Into<PubSubAccess>) -> Self {
        Self {
            access: access.into(),
            group: None,
            name: SubscriptionName::Suffix,
            create_topics: false,
            create_subscriptions: None,
            ordered: true,
            counts_attempts: false,
            dead_letter_topic: None,
            lease: Duration::from_secs(60),
            max_lease: Duration::from_secs(3_600),
            outstanding_bytes: 100 << 20,
            go_metadata: false,
            probe_interval: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            retry: Backoff::default(),
        }
    }

    /// Sets the consumer group. Default: none. A group is a subscription of its own: each receives every
    /// message that was published since it was created, and its readers share them.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Sets how the subscription of a topic and a group is called. Default: as the topic, with `_` and the
    /// group behind it where there is one. In Go that is `TopicSubscriptionName`, and
    /// `TopicSubscriptionNameWithSuffix("_group")`.
    #[must_use]
    pub fn subscription_name(
        mut self,
        choose: impl Fn(&str, Option<&str>) -> String + Send + Sync + 'static,
    ) -> Self {
        self.name = SubscriptionName::By(Arc::new(choose));
        self
    }

    /// Creates topics that are missing, before a subscription to them. Default: off.
    #[must_use]
    pub fn create_topics(mut self, create_topics: bool) -> Self {
        self.create_topics = create_topics;
        self
    }

    /// Creates subscriptions that are missing. Default: none is created, and subscribing to a missing one
    /// fails with [`Topic`](watermill_core::error::SubscribeErrorKind::Topic). Needs the permissions
    /// `pubsub.subscriptions.create` and `pubsub.topics.attachSubscription`.
    #[must_use]
    pub fn create_subscriptions(mut self, new: NewSubscription) -> Self {
        self.ordered = new.ordered;
        self.counts_attempts = new.dead_letters.is_some();
        if self.dead_letter_topic.is_none() {
            self.dead_letter_topic = new.dead_letters.as_ref().map(|(topic, _)| topic.clone());
        }
        self.create_subscriptions = Some(new);
        self
    }

    /// Says whether the subscriptions, made by somebody else, have message ordering. Default: on. Where it is
    /// off, a message waits for none before it.
    #[must_use]
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.ordered = ordered;
        self
    }

    /// Says whether the subscriptions, made by somebody else, have a dead-letter policy, so that the service
    /// counts attempts. Default: off, and a router counts them in its own memory.
    #[must_use]
    pub fn counts_attempts(mut self, counts_attempts: bool) -> Self {
        self.counts_attempts = counts_attempts;
        self
    }

    /// Sets the topic that rejected messages are published to, before they are acked; what is not accepted
    /// there is sent again until it is, or goes back when the subscription closes. Default: that of
    /// [`NewSubscription::dead_letters`], if there is one. Without one, and in a subscription to that topic
    /// itself, a rejected message is acked with an error in the log.
    #[must_use]
    pub fn dead_letter_topic(mut self, topic: impl Into<String>) -> Self {
        self.dead_letter_topic = Some(topic.into());
        self
    }

    /// Sets for how long a message is leased at a time, 10 s to 10 min. Default: 60 s. The client extends
    /// leases while messages are in hand; when this process dies, they are free after this time.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets for how long leases of a message are extended in all, from 10 s. Default: 1 h. A handler that
    /// takes longer has lost its delivery: it is told, and another reader gets the message.
    #[must_use]
    pub fn max_lease(mut self, max_lease: Duration) -> Self {
        self.max_lease = max_lease;
        self
    }

    /// Sets how many bytes of messages may be in hand. Default: 100 MiB. At the bound the service sends no
    /// more until some are settled. How many messages may be is the
    /// [total of the window](watermill_core::Window::total).
    #[must_use]
    pub fn outstanding_bytes(mut self, bytes: u32) -> Self {
        self.outstanding_bytes = bytes;
        self
    }

    /// Puts the service's id of a message and its time of publishing into the metadata, as Go does:
    /// `_watermill_message_google_message_id` and `publishTime`. Default: off, and the metadata are those
    /// that were published, so that a message can be published again as it is: two attributes more, and one
    /// with 100 would be refused. [`PubSubDelivery`](crate::PubSubDelivery) has both in any case.
    #[must_use]
    pub fn go_metadata(mut self, go_metadata: bool) -> Self {
        self.go_metadata = go_metadata;
        self
    }

    /// Sets how often the service is asked whether it is there, while no message comes. Default: 30 s. Zero
    /// turns it off. The client mends a stream that breaks without a word; this is how the
    /// [status](watermill_core::Subscription::status) tells of a service that cannot be reached, and of a
    /// subscription that is gone.
    #[must_use]
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.probe_interval = interval;
        self
    }

    /// Sets how long one request may take, retries included: to create something, to ask for it, and to
    /// record what is left when a subscription closes. Default: 10 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets the waits before a stream is opened again that the service has ended for a reason that does not
    /// pass by itself, and before a dead letter is sent again. Default: [`Backoff::default`], 100 ms doubling
    /// to 30 s. The client's own waits, for reasons that do pass, are from 100 ms to 60 s.
    #[must_use]
    pub fn retry(mut self, retry: Backoff) -> Self {
        self.retry = retry;
        self
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem there is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let dead_letters = self.dead_letter_topic.iter().filter_map(|topic| {
            check_name(topic).err().map(|problem| format!("dead_letter_topic: {problem}"))
        });
        ConfigError::check("configure the Pub/Sub subscriber")
            .with(self.access.problems())
            .with(self.create_subscriptions.iter().flat_map(NewSubscription::problems))
            .with(dead_letters)
            .unless(self.group.as_deref() != Some(""), "group: a consumer group needs a name")
            .unless(within(self.lease, LEASE), "lease: it is 10 s to 10 min")
            .unless(within(self.max_lease, MAX_LEASE), "max_lease: it is 10 s to 7 days")
            .unless(self.outstanding_bytes > 0, "outstanding_bytes: zero would be no bound")
            .unless(!self.request_timeout.is_zero(), "request_timeout: zero would not wait for any answer")
            .finish()
    }

    pub(crate) fn subscription(&self, topic: &str) -> String {
        self.name.of(topic, self.group.as_deref())
    }

    /// What is rejected by a reader of the dead letters themselves must not come back to it.
    pub(crate) fn dead_letter_topic_of(&self, topic: &str) -> Option<&str> {
        self.dead_letter_topic.as_deref().filter(|dead| *dead != topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported_at_once() {
        assert_eq!(PubSubSubscriberConfig::new("p").validate(), Ok(()));
        let config = PubSubSubscriberConfig::new("")
            .group("")
            .create_subscriptions(NewSubscription::new().ack_deadline(Duration::ZERO))
            .dead_letter_topic("no spaces")
            .lease(Duration::from_secs(1))
            .max_lease(Duration::from_secs(1))
            .outstanding_bytes(0)
            .request_timeout(Duration::ZERO);
        let error = config.validate().unwrap_err();
        assert_eq!(error.problems().count(), 8, "{error}");
    }

    #[test]
    fn a_subscription_is_called_as_in_go() {
        let config = PubSubSubscriberConfig::new("p");
        assert_eq!(config.subscription("orders"), "orders");
        assert_eq!(config.clone().group("billing").subscription("orders"), "orders_billing");
        let own = config.subscription_name(|topic, group| format!("{}.{topic}", group.unwrap_or("all")));
        assert_eq!(own.subscription("orders"), "all.orders");
    }
}
