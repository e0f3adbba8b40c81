//! [`Layout`] and [`PayloadColumn`]: what a topic's table is.

/// What a topic's table is. A topic has one layout; each refuses tables of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// Messages stay, and every consumer group reads all of them in order: for
    /// [`SqlSubscriber`](crate::SqlSubscriber).
    #[default]
    Log,
    /// Each message is handled by one of many workers, in no promised order or in that of its
    /// [key](crate::SqlQueueSubscriberConfig::ordered_by_key), and then deleted or marked; it may be delayed: for [`SqlQueueSubscriber`](crate::SqlQueueSubscriber).
    Queue,
}

/// What the payload column of a topic's table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadColumn {
    /// JSON text. A payload that is none is refused before anything is sent.
    Json,
    /// Any bytes.
    Bytes,
}
