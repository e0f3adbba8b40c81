//! The only place where conditions of this backend become errors of the traits.

use std::time::Duration;

use crate::error::{PublishError, PublishErrorKind, SubscribeError, SubscribeErrorKind};

/// A call that could wait for room for ever.
pub(super) fn more_than_a_group_holds(topic: &str, messages: usize, capacity: usize) -> PublishError {
    PublishError::new(PublishErrorKind::Refused, topic).because(format!(
        "one call with {messages} messages, and a group holds {capacity}; publish fewer at once or raise MemoryConfig::capacity"
    ))
}

/// The messages are in their groups, so none is named as not accepted: publishing what was not
/// accepted again publishes nothing.
pub(super) fn not_acked_in_time(topic: &str, waited: Duration) -> PublishError {
    PublishError::new(PublishErrorKind::Timeout, topic)
        .with_not_accepted(Vec::new())
        .because(format!("the messages were accepted, but not all were acked within {waited:?}"))
}

pub(super) fn empty_group(topic: &str) -> SubscribeError {
    SubscribeError::new(SubscribeErrorKind::Config, topic)
        .because("a consumer group needs a name; without one, leave the group out")
}
