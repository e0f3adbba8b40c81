//! Subscriptions of the service: made when they are missing, looked at when they are not, never changed.

use std::time::Duration;

use google_cloud_gax::error::{Error as NativeError, rpc::Code};
use google_cloud_pubsub::{client::SubscriptionAdmin, model::Subscription as Native};
use tokio::{sync::OnceCell, time::timeout};
use watermill_core::backend::{Failure, Trouble};

use crate::{
    PubSubSubscriberConfig, clients, error,
    topics::{Topics, timed_out},
};

/// Looks after the subscriptions of one subscriber.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    config: PubSubSubscriberConfig,
    topics: Topics,
    client: OnceCell<SubscriptionAdmin>,
}

/// What is known of a subscription, as far as the service tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// After so many attempts a message is moved away.
    pub(crate) attempts_max: Option<u32>,
    /// The longest time before a nacked message comes again.
    pub(crate) retry_max: Duration,
}

impl Subscriptions {
    pub(crate) fn new(config: PubSubSubscriberConfig) -> Self {
        let topics = Topics::new(config.access.clone(), config.request_timeout, config.retry);
        Self { config, topics, client: OnceCell::new() }
    }

    /// Sees to it that the subscription is there, with its topics, as far as that is configured.
    pub(crate) async fn ensure(&self, topic: &str) -> Result<Known, Failure> {
        let name = self.config.subscription(topic);
        if self.config.create_topics {
            let created = self.config.create_subscriptions.as_ref();
            let dead = created.and_then(|new| new.dead_letters.as_ref()).map(|(topic, _)| topic.as_str());
            for topic in [Some(topic), self.config.dead_letter_topic_of(topic), dead].into_iter().flatten() {
                self.topics.create(topic).await?;
            }
        }
        let Some(new) = &self.config.create_subscriptions else {
            let Some(found) = self.look(&name).await? else { return Ok(Known::default()) };
            say(topic, &name, &untrue(&self.config, &found));
            return Ok(Known::of(&found));
        };
        let wanted = new.native(&self.config.access, &name, topic);
        let created = self.client().await?.create_subscription().with_request(wanted.clone()).send();
        match self.bounded(created).await {
            Ok(_) => Ok(Known::of(&wanted)),
            Err(Some(error)) if has_code(&error, Code::AlreadyExists) => {
                let Some(found) = self.look(&name).await? else { return Ok(Known::of(&wanted)) };
                say(topic, &name, &differences(&wanted, &found));
                Ok(Known::of(&found))
            }
            Err(error) => Err(error
                .map_or_else(timed_out, error::of_request)
                .explained(format!("the subscription {name:?} could not be created"))),
        }
    }

    /// The subscription, or nothing where that is not ours to see.
    ///
    /// # Errors
    ///
    /// When it is missing, or the service cannot be asked.
    pub(crate) async fn look(&self, name: &str) -> Result<Option<Native>, Failure> {
        let name_in_project = self.config.access.subscription(name);
        let asked = self.client().await?.get_subscription().set_subscription(name_in_project).send();
        match self.bounded(asked).await {
            Ok(found) => Ok(Some(found)),
            Err(Some(error)) if has_code(&error, Code::PermissionDenied) => Ok(None),
            Err(Some(error)) if has_code(&error, Code::NotFound) => Err(error::of_request(error).explained(
                format!("there is no subscription {name:?}; `create_subscriptions` would make it"),
            )),
            Err(error) => Err(error.map_or_else(timed_out, error::of_request)),
        }
    }

    async fn client(&self) -> Result<&SubscriptionAdmin, Failure> {
        let config = &self.config;
        self.client
            .get_or_try_init(|| clients::subscriptions(&config.access, config.request_timeout, config.retry))
            .await
            .map_err(|error| Failure::new(Trouble::Config, error))
    }

