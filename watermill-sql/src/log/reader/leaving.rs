//! [`Leaving`]: whether a shard's reader is about to leave its shard.

use std::time::Duration;

use tokio::time::Instant;

use crate::position::Position;

/// How long a reader that was asked for its shard waits for what it has in hand. Then it goes on.
const GIVE_MAX: Duration = Duration::from_secs(5);
/// For how long it then answers nobody who asks: whoever cannot have this shard would else keep it from work.
const KEEP: Duration = Duration::from_secs(60);

/// Why a reader leaves its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// It is where the number of shards changes.
    Through(Position),
    /// Another process has fewer; it tries until then.
    Asked(Instant),
}

/// What a reader makes of that in one term. While there is a reason to leave, it takes nothing in.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    leave: Option<Leave>,
    keeps_until: Option<Instant>,
}

impl Leaving {
    /// Whether it leaves for somebody who asks now.
    pub(super) fn may_give(&self, now: Instant) -> bool {
        self.leave.is_none() && self.keeps_until.is_none_or(|until| now >= until)
    }

    pub(super) fn give(&mut self, now: Instant) {
        self.leave = Some(Leave::Asked(now + GIVE_MAX));
    }

    pub(super) fn through(&mut self, boundary: Position) {
        self.leave = Some(Leave::Through(boundary));
    }

    pub(super) fn stay(&mut self) {
        self.leave = None;
    }

    pub(super) fn why(&self) -> Option<Leave> {
        self.leave
    }

    /// Why to leave now. An asking that has run out is over, and the next ones are not answered for a while.
    pub(super) fn look(&mut self, now: Instant) -> Option<Leave> {
        if self.until().is_some_and(|until| now >= until) {
            self.leave = None;
            self.keeps_until = Some(now + KEEP);
        }
        self.leave
    }

    /// When to [look](Self::look) again at the latest.
    pub(super) fn until(&self) -> Option<Instant> {
        match self.leave {
            Some(Leave::Asked(until)) => Some(until),
            Some(Leave::Through(_)) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_give_its_shard_goes_on_and_is_not_held_up_again_by_the_next_who_asks() {
        let (mut leaving, start) = (Leaving::default(), Instant::now());
        assert!(leaving.may_give(start));
        leaving.give(start);
        let over = start + GIVE_MAX;
        assert_eq!((leaving.until(), leaving.may_give(start)), (Some(over), false));
        assert_eq!(leaving.look(over - Duration::from_millis(1)), Some(Leave::Asked(over)));
        assert_eq!((leaving.look(over), leaving.until()), (None, None));
        assert!(!leaving.may_give(over + KEEP / 2), "it works for most of the time");
        assert!(leaving.may_give(over + KEEP), "it may have less in hand by now");
    }

    #[test]
    fn a_change_of_the_number_is_left_for_however_long_it_takes() {
        let (mut leaving, start) = (Leaving::default(), Instant::now());
        leaving.give(start);
        leaving.look(start + GIVE_MAX);
        leaving.through(7.into());
        assert_eq!(leaving.look(start + KEEP * 100), Some(Leave::Through(7.into())));
        leaving.stay();
        assert_eq!(leaving.why(), None);
    }
}
