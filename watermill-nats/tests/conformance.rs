//! Joins NATS to the conformance suite: JetStream, and core NATS.

use std::time::Duration;

use async_trait::async_trait;
use watermill_nats::{
    CoreNatsConfig, CoreNatsPublisher, CoreNatsSubscriber, NatsPublisher, NatsPublisherConfig,
    NatsSubscriber, NatsSubscriberConfig,
};
use watermill_testkit::{Backend, Connection, Lack, Limits, Service};

/// All members of a group have the same.
const ACK_WAIT: Duration = Duration::from_secs(2);

/// What the server takes, with headers, unless it is told otherwise.
const MAX_PAYLOAD: usize = 1024 * 1024;

async fn client() -> async_nats::Client {
    async_nats::connect(Service::NATS.url()).await.expect("a server")
}

fn limits() -> Limits {
    let is_value = |value: &str| !value.contains(['\r', '\n']) && value.trim() == value;
    let is_entry = |name: &str, value: &str| {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        is_name && !value.contains(['\r', '\n']) && value.trim() == value
    };
    Limits::default().payload_max(MAX_PAYLOAD - 64 * 1024).ids(is_value).metadata(is_entry)
}

fn invalid_topics() -> Vec<String> {
    ["", "a b", ".a", "a.", "a..b", ">.a", "a\r\nb"].map(str::to_owned).to_vec()
}

mod jetstream {
    use super::*;

    struct JetStream;

    #[async_trait]
    impl Backend for JetStream {
        async fn connect(&self) -> Connection {
            let client = client().await;
            let subscriber = NatsSubscriberConfig::new("suite").ack_wait(ACK_WAIT);
            let publisher = NatsPublisher::new(client.clone(), NatsPublisherConfig::default());
            let subscriber = NatsSubscriber::new(client, subscriber);
            Connection::new(publisher.expect("a valid config"), subscriber.expect("a valid config"))
        }

        async fn connect_with_timeout(&self) -> Option<(Connection, Duration)> {
            Some((self.connect().await, ACK_WAIT))
        }

        /// `tests/restart.rs` has a server that it may kill.
        fn lacks(&self) -> &[Lack] {
            &[Lack::Restart]
        }

        fn limits(&self) -> Limits {
            limits()
        }

        fn invalid_topics(&self) -> Vec<String> {
            invalid_topics()
        }
    }

    watermill_testkit::conformance!(JetStream);
}

struct CoreNats(CoreNatsConfig);

#[async_trait]
impl Backend for CoreNats {
    async fn connect(&self) -> Connection {
        let client = client().await;
        let publisher = CoreNatsPublisher::new(client.clone(), self.0.clone());
        let subscriber = CoreNatsSubscriber::new(client, self.0.clone());
        Connection::new(publisher.expect("a valid config"), subscriber.expect("a valid config"))
    }

    fn limits(&self) -> Limits {
        limits()
    }

    fn invalid_topics(&self) -> Vec<String> {
        invalid_topics()
    }
}

mod core_nats {
    use super::*;

    watermill_testkit::conformance!(at_most_once: CoreNats(CoreNatsConfig::default()));
}
