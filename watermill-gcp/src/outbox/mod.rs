//! [`Outbox`]: one topic's messages on their way, and the ordering keys that are held back.

mod keys;
mod on_its_way;

use std::collections::HashSet;

use google_cloud_pubsub::{
    client::{BasePublisher, Publisher},
    model::Message as Native,
};
use tokio_util::task::TaskTracker;

use crate::PubSubPublisherConfig;
use keys::Keys;
pub(crate) use on_its_way::{NotAccepted, OnItsWay, Permits};

/// What is published to one topic goes through here, call after call.
pub(crate) struct Outbox {
    /// The topic was made, or is not to be.
    pub(crate) is_there: bool,
    name: String,
    client: Option<Client>,
}

/// A client of Google's that has seen some ordering keys. It keeps a task for each, for good.
struct Client {
    publisher: Publisher,
    keys_seen: HashSet<u64>,
    keys: Keys,
    /// What is on its way through it.
    calls: TaskTracker,
}

impl Outbox {
    pub(crate) fn new(name: String, is_there: bool) -> Self {
        Self { is_there, name, client: None }
    }

    /// Waits until one more call can go through, whatever keys it has: until all others are done, where the
    /// client has seen too many.
    pub(crate) async fn ready(&mut self, base: &BasePublisher, config: &PubSubPublisherConfig) {
        if let Some(client) = self.client.take_if(|client| client.keys_seen.len() >= config.ordering_keys_max)
        {
            client.calls.close();
            client.calls.wait().await;
        }
        self.client.get_or_insert_with(|| Client {
            publisher: base
                .publisher(&self.name)
                .set_message_count_threshold(config.batch_messages)
                .set_byte_threshold(config.batch_bytes)
                .set_delay_threshold(config.linger)
                .build(),
            keys_seen: HashSet::new(),
            keys: Keys::default(),
            calls: TaskTracker::new(),
        });
    }

    /// Hands a whole call to the client, without a pause. `None` before [`ready`](Self::ready).
    pub(crate) fn send(&mut self, messages: Vec<Native>, permits: Permits) -> Option<OnItsWay> {
        let client = self.client.as_mut()?;
        let mut call = client.keys.begin();
        let publisher = &client.publisher;
        let hand_over = |message: Native| {
            if message.ordering_key.is_empty() {
                return Some((None, publisher.publish(message)));
            }
            let key: Box<str> = message.ordering_key.as_str().into();
            client.keys_seen.insert(keys::hash(&key));
            let goes = call.enter(&key, || publisher.resume_publish(&*key));
            goes.then(|| (Some(key), publisher.publish(message)))
        };
        let of_call = messages.into_iter().map(hand_over).collect();
        Some(OnItsWay::new(of_call, call, permits, client.calls.token()))
    }
}
