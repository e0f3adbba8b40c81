//! Joins Redis to the conformance suite.

use std::time::Duration;

use async_trait::async_trait;
use redis::Client;
use watermill_redis::{RedisPublisher, RedisPublisherConfig, RedisSubscriber, RedisSubscriberConfig};
use watermill_testkit::{Backend, Connection, Lack, Service};

struct Redis {
    client: Client,
}

/// All members of a group have the same.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(2);

#[async_trait]
impl Backend for Redis {
    async fn connect(&self) -> Connection {
        let subscriber = RedisSubscriberConfig::new("suite").visibility_timeout(VISIBILITY_TIMEOUT);
        let publisher = RedisPublisher::new(self.client.clone(), RedisPublisherConfig::default());
        let subscriber = RedisSubscriber::new(self.client.clone(), subscriber);
        Connection::new(publisher.expect("a valid config"), subscriber.expect("a valid config"))
    }

    async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
        Some((self.connect().await, VISIBILITY_TIMEOUT))
    }

    /// `tests/restart.rs` has a server that it may kill.
    fn lacks(&self) -> &[Lack] {
        &[Lack::Restart]
    }
}

watermill_testkit::conformance!(Redis { client: Client::open(Service::REDIS.url()).expect("a URL") });
