//! [`PartitionLag`]: how far a subscription is behind.

/// How far a partition's reader is behind, for a gauge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// How many messages are there that are not acked, committed or not. Offsets count: those of
    /// transaction markers and of messages that were compacted away, too.
    pub messages: u64,
}

/// What librdkafka has last told of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// The offset of the oldest message there is.
    pub(crate) oldest: i64,
    /// The offset after the newest one that may be read.
    pub(crate) end: i64,
    /// What the group has committed; negative when that is nothing.
    pub(crate) committed: i64,
}

impl Measured {
    /// The lag of a reader that has acked everything before `watermark`; `None` while the end is unknown. What is gone
    /// from the log is nobody's lag.
    pub(crate) fn lag(self, watermark: Option<i64>) -> Option<u64> {
        let committed = (self.committed >= 0).then_some(self.committed);
        let read = watermark.max(committed).unwrap_or_default().max(self.oldest);
        (self.end >= 0).then(|| u64::try_from(self.end - read).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_what_is_not_acked() {
        let measured = Measured { oldest: 10, end: 100, committed: -1001 };
        assert_eq!(measured.lag(None), Some(90), "nothing is acked, and the oldest ten are gone");
        assert_eq!(measured.lag(Some(60)), Some(40));
        let measured = Measured { committed: 70, ..measured };
        assert_eq!(measured.lag(Some(60)), Some(30));
        assert_eq!(
            Measured { oldest: 80, ..measured }.lag(Some(60)),
            Some(20),
            "ten that were not read are gone"
        );
        assert_eq!(Measured { end: 50, ..measured }.lag(Some(60)), Some(0));
        assert_eq!(Measured { end: -1001, ..measured }.lag(None), None);
    }
}