    /// `None` when there is no answer in time.
    async fn bounded(
        &self,
        asked: impl Future<Output = Result<Native, NativeError>>,
    ) -> Result<Native, Option<NativeError>> {
        timeout(self.config.request_timeout, asked).await.map_err(|_| None)?.map_err(Some)
    }
}

impl Known {
    fn of(native: &Native) -> Self {
        let attempts = native.dead_letter_policy.as_ref().map(|policy| policy.max_delivery_attempts);
        let retry = native.retry_policy.as_ref().and_then(|policy| policy.maximum_backoff);
        Self {
            attempts_max: attempts.and_then(|attempts| attempts.try_into().ok()),
            retry_max: retry.and_then(|retry| retry.try_into().ok()).unwrap_or_default(),
        }
    }
}

fn has_code(error: &NativeError, code: Code) -> bool {
    error.status().is_some_and(|status| status.code == code)
}

fn say(topic: &str, subscription: &str, differences: &[String]) {
    if !differences.is_empty() {
        tracing::warn!(
            topic,
            subscription,
            differences = differences.join("; "),
            "the subscription is there and differs from what is configured; it is used as it is"
        );
    }
}

fn unless_same<T: PartialEq + std::fmt::Debug>(option: &str, found: T, wanted: T) -> Option<String> {
    (found != wanted).then(|| format!("{option}: it is {found:?} and would be {wanted:?}"))
}

/// What the configuration says of somebody else's subscription and is not so.
fn untrue(config: &PubSubSubscriberConfig, found: &Native) -> Vec<String> {
    let counts = found.dead_letter_policy.is_some();
    [
        unless_same("ordered", found.enable_message_ordering, config.ordered),
        unless_same("counts_attempts", counts, config.counts_attempts),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// In what a subscription is not as it would be made, as `option: it is, and would be`.
fn differences(wanted: &Native, found: &Native) -> Vec<String> {
    let dead_letters = |native: &Native| {
        let policy = native.dead_letter_policy.as_ref()?;
        Some((policy.dead_letter_topic.clone(), policy.max_delivery_attempts))
    };
    let retry = |native: &Native| {
        let seconds = |wait: Option<google_cloud_wkt::Duration>| wait.map(|wait| wait.seconds());
        let policy = native.retry_policy.as_ref()?;
        Some((seconds(policy.minimum_backoff), seconds(policy.maximum_backoff)))
    };
    [
        unless_same("topic", &found.topic, &wanted.topic),
        unless_same("ack_deadline", found.ack_deadline_seconds, wanted.ack_deadline_seconds),
        unless_same("ordered", found.enable_message_ordering, wanted.enable_message_ordering),
        unless_same("exactly_once", found.enable_exactly_once_delivery, wanted.enable_exactly_once_delivery),
        unless_same("filter", &found.filter, &wanted.filter),
        unless_same("dead_letters", dead_letters(found), dead_letters(wanted)),
        unless_same("retry", retry(found), retry(wanted)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewSubscription, PubSubAccess};

    #[test]
    fn every_option_that_differs_is_said() {
        let access = PubSubAccess::new("p");
        let plain = NewSubscription::new();
        let other = NewSubscription::new()
            .ack_deadline(Duration::from_secs(20))
            .ordered(false)
            .exactly_once(true)
            .filter("attributes.a = \"b\"")
            .dead_letters("dead", 5)
            .retry(Duration::from_secs(1), Duration::from_secs(2));
        let native = |new: &NewSubscription, topic| new.native(&access, "sub", topic);
        assert!(differences(&native(&plain, "one"), &native(&plain, "one")).is_empty());
        let said = differences(&native(&plain, "one"), &native(&other, "two"));
        assert_eq!(said.len(), 7, "{said:?}");
        assert!(said.contains(&"ordered: it is false and would be true".to_owned()), "{said:?}");
        let known = Known::of(&native(&other, "two"));
        assert_eq!(known, Known { attempts_max: Some(5), retry_max: Duration::from_secs(2) });
    }
}
