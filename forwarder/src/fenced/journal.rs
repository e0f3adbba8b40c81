//! [`Journal`]: what was published and may be delivered again, which is what a checkpoint says.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use watermill_core::Delivery;

/// The version of the format, its first byte.
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 8 + 8;
const ENTRY_BYTES: usize = 4 + 8;

/// Which message of a source it is, the same in every delivery of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// Zero where the source has no partitions. Within one, deliveries come in order.
    pub(super) partition: i32,
    /// Of partition, offset and id: an offset alone may come again when somebody makes a table anew.
    pub(super) fingerprint: u64,
}

/// The places of messages that were published and that the source is not known to have recorded.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(super) struct Journal {
    /// Makes each checkpoint unlike every other.
    run: u64,
    number: u64,
    /// Published by us; the source has not confirmed their acks yet.
    unconfirmed: BTreeSet<Place>,
    /// Published by an earlier relay, or by us before the source took them away.
    inherited: BTreeMap<i32, Inherited>,
    /// After how many deliveries of a partition that are not known nothing of it that is can come any more:
    /// how many messages a relay may have in hand.
    in_hand_max: usize,
}

/// What of one partition may be delivered although it was published.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
struct Inherited {
    places: BTreeSet<Place>,
    /// How many deliveries of the partition were not known since the last was added.
    unknown: usize,
}

impl Place {
    /// `None` where the source has no offsets.
    pub(super) fn of(delivery: &Delivery) -> Option<Self> {
        let info = delivery.info();
        let (partition, offset) = (info.partition().unwrap_or(0), info.offset()?);
        let parts = [&partition.to_le_bytes()[..], &offset.to_le_bytes(), delivery.id().as_str().as_bytes()];
        Some(Self { partition, fingerprint: fnv1a(parts.into_iter().flatten()) })
    }
}

impl Journal {
    /// A journal that goes on from a checkpoint; `None` when that is of a kind which we do not know.
    pub(super) fn after(checkpoint: Option<&Bytes>, in_hand_max: usize) -> Option<Self> {
        Self::of_run(run(), checkpoint, in_hand_max)
    }

    /// The same, of a run whose number no other has.
    pub(super) fn of_run(run: u64, checkpoint: Option<&Bytes>, in_hand_max: usize) -> Option<Self> {
        let mut journal = Self { run, in_hand_max, ..Self::default() };
        let Some(mut rest) = checkpoint.map(|checkpoint| &checkpoint[..]) else { return Some(journal) };
        if rest.len() < HEAD_BYTES || rest.get_u8() != VERSION {
            return None;
        }
        rest.advance(HEAD_BYTES - 1);
        if rest.len() % ENTRY_BYTES != 0 {
            return None;
        }
        while rest.has_remaining() {
            journal.inherit(Place { partition: rest.get_i32(), fingerprint: rest.get_u64() });
        }
        Some(journal)
    }

    /// Whether a message that was just delivered has been published already.
    ///
    /// What was published and not recorded comes first in its partition, together with what waited while others
    /// were published. So after as many that are not known as a relay has in hand, none will come.
    pub(super) fn is_known(&mut self, place: Place) -> bool {
        if self.unconfirmed.contains(&place) {
            return true;
        }
        let Some(inherited) = self.inherited.get_mut(&place.partition) else { return false };
        if inherited.places.contains(&place) {
            return true;
        }
        inherited.unknown += 1;
        if inherited.unknown > self.in_hand_max {
            self.inherited.remove(&place.partition);
        }
        false
    }

    /// Takes note of what is about to be published, and says so as a checkpoint.
    pub(super) fn publish(&mut self, places: impl Iterator<Item = Place>) -> Bytes {
        self.number += 1;
        self.unconfirmed.extend(places);
        let inherited = || self.inherited.values().flat_map(|inherited| &inherited.places);
        let entries = || self.unconfirmed.iter().chain(inherited());
        let mut text = BytesMut::with_capacity(HEAD_BYTES + ENTRY_BYTES * entries().count());
        text.put_u8(VERSION);
        text.put_u64(self.run);
        text.put_u64(self.number);
        for Place { partition, fingerprint } in entries() {
            text.put_i32(*partition);
            text.put_u64(*fingerprint);
        }
        text.freeze()
    }

