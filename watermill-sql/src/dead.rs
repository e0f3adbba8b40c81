//! [`Dead`]: a message on its way to the dead-letter topic.

use std::time::SystemTime;

use watermill_core::{Message, metadata_keys};

use crate::marshaler::Record;

/// A message that is to be moved to the dead-letter topic.
#[derive(Clone, Debug)]
pub(crate) struct Dead {
    pub(crate) offset: i64,
    pub(crate) message: Message,
    pub(crate) reason: String,
    pub(crate) attempts: u32,
}

impl Dead {
    /// The row there, which says why it is there, and where it was.
    pub(crate) fn record(&self, topic: &str) -> Record {
        let mut message = self.message.clone();
        let metadata = message.metadata_mut();
        metadata.insert(metadata_keys::REASON_POISONED, &self.reason);
        metadata.insert(metadata_keys::TOPIC_POISONED, topic);
        metadata.insert(metadata_keys::SUBSCRIBER_POISONED, "sql");
        metadata.insert(metadata_keys::OFFSET_POISONED, self.offset.to_string());
        metadata.insert(metadata_keys::ATTEMPTS_POISONED, self.attempts.to_string());
        if let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            metadata.insert(metadata_keys::FAILED_AT_POISONED, now.as_millis().to_string());
        }
        Record::of_row(message)
    }
}
