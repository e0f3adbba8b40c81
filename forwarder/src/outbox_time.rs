//! [`OutboxTime`]: how long messages were in the outbox.

use std::time::{Duration, SystemTime};

use crate::relay::item::Item;

/// How long messages were in the outbox: from when the source says that each was written until its destination had
/// accepted it, by two clocks where the source has one of its own. A histogram, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxTime {
    /// How many messages are counted: those that were accepted and of which the source says when they were written.
    pub messages: u64,
    /// The sum of all times.
    pub total: Duration,
    /// The longest time.
    pub longest: Duration,
    /// How many messages took as long as each of [`BOUNDS`](Self::BOUNDS) at the most and longer than the one before; the last is
    /// for what took longer than all of them.
    pub buckets: [u64; Self::BOUNDS.len() + 1],
}

impl OutboxTime {
    /// The upper bounds of the buckets, in ascending order.
    pub const BOUNDS: [Duration; 14] = [
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_millis(2_500),
        Duration::from_secs(5),
        Duration::from_secs(10),
        Duration::from_secs(60),
        Duration::from_secs(600),
        Duration::from_secs(3_600),
    ];

    /// Counts messages that were accepted just now.
    pub(crate) fn accepted<'i>(&mut self, items: impl Iterator<Item = &'i Item>) {
        let now = SystemTime::now();
        for written_at in items.filter_map(Item::written_at) {
            self.count(now.duration_since(written_at).unwrap_or_default());
        }
    }

    fn count(&mut self, time: Duration) {
        self.messages += 1;
        self.total = self.total.saturating_add(time);
        self.longest = self.longest.max(time);
        self.buckets[Self::BOUNDS.partition_point(|bound| *bound < time)] += 1;
    }

    /// Adds what another has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.total = self.total.saturating_add(other.total);
        self.longest = self.longest.max(other.longest);
        for (bucket, count) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_in_the_bucket_of_the_first_bound_that_it_does_not_exceed() {
        let mut times = OutboxTime::default();
        for time in [0, 5, 6, 1_000, 3_600_001] {
            times.count(Duration::from_millis(time));
        }
        assert_eq!((times.buckets[0], times.buckets[1], times.buckets[7], times.buckets[14]), (2, 1, 1, 1));
        assert_eq!(times.buckets.iter().sum::<u64>(), times.messages);
        let mut both = times;
        both.add(&times);
        assert_eq!((both.messages, both.buckets[0], both.longest), (10, 4, times.longest));
        assert_eq!(both.total, times.total * 2);
    }
}