    /// These were not published after all.
    pub(super) fn take_back(&mut self, places: impl Iterator<Item = Place>) {
        for place in places {
            self.unconfirmed.remove(&place);
        }
    }

    /// The source has recorded the ack, and does not deliver it again.
    pub(super) fn recorded(&mut self, place: Place) {
        self.unconfirmed.remove(&place);
        if let Some(inherited) = self.inherited.get_mut(&place.partition) {
            inherited.places.remove(&place);
        }
    }

    /// The source did not record the ack: somebody else gets it, or we do, again.
    pub(super) fn lost(&mut self, place: Place) {
        if self.unconfirmed.remove(&place) {
            self.inherit(place);
        }
    }

    fn inherit(&mut self, place: Place) {
        let inherited = self.inherited.entry(place.partition).or_default();
        inherited.places.insert(place);
        inherited.unknown = 0;
    }
}

/// A number that no other run has.
fn run() -> u64 {
    fnv1a(watermill_core::MessageId::new().as_str().as_bytes())
}

/// FNV-1a of 64 bits: the same in every version of this program, which is what the standard library does
/// not promise of its own.
fn fnv1a<'b>(bytes: impl IntoIterator<Item = &'b u8>) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    bytes.into_iter().fold(BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32, fingerprint: u64) -> Place {
        Place { partition, fingerprint }
    }

    #[test]
    fn what_was_published_and_not_recorded_is_known_to_the_next() {
        let mut first = Journal::after(None, 3).unwrap();
        first.publish([place(0, 1), place(0, 2), place(1, 3)].into_iter());
        first.recorded(place(0, 1));
        let checkpoint = first.publish([place(0, 4)].into_iter());
        let mut next = Journal::after(Some(&checkpoint), 3).unwrap();
        assert!(next.is_known(place(0, 2)) && next.is_known(place(0, 4)) && next.is_known(place(1, 3)));
        assert!(!next.is_known(place(0, 1)));
    }

    #[test]
    fn after_as_many_unknown_messages_as_may_be_in_hand_a_partition_has_nothing_to_remember() {
        let mut first = Journal::after(None, 3).unwrap();
        let checkpoint = first.publish([place(0, 1), place(1, 2)].into_iter());
        let mut next = Journal::after(Some(&checkpoint), 3).unwrap();
        for waited in 5..8 {
            assert!(!next.is_known(place(0, waited)));
        }
        assert!(next.is_known(place(0, 1)), "others waited before it");
        assert!(!next.is_known(place(0, 9)));
        let mut third = Journal::after(Some(&next.publish([place(0, 9)].into_iter())), 3).unwrap();
        assert!(!third.is_known(place(0, 1)));
        assert!(third.is_known(place(1, 2)), "another partition still may deliver it");
    }

    #[test]
    fn no_checkpoint_is_like_another() {
        let mut journal = Journal::after(None, 3).unwrap();
        assert_ne!(journal.publish(std::iter::empty()), journal.publish(std::iter::empty()));
        assert_ne!(
            journal.publish(std::iter::empty()),
            Journal::after(None, 3).unwrap().publish(std::iter::empty())
        );
    }

    #[test]
    fn a_checkpoint_of_somebody_else_is_not_misread() {
        for foreign in [&b""[..], b"{}", &[VERSION; HEAD_BYTES + 1], &[9; HEAD_BYTES]] {
            assert!(Journal::after(Some(&Bytes::copy_from_slice(foreign)), 3).is_none(), "{foreign:?}");
        }
    }

    #[test]
    fn fingerprints_are_fnv_1a() {
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
