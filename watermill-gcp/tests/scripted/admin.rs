//! What is created and looked at.

use std::time::Duration;

use google_cloud_auth::{
    credentials::{CacheableResource, CredentialsProvider, EntityTag},
    errors::CredentialsError,
};

use tracing::Level;
use watermill_core::{Message, Publisher, Subscriber};
use watermill_gcp::{
    NewSubscription, PubSubAccess, PubSubPublisher, PubSubPublisherConfig, PubSubSubscriber,
};
use watermill_testkit::LogLines;

use crate::{
    server::{Pull, Server, State, received},
    support::{config, next},
};

fn refusal(code: u16, status: &str) -> (u16, String) {
    let error = format!(r#"{{"code":{code},"message":"as the script says","status":"{status}"}}"#);
    (code, format!(r#"{{"error":{error}}}"#))
}

fn already_exists() -> (u16, String) {
    refusal(409, "ALREADY_EXISTS")
}

fn subscription(rest: &str) -> (u16, String) {
    let names = r#""name":"projects/project/subscriptions/topic","topic":"projects/project/topics/topic""#;
    (200, format!("{{{names},{rest}}}"))
}

#[tokio::test]
async fn who_creates_a_topic_and_comes_second_publishes_all_the_same() {
    let server = Server::start(State { admin: [already_exists()].into(), ..State::default() }).await;
    let config = PubSubPublisherConfig::new(server.access()).create_topics(true);
    let publisher = PubSubPublisher::new(config).await.expect("a valid config");
    for _ in 0..2 {
        publisher.publish("topic", vec![Message::new("x")]).await.expect("it is accepted");
    }
    let asked = server.look(|state| state.asked.clone());
    assert_eq!(asked.len(), 1, "it is asked for once: {asked:?}");
    assert!(asked[0].starts_with("PUT /v1/projects/project/topics/topic"), "{asked:?}");
}

#[tokio::test]
async fn a_quota_of_requests_that_create_is_waited_for() {
    let created = (200, r#"{"name":"projects/project/topics/topic"}"#.to_owned());
    let admin = [refusal(429, "RESOURCE_EXHAUSTED"), created].into();
    let server = Server::start(State { admin, ..State::default() }).await;
    let config = PubSubPublisherConfig::new(server.access())
        .create_topics(true)
        .retry(watermill_core::Backoff::constant(Duration::from_millis(1)));
    let publisher = PubSubPublisher::new(config).await.expect("a valid config");
    publisher.publish("topic", vec![Message::new("x")]).await.expect("it is created in the end");
    assert_eq!(server.look(|state| state.asked.len()), 2);
}

#[tokio::test]
async fn a_subscription_that_is_there_and_differs_is_said_and_used_as_it_is() {
    let admin = [already_exists(), subscription(r#""ackDeadlineSeconds":20,"filter":"attributes:a""#)];
    let pulls = [Pull::Send(vec![received("1", "")])];
    let state = State { admin: admin.into(), pulls: pulls.into(), ..State::default() };
    let server = Server::start(state).await;
    let mut log = LogLines::of_this_thread("watermill_gcp");
    let subscriber = PubSubSubscriber::new(config(&server).create_subscriptions(NewSubscription::new()))
        .await
        .expect("a valid config");
    let mut subscription = subscriber.subscribe("topic").await.expect("it is used");
    let line = log.next_about(Level::WARN, "differs from what is configured").await;
    for difference in [
        "ack_deadline: it is 20 and would be 10",
        "ordered: it is false and would be true",
        r#"filter: it is \"attributes:a\" and would be \"\""#,
    ] {
        assert!(line.text.contains(difference), "{line:?}");
    }
    next(&mut subscription).await.ack();
    subscription.close().await.expect("it closes");
    let asked = server.look(|state| state.asked.clone());
    assert!(asked.iter().all(|asked| asked.starts_with("PUT ") || asked.starts_with("GET ")), "{asked:?}");
}

#[tokio::test]
async fn what_the_configuration_says_of_somebody_elses_subscription_and_is_not_so_is_said() {
    let policy = r#""deadLetterPolicy":{"deadLetterTopic":"projects/project/topics/dead"}"#;
    let server = Server::start(State { admin: [subscription(policy)].into(), ..State::default() }).await;
    let mut log = LogLines::of_this_thread("watermill_gcp");
    let subscriber = PubSubSubscriber::new(config(&server)).await.expect("a valid config");
    let subscription = subscriber.subscribe("topic").await.expect("it is used");
    let line = log.next_about(Level::WARN, "differs from what is configured").await;
    assert!(line.text.contains("ordered: it is false and would be true"), "{line:?}");
    assert!(line.text.contains("counts_attempts: it is true and would be false"), "{line:?}");
    subscription.close().await.expect("it closes");
}

/// The service moves it to the dead letters; what is behind it of its key need not wait. It would, for longer
/// than this test does: the policy has a nacked message come again within ten minutes.
#[tokio::test]
async fn in_order_too_nobody_waits_for_a_message_that_the_policy_moves_away() {
    let policies = r#""enableMessageOrdering":true,"deadLetterPolicy":
        {"deadLetterTopic":"projects/project/topics/dead","maxDeliveryAttempts":5},
        "retryPolicy":{"minimumBackoff":"10s","maximumBackoff":"600s"}"#;
    let mut last = received("1", "key");
    last.delivery_attempt = 5;
    let pulls = [Pull::Send(vec![last])].into();
    let server =
        Server::start(State { admin: [subscription(policies)].into(), pulls, ..State::default() }).await;
    let subscriber = PubSubSubscriber::new(config(&server)).await.expect("a valid config");
    let mut subscription = subscriber.subscribe("topic").await.expect("it is there");
    let delivery = next(&mut subscription).await;
    assert_eq!((delivery.id().as_str(), delivery.info().attempt()), ("1", 5));
    delivery.nack();
    server.until("the nack", |state| state.nacked == ["ack-1"]).await;
    server.play([Pull::Send(vec![received("2", "key")])]);
    let delivery = next(&mut subscription).await;
    assert_eq!(delivery.id(), "2");
    delivery.ack();
    subscription.close().await.expect("it closes");
}

#[derive(Debug)]
struct Token;

impl CredentialsProvider for Token {
    async fn headers(
        &self,
        _: http::Extensions,
    ) -> Result<CacheableResource<http::HeaderMap>, CredentialsError> {
        let headers = [(http::header::AUTHORIZATION, "Bearer ours".parse().expect("a header"))];
        Ok(CacheableResource::New { entity_tag: EntityTag::new(), data: headers.into_iter().collect() })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

#[tokio::test]
async fn credentials_that_were_given_go_with_every_request_and_an_emulator_gets_none() {
    let server = Server::start(State::default()).await;
    let access = PubSubAccess::new("project").credentials(Token);
    let url = format!("http://{}", server.address());
    for (access, credentials) in [
        (access.clone().no_emulator().endpoint(url), &["Bearer ours"][..]),
        (access.emulator(server.address()), &[]),
    ] {
        server.change(|state| state.credentials.clear());
        let publisher =
            PubSubPublisher::new(PubSubPublisherConfig::new(access)).await.expect("a valid config");
        publisher.publish("topic", vec![Message::new("x")]).await.expect("it is accepted");
        assert_eq!(server.look(|state| state.credentials.clone()), credentials);
    }
}
