//! Backends that remember nothing join the suite with what applies to them: a fan-out without groups, as
//! the channels of Redis or core NATS are, and a publisher whose messages nobody can subscribe to.

mod fan_out;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use watermill_core::{
    Message, Publisher,
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};
use watermill_testkit::{Backend, Connection, Limits};

use fan_out::{FanOut, FanOutPublisher, FanOutSubscriber};

mod channels {
    use super::*;

    struct Channels(FanOut);

    #[async_trait]
    impl Backend for Channels {
        async fn connect(&self) -> Connection {
            Connection::new(FanOutPublisher::new(self.0.clone()), FanOutSubscriber::new(self.0.clone()))
        }
    }

    watermill_testkit::conformance!(at_most_once: Channels(FanOut::default()));
}

/// What a webhook is: whatever is published arrives somewhere outside, in a format with limits.
mod webhook {
    use super::*;

    const PAYLOAD_MAX: usize = 64 * 1024;

    type Arrived = Arc<Mutex<HashMap<String, Vec<Message>>>>;

    struct Outside(Arrived);

    struct Webhook {
        arrived: Arrived,
        closed: Mutex<bool>,
    }

    fn limits() -> Limits {
        Limits::default()
            .payload_max(PAYLOAD_MAX)
            .ids(|id| !id.is_empty())
            .keys(|key| std::str::from_utf8(key).is_ok())
            .metadata(|name, value| name.is_ascii() && !value.contains(['\r', '\n']))
            .metadata_max(20)
    }

    #[async_trait]
    impl Backend for Outside {
        async fn connect(&self) -> Connection {
            Connection::publish_only(Webhook { arrived: self.0.clone(), closed: Mutex::default() })
        }

        fn limits(&self) -> Limits {
            limits()
        }

        async fn received(&self, topic: &str) -> Vec<Message> {
            self.0.lock().unwrap().get(topic).cloned().unwrap_or_default()
        }
    }

    #[async_trait]
    impl Publisher for Webhook {
        async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
            let refuse = |kind| Err(PublishError::new(kind, topic));
            if *self.closed.lock().unwrap() {
                return Err(PublishError::closed(topic));
            }
            if topic.is_empty() {
                return refuse(PublishErrorKind::Topic);
            }
            if messages.iter().any(Message::asks_for_delay) {
                return refuse(PublishErrorKind::Unsupported);
            }
            if messages.iter().any(|message| !limits().hold(message)) {
                return refuse(PublishErrorKind::Message);
            }
            self.arrived.lock().unwrap().entry(topic.to_owned()).or_default().extend(messages);
            Ok(())
        }

        async fn close(&self) -> Result<(), PublishError> {
            *self.closed.lock().unwrap() = true;
            Ok(())
        }

        fn capabilities(&self) -> PublisherCapabilities {
            PublisherCapabilities::new("webhook").keeps_order(true).atomic(true)
        }
    }

    watermill_testkit::conformance!(publish_only: Outside(Arrived::default()));
}
