//! How long messages waited while nothing was broken.

use super::{Evidence, Finding, Promise, What};
use crate::records::{Made, Moment};

/// The longest wait, in milliseconds, before the first fault and after each: of any message, while nothing was broken.
pub(crate) fn stalls(evidence: &Evidence) -> Vec<Moment> {
    let mut longest = vec![0; evidence.made.len() + 1];
    for row in evidence.rows.iter().filter(|row| !row.is_refused) {
        // Of a commit whose outcome was unknown nobody knows the time.
        let Some(committed) = evidence.committed.get(&row.id) else { continue };
        let seen = evidence.seen.get(&row.id).copied().unwrap_or(evidence.until);
        for (at, wait) in waits(*committed, seen, &evidence.made) {
            longest[at] = wait.max(longest[at]);
        }
    }
    longest
}

/// The pieces of a wait that no fault covers, each with the number of faults before it.
fn waits(from: Moment, to: Moment, made: &[Made]) -> impl Iterator<Item = (usize, Moment)> {
    let first = made.partition_point(|made| made.to <= from);
    let last = made.partition_point(|made| made.from <= to);
    (first..=last).map(move |at| {
        let begin = at.checked_sub(1).map_or(from, |before| made[before].to.max(from));
        let end = made.get(at).map_or(to, |next| next.from.min(to));
        (at, end - begin)
    })
}

pub(super) fn stalled(evidence: &Evidence, promise: Promise) -> Option<Finding> {
    let stalls = stalls(evidence).into_iter().enumerate();
    let faults = stalls.filter(|(_, wait)| *wait > promise.stall_max).map(|(at, wait)| {
        let after = at.checked_sub(1).map_or("no fault at all", |at| evidence.made[at].fault.name());
        format!("{:.1} s after {after}", wait as f64 / 1_000.0)
    });
    Finding::of(What::Stalled, faults.collect())
}
