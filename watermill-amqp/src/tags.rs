//! [`Tags`]: which tags of a channel are acked, so that one word acks many.

use std::collections::BTreeSet;

/// Delivery tags count from 1 on each channel.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    /// All up to this one are settled.
    up_to: u64,
    /// Those beyond that are.
    beyond: BTreeSet<u64>,
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
    /// Takes note of a tag that was settled otherwise, and told already.
    pub(crate) fn settled(&mut self, tag: u64) {
        self.beyond.insert(tag);
    }

    /// Takes note of acks, and says in how few words the server can be told. What was told before may be among what
    /// is acked up to a tag: the server looks at what is unsettled alone.
    pub(crate) fn ack(&mut self, acked: Vec<u64>) -> Acks {
        self.beyond.extend(&acked);
        while self.beyond.first() == Some(&(self.up_to + 1)) {
            self.beyond.pop_first();
            self.up_to += 1;
        }
        let (below, single): (Vec<_>, Vec<_>) = acked.into_iter().partition(|tag| *tag <= self.up_to);
        Acks { up_to: below.into_iter().max(), single }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_in_order_are_one_word() {
        let mut tags = Tags::default();
        assert_eq!(tags.ack(vec![1, 2, 3]), Acks { up_to: Some(3), single: vec![] });
        assert_eq!(tags.ack(vec![4]), Acks { up_to: Some(4), single: vec![] });
    }

    #[test]
    fn nothing_that_is_in_hand_is_acked_with_others() {
        let mut tags = Tags::default();
        assert_eq!(tags.ack(vec![3, 2]), Acks { up_to: None, single: vec![3, 2] });
        assert_eq!(tags.ack(vec![5, 1]), Acks { up_to: Some(1), single: vec![5] });
        tags.settled(4);
        assert_eq!(tags.ack(vec![6]), Acks { up_to: Some(6), single: vec![] });
    }
}
