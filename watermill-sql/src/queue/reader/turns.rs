//! [`Turns`]: where claims begin to look. No I/O.
//!
//! PostgreSQL keeps an index entry of every row that was claimed, and one of every claim that was done with, until the
//! table is vacuumed. Whoever begins at the front of the index passes all of them each time.

use std::time::Duration;

use tokio::time::Instant;

use crate::queue::dialect::Claimed;

/// So many claims begin once with those that had to wait, and once at the very front.
const CLAIMS_A_TURN: u32 = 8;

/// A look for what had to wait that finds nothing is not taken again for so many times as long as it took.
const REST: u32 = 10;

/// What the claims before have found.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    claims: u32,
    /// The lowest offset of the last claim, if that was full: what comes before is with somebody, or was committed late.
    front: Option<i64>,
    /// When to look again for what had to wait.
    waited_at: Option<Instant>,
}

/// What one claim looks at before everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turned {
    /// Whether it begins with what had to wait.
    pub(super) waited: bool,
    /// From which offset on it looks first at what need not wait.
    pub(super) front: Option<i64>,
}

impl Turns {
    pub(super) fn next(&mut self, now: Instant) -> Turned {
        let is_turn = self.claims.is_multiple_of(CLAIMS_A_TURN);
        self.claims = self.claims.wrapping_add(1);
        let waited = is_turn && self.waited_at.is_none_or(|at| at <= now);
        Turned { waited, front: self.front.filter(|_| !is_turn) }
    }

    /// What a look for what had to wait has come to.
    pub(super) fn waited(&mut self, found: bool, took: Duration, now: Instant) {
        self.waited_at = (!found).then(|| now + took * REST);
    }

    /// What a claim has come to.
    pub(super) fn came(&mut self, rows: &[Claimed], is_full: bool) {
        self.front = rows.iter().map(|row| row.claim.offset).min().filter(|_| is_full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{position::Position, queue::dialect::Claim, stored::Row};

    fn claimed(offset: i64) -> Claimed {
        let columns = crate::marshaler::Columns { uuid: b"", payload: b"", metadata: None };
        let message = crate::stored::Store::default().keep(columns);
        let row = Row { position: Position::from(offset), published_at: None, message };
        let claimed = Claimed::new(row, 1, 0, None);
        assert_eq!(claimed.claim, Claim { offset, attempt: 1 });
        claimed
    }

    #[test]
    fn of_full_claims_one_in_eight_begins_at_the_very_front() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        for number in 0..24 {
            let front = turns.next(now).front;
            assert_eq!(front.is_none(), number % 8 == 0, "{number}");
            turns.came(&[claimed(9), claimed(7)], true);
        }
        turns.came(&[claimed(9)], false);
        assert!(
            (0..24).all(|_| turns.next(now).front.is_none()),
            "there is little, and all of it is looked at"
        );
    }

    #[test]
    fn what_had_to_wait_has_every_eighth_turn_unless_looking_for_nothing_takes_a_tenth_of_the_time() {
        let (mut turns, mut now) = (Turns::default(), Instant::now());
        let in_eight = |turns: &mut Turns, now| (0..8).filter(|_| turns.next(now).waited).count();
        assert_eq!(in_eight(&mut turns, now), 1);
        turns.waited(true, Duration::from_millis(5), now);
        assert_eq!(in_eight(&mut turns, now), 1);
        turns.waited(false, Duration::from_millis(5), now);
        assert_eq!(in_eight(&mut turns, now), 0);
        now += Duration::from_millis(50);
        assert_eq!(in_eight(&mut turns, now), 1);
    }
}
