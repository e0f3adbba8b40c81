//! [`Tags`]: which deliveries of a channel are unsettled, so that one word acks many.

use std::collections::BTreeSet;

/// Delivery tags count from 1 on each channel, and come in that order. What is kept here is what is unsettled, so no more
/// than the prefetch, however long the oldest is held.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    /// The last that has come.
    last: u64,
    unsettled: BTreeSet<u64>,
}

/// What to tell the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Acks {
    /// All up to this tag, if any are new.
    pub(crate) up_to: Option<u64>,
    /// And these.
    pub(crate) single: Vec<u64>,
}

impl Tags {
    /// Takes note of a delivery.
    pub(crate) fn came(&mut self, tag: u64) {
        self.last = tag;
        self.unsettled.insert(tag);
    }

    /// Takes note of a tag that was settled otherwise, and told already.
    pub(crate) fn settled(&mut self, tag: u64) {
        self.unsettled.remove(&tag);
    }

    /// Takes note of acks, and says in how few words the server can be told. What was told before may be among what
    /// is acked up to a tag: the server looks at what is unsettled alone.
    pub(crate) fn ack(&mut self, acked: Vec<u64>) -> Acks {
        for tag in &acked {
            self.unsettled.remove(tag);
        }
        let settled_up_to = self.unsettled.first().map_or(self.last, |first| first - 1);
        let (below, single): (Vec<_>, Vec<_>) = acked.into_iter().partition(|tag| *tag <= settled_up_to);
        Acks { up_to: below.into_iter().max(), single }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn come(tags: std::ops::RangeInclusive<u64>) -> Tags {
        let mut known = Tags::default();
        tags.for_each(|tag| known.came(tag));
        known
    }

    #[test]
    fn acks_in_order_are_one_word() {
        let mut tags = come(1..=4);
        assert_eq!(tags.ack(vec![1, 2, 3]), Acks { up_to: Some(3), single: vec![] });
        assert_eq!(tags.ack(vec![4]), Acks { up_to: Some(4), single: vec![] });
    }

    #[test]
    fn nothing_that_is_in_hand_is_acked_with_others() {
        let mut tags = come(1..=7);
        assert_eq!(tags.ack(vec![3, 2]), Acks { up_to: None, single: vec![3, 2] });
        assert_eq!(tags.ack(vec![5, 1]), Acks { up_to: Some(1), single: vec![5] });
        tags.settled(4);
        assert_eq!(tags.ack(vec![6]), Acks { up_to: Some(6), single: vec![] });
        assert_eq!(tags.ack(vec![7]), Acks { up_to: Some(7), single: vec![] });
    }

    #[test]
    fn behind_one_that_is_held_nothing_piles_up() {
        let mut tags = come(1..=1);
        for tag in 2..10_000 {
            tags.came(tag);
            assert_eq!(tags.ack(vec![tag]), Acks { up_to: None, single: vec![tag] });
        }
        assert_eq!(tags.unsettled.len(), 1);
    }
}
