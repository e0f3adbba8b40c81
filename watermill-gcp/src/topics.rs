//! Topics that are made when they are missing.

use std::time::Duration;

use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::client::TopicAdmin;
use tokio::{sync::OnceCell, time::timeout};
use watermill_core::{
    Backoff,
    backend::{Failure, Trouble},
};

use crate::{PubSubAccess, clients, error};

/// Makes topics, with a client of its own that is built when the first is made.
#[derive(Debug)]
pub(crate) struct Topics {
    access: PubSubAccess,
    request_timeout: Duration,
    retry: Backoff,
    client: OnceCell<TopicAdmin>,
}

impl Topics {
    pub(crate) fn new(access: PubSubAccess, request_timeout: Duration, retry: Backoff) -> Self {
        Self { access, request_timeout, retry, client: OnceCell::new() }
    }

    /// Sees to it that the topic is there. Who makes it at the same time is not in the way.
    pub(crate) async fn create(&self, topic: &str) -> Result<(), Failure> {
        let client = self
            .client
            .get_or_try_init(|| clients::topics(&self.access, self.request_timeout, self.retry))
            .await
            .map_err(|error| Failure::new(Trouble::Config, error))?;
        let created = client.create_topic().set_name(self.access.topic(topic)).send();
        let created = match timeout(self.request_timeout, created).await {
            Ok(Err(error)) if error.status().is_some_and(|status| status.code == Code::AlreadyExists) => {
                Ok(())
            }
            Ok(created) => created.map(drop).map_err(error::of_request),
            Err(_) => Err(timed_out()),
        };
        created.map_err(|failure| failure.explained(format!("the topic {topic:?} could not be created")))
    }
}

pub(crate) fn timed_out() -> Failure {
    Failure::because(Trouble::Timeout, "Pub/Sub has not answered in time")
}
