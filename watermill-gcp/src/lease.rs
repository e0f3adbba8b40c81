//! [`Lease`]: a message in hand, as its server knows it, and [`PubSubDelivery`].

use std::time::SystemTime;

use google_cloud_pubsub::subscriber::handler::Handler;
use tokio::time::Instant;

/// What Pub/Sub alone says of a delivery: an extension of its message.
///
/// ```
/// # fn id(message: &watermill_core::Message) -> Option<&str> {
/// use watermill_gcp::PubSubDelivery;
///
/// let pubsub = message.extensions().get::<PubSubDelivery>()?;
/// Some(&pubsub.message_id)
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PubSubDelivery {
    /// The service's id of the message, one of its kind in its topic.
    pub message_id: String,
    /// The ordering key, if it has one.
    pub ordering_key: Option<String>,
    /// When the service took the message.
    pub published_at: Option<SystemTime>,
    /// Which delivery this is, from 1, where a dead-letter policy counts. About right, says the service.
    pub delivery_attempt: Option<u32>,
}

/// A message in hand. Dropped with its handler, it is free for others at once.
#[derive(Debug)]
pub(crate) struct Lease {
    /// `None` once the service is being told.
    pub(crate) handler: Option<Handler>,
    pub(crate) message_id: String,
    /// The ordering scope of its key, if the subscription has order.
    pub(crate) ordered_in: Option<u64>,
    /// Its place among those of its scope, which it keeps when it comes again.
    pub(crate) place: u64,
    pub(crate) received: Instant,
    /// After this delivery the service moves it away.
    pub(crate) is_last_attempt: bool,
}
