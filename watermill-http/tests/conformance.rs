//! Joins HTTP to the conformance suite: the publisher by what arrives, and the subscriber with a sender that keeps what
//! it sends until it is accepted.

mod support;

use async_trait::async_trait;
use watermill_core::Message;
use watermill_http::{HttpPublisher, HttpPublisherConfig};
use watermill_testkit::{Backend, Connection, Lack};

use support::{
    receiver::Receiver,
    sender::{CAPACITY, Sender, Servers},
};

mod publisher {
    use super::*;

    struct Webhooks(Receiver);

    #[async_trait]
    impl Backend for Webhooks {
        async fn connect(&self) -> Connection {
            let publisher = HttpPublisher::new(HttpPublisherConfig::default());
            Connection::publish_only(publisher.expect("the config is valid"))
        }

        fn topic(&self, unique: &str) -> String {
            self.0.url(unique)
        }

        fn invalid_topics(&self) -> Vec<String> {
            ["", "orders", "/orders", "ftp://localhost/"].map(str::to_owned).to_vec()
        }

        async fn received(&self, topic: &str) -> Vec<Message> {
            self.0.received(topic).await
        }
    }

    watermill_testkit::conformance!(publish_only: Webhooks(Receiver::start().await));
}

mod subscriber {
    use super::*;

    struct Route(Servers);

    #[async_trait]
    impl Backend for Route {
        async fn connect(&self) -> Connection {
            Connection::new(Sender::to(&self.0), self.0.subscriber())
        }

        fn topic(&self, unique: &str) -> String {
            self.0.url(unique)
        }

        /// The sender learns from the receiver what is beyond the limits; requests are answered in this process; and
        /// a sender does not say how often it has tried.
        fn lacks(&self) -> &[Lack] {
            &[Lack::EarlyRefusal, Lack::Restart, Lack::ConsumerTimeout, Lack::Redelivered]
        }

        fn capacity(&self) -> Option<usize> {
            Some(CAPACITY)
        }

        fn scale(&self) -> usize {
            50
        }
    }

    watermill_testkit::conformance!(Route(Servers::start().await));
}
