//! Where a group begins that wants what comes after it is made.
//!
//! Rows that are being written then have offsets below some that can be seen already. They come after it, and
//! what can be seen does not: so such a group begins before the first offset that is missing, with what
//! it sees behind that noted as done.

use super::progress::Progress;
use crate::position::Position;

/// How many of the newest rows are looked at for missing offsets. A transaction that has drawn one and stays
/// open while so many others commit is not waited for.
pub(crate) const NEWEST: usize = 10_000;

/// The position behind the newest rows, and what is done beyond it. The offsets are those that can be seen, at
/// most [`NEWEST`], from the highest down.
pub(crate) fn behind(newest: &[i64]) -> (i64, Progress) {
    let Some((&last, rest)) = newest.split_first() else { return (0, Progress::default()) };
    // How many of the offsets are behind the lowest that is missing.
    let (mut position, mut behind, mut above) = (last, 0, last);
    for (at, &offset) in rest.iter().enumerate() {
        if offset + 1 < above {
            (position, behind) = (offset, at + 1);
        }
        above = offset;
    }
    if newest.len() < NEWEST && above > 1 {
        (position, behind) = (0, newest.len());
    }
    let mut progress = Progress::default();
    newest[..behind].iter().rev().for_each(|offset| progress.push_done(Position::from(*offset)));
    (position, progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(newest: &[i64]) -> (i64, Vec<(i64, i64)>) {
        let (position, progress) = behind(newest);
        (position, progress.ahead.iter().map(|(first, last)| (first.offset, last.offset)).collect())
    }

    #[test]
    fn without_missing_offsets_it_is_the_newest_row() {
        assert_eq!(ahead(&[]), (0, vec![]));
        assert_eq!(ahead(&[3, 2, 1]), (3, vec![]));
    }

    #[test]
    fn it_is_before_what_is_missing_and_what_is_there_is_done() {
        assert_eq!(ahead(&[5, 4, 2, 1]), (2, vec![(4, 5)]));
        assert_eq!(ahead(&[9, 7, 6, 3, 2, 1]), (3, vec![(6, 7), (9, 9)]));
        assert_eq!(ahead(&[5, 4]), (0, vec![(4, 5)]));
    }

    #[test]
    fn of_a_large_table_what_is_far_behind_is_not_looked_at() {
        let newest: Vec<i64> = (1..=NEWEST as i64).rev().map(|n| n + 1_000).collect();
        assert_eq!(ahead(&newest), (NEWEST as i64 + 1_000, vec![]));
    }
}
