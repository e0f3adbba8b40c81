//! Delays: when a message is due, written into its metadata as Go writes it.

use std::{
    error::Error,
    fmt,
    time::{Duration, SystemTime},
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Message, Metadata};
use crate::{go_duration, metadata_keys};

impl Message {
    /// Says that the message is due `delay` from now, by this machine's clock.
    ///
    /// The delay is metadata and does nothing by itself: it is honoured where
    /// [`PublisherCapabilities::delays`](crate::publisher::PublisherCapabilities::delays) is set, and
    /// elsewhere travels with the message, which is delivered at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use watermill_core::Message;
    ///
    /// let reminder = Message::new("pay").delay_for(Duration::from_secs(90));
    /// assert_eq!(reminder.metadata().get("_watermill_delayed_for"), Some("1m30s"));
    /// assert!(reminder.delayed_until().unwrap() > Some(std::time::SystemTime::now()));
    /// ```
    #[must_use]
    pub fn delay_for(mut self, delay: Duration) -> Self {
        // What cannot be added up is longer than Go can hold.
        let delay = delay.min(go_duration::MAX);
        write(self.metadata_mut(), delay, SystemTime::now() + delay);
        self
    }

    /// Says when the message is due. As [`delay_for`](Self::delay_for); a time that has passed delays
    /// nothing.
    #[must_use]
    pub fn delay_until(mut self, due: SystemTime) -> Self {
        let delay = due.duration_since(SystemTime::now()).unwrap_or_default();
        write(self.metadata_mut(), delay, due);
        self
    }

    /// When the message is due, if it says so.
    ///
    /// # Errors
    ///
    /// [`DelayError`] when its metadata says something else than a time.
    pub fn delayed_until(&self) -> Result<Option<SystemTime>, DelayError> {
        let Some(text) = self.metadata().get(metadata_keys::DELAYED_UNTIL) else { return Ok(None) };
        OffsetDateTime::parse(text, &Rfc3339)
            .map(|due| Some(due.into()))
            .map_err(|_| DelayError { text: text.chars().take(64).collect() })
    }
}

/// The metadata entry [`DELAYED_UNTIL`](metadata_keys::DELAYED_UNTIL) is not a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayError {
    /// The beginning of it.
    text: String,
}

impl fmt::Display for DelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = metadata_keys::DELAYED_UNTIL;
        write!(f, "read {:?} in {key} as a time such as \"2026-11-25T08:30:00.5Z\"", self.text)
    }
}

impl Error for DelayError {}

/// Writes both entries: readers look at the time, and whoever delays again at the delay.
pub(crate) fn write(metadata: &mut Metadata, delay: Duration, due: SystemTime) {
    metadata.insert(metadata_keys::DELAYED_FOR, go_duration::format(delay));
    if let Some(due) = rfc3339(due) {
        metadata.insert(metadata_keys::DELAYED_UNTIL, due);
    }
}

/// In UTC and whole milliseconds, rounded up: due a little late is better than a little early.
/// `None` beyond the year 9999, which a clock that is set does not reach.
fn rfc3339(time: SystemTime) -> Option<String> {
    let time = OffsetDateTime::from(time.checked_add(Duration::from_nanos(999_999))?);
    time.replace_millisecond(time.millisecond()).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_due_time_is_written_in_milliseconds_and_read_back() {
        let due = UNIX_EPOCH + Duration::from_nanos(1_700_000_001_500_000_001);
        let message = Message::new("x").delay_until(due);
        let text = message.metadata().get(metadata_keys::DELAYED_UNTIL);
        assert_eq!(text, Some("2023-11-14T22:13:21.501Z"));
        assert_eq!(message.delayed_until(), Ok(Some(UNIX_EPOCH + Duration::from_millis(1_700_000_001_501))));
        assert_eq!(message.metadata().get(metadata_keys::DELAYED_FOR), Some("0s"), "it has passed");
    }

    #[test]
    fn times_that_go_writes_are_read() {
        for (text, seconds) in
            [("2023-11-14T22:13:21Z", 1_700_000_001), ("2023-11-14T23:13:21+01:00", 1_700_000_001)]
        {
            let message = Message::new("x").with_metadata(metadata_keys::DELAYED_UNTIL, text);
            assert_eq!(message.delayed_until(), Ok(Some(UNIX_EPOCH + Duration::from_secs(seconds))));
        }
        assert_eq!(Message::new("x").delayed_until(), Ok(None));
    }

    #[test]
    fn what_is_no_time_is_an_error_that_shows_it() {
        let message = Message::new("x").with_metadata(metadata_keys::DELAYED_UNTIL, "tomorrow");
        let error = message.delayed_until().unwrap_err().to_string();
        assert!(error.contains("\"tomorrow\"") && error.contains("_watermill_delayed_until"), "{error}");
    }
}
