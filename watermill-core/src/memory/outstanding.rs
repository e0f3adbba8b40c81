//! [`Outstanding`]: what one member of a group was handed and has not settled.

use std::collections::VecDeque;

use super::marshaler::Record;
use crate::delivery::Token;

/// The records that a member has outstanding. Nearly always one or none, which has a place of its own: to reach
/// it there takes a third of the instructions that a queue does.
#[derive(Default)]
pub(super) struct Outstanding {
    /// Whichever was handed out while this was free.
    first: Option<Record>,
    /// The others, sorted by sequence.
    others: VecDeque<Record>,
    /// How many of all are handled.
    handled: usize,
}

impl Outstanding {
    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    /// How many are not handled yet.
    #[inline]
    pub(super) fn being_handled(&self) -> usize {
        self.len() - self.handled
    }

    /// Keeps a record that is handed out.
    #[inline]
    pub(super) fn insert(&mut self, record: Record) -> &mut Record {
        if self.first.is_some() {
            return self.insert_other(record);
        }
        self.first.insert(record)
    }

    /// Takes the record of a delivery, unless the token names an earlier one of the same message.
    #[inline]
    pub(super) fn remove(&mut self, token: Token) -> Option<Record> {
        let record = match &self.first {
            Some(first) if is_of(first, token) => self.first.take(),
            _ => self.remove_other(token),
        }?;
        self.handled -= usize::from(record.handled);
        Some(record)
    }

    /// Takes note that a delivery was handled; whether that is news.
    pub(super) fn set_handled(&mut self, token: Token) -> bool {
        let record = match &mut self.first {
            Some(first) if is_of(first, token) => Some(first),
            _ => self.find_other(token).and_then(|at| self.others.get_mut(at)),
        };
        let Some(record) = record else { return false };
        let is_news = !std::mem::replace(&mut record.handled, true);
        self.handled += usize::from(is_news);
        is_news
    }

    /// All of them, in no order.
    pub(super) fn into_records(self) -> impl Iterator<Item = Record> {
        self.first.into_iter().chain(self.others)
    }

    #[inline(never)]
    fn insert_other(&mut self, record: Record) -> &mut Record {
        // At the end, unless it is a redelivery that was overtaken.
        let at = match self.others.back() {
            Some(last) if last.sequence > record.sequence => {
                self.others.partition_point(|other| other.sequence < record.sequence)
            }
            _ => self.others.len(),
        };
        self.others.insert(at, record);
        &mut self.others[at]
    }

    #[inline(never)]
    fn remove_other(&mut self, token: Token) -> Option<Record> {
        self.others.remove(self.find_other(token)?)
    }

    fn find_other(&self, token: Token) -> Option<usize> {
        let at = self.others.binary_search_by_key(&token.position, |record| record.sequence).ok()?;
        is_of(&self.others[at], token).then_some(at)
    }
}

/// Whether the token names the current delivery of a record.
#[inline]
fn is_of(record: &Record, token: Token) -> bool {
    record.sequence == token.position && record.attempt() == token.delivery
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::Message;

    fn token(position: u64) -> Token {
        Token { scope: 0, position, delivery: 0 }
    }

    #[test]
    fn whatever_is_handed_out_is_found_by_its_token_once() {
        let mut outstanding = Outstanding::default();
        // The third comes again after it was overtaken.
        for sequence in [5, 7, 8, 6] {
            outstanding.insert(Record::new(Message::new("x"), sequence, SystemTime::now(), None));
        }
        assert!(outstanding.set_handled(token(7)) && !outstanding.set_handled(token(7)));
        assert!(!outstanding.set_handled(Token { delivery: 1, ..token(5) }), "another delivery of it");
        assert_eq!((outstanding.len(), outstanding.being_handled()), (4, 3));
        for position in [6, 5, 8, 7] {
            assert_eq!(outstanding.remove(token(position)).map(|record| record.sequence), Some(position));
            assert!(outstanding.remove(token(position)).is_none());
        }
        assert_eq!((outstanding.len(), outstanding.being_handled()), (0, 0));
    }
}
