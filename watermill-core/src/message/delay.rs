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
    /// A publisher keeps the delay or refuses the message: where
    /// [`PublisherCapabilities::delays`](crate::publisher::PublisherCapabilities::delays) is not set, the
    /// call fails with [`Unsupported`](crate::error::PublishErrorKind::Unsupported) before anything is sent.
    /// That goes for a delay that was [asked for](Self::asks_for_delay) on this message in this process.
    /// Metadata alone is never refused: a delivered message, a dead letter or what Go wrote may have an old
    /// delay in it, and is published like any other. A delay of zero asks for nothing.
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
    pub fn delay_for(self, delay: Duration) -> Self {
        // What cannot be added up is longer than Go can hold.
        let delay = delay.min(go_duration::MAX);
        self.delay_by(delay, SystemTime::now() + delay)
    }

    /// Says when the message is due. As [`delay_for`](Self::delay_for); a time that has passed delays
    /// nothing.
    #[must_use]
    pub fn delay_until(self, due: SystemTime) -> Self {
        let delay = due.duration_since(SystemTime::now()).unwrap_or_default();
        self.delay_by(delay, due)
    }

    fn delay_by(mut self, delay: Duration, due: SystemTime) -> Self {
        write(self.metadata_mut(), delay, due);
        if delay.is_zero() {
            self.forget_delay();
        } else {
            self.extensions_mut().insert(DelayAsked);
        }
        self
    }

    /// Whether a delay was asked for on this message, with [`delay_for`](Self::delay_for) or
    /// [`delay_until`](Self::delay_until), in this process: what a publisher that cannot wait refuses.
    ///
    /// The request belongs to the context of this copy. It never reaches the wire, and neither a delivered
    /// message nor a dead letter has it, whatever their metadata say.
    #[inline]
    pub fn asks_for_delay(&self) -> bool {
        self.extensions().get::<DelayAsked>().is_some()
    }

    /// Asks for the delay that the metadata have already, as they are.
    pub(crate) fn ask_for_written_delay(&mut self) {
        self.extensions_mut().insert(DelayAsked);
    }

    /// Forgets that a delay was asked for: it has been kept, or is not wanted any more.
    #[inline]
    pub(crate) fn forget_delay(&mut self) {
        self.extensions_mut().remove::<DelayAsked>();
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

/// Marks a message on which a delay was asked for. An extension, since few messages have one and all of them
/// would carry a field.
#[derive(Clone)]
struct DelayAsked;

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
    fn a_delay_is_asked_for_where_it_is_set_and_nowhere_else() {
        let hour = Duration::from_hours(1);
        assert!(Message::new("x").delay_for(hour).asks_for_delay());
        assert!(Message::new("x").delay_until(SystemTime::now() + hour).asks_for_delay());
        assert!(Message::new("x").delay_for(hour).clone().asks_for_delay());

        let passed = [
            Message::new("x").delay_for(Duration::ZERO),
            Message::new("x").delay_until(UNIX_EPOCH),
            Message::new("x").delay_for(hour).delay_for(Duration::ZERO),
        ];
        assert!(
            passed.iter().all(|message| !message.asks_for_delay()),
            "what delays nothing asks for nothing"
        );
    }

    #[test]
    fn metadata_that_were_copied_ask_for_nothing() {
        let asked = Message::new("x").delay_for(Duration::from_hours(1));
        let until = asked.metadata().get(metadata_keys::DELAYED_UNTIL).unwrap();
        let copied = Message::new("x").with_metadata(metadata_keys::DELAYED_UNTIL, until);
        assert!(!copied.asks_for_delay());
        assert!(copied.delayed_until().unwrap().is_some());
        assert!(!asked.without_context().asks_for_delay());
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
