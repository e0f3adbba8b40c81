//! What came twice, by the fault after which it did.

use std::collections::HashSet;

use super::{Evidence, Finding, Promise, What};
use crate::records::{Arrived, Made};

/// How many messages came again before the first fault, and from the begin of each to that of the next.
pub(crate) fn repeats_by_fault(arrived: &[Arrived], made: &[Made]) -> Vec<usize> {
    let mut repeats = vec![0; made.len() + 1];
    let mut seen = HashSet::new();
    for Arrived { event, at } in arrived {
        if !seen.insert(&*event.id) {
            repeats[made.partition_point(|made| made.from <= *at)] += 1;
        }
    }
    repeats
}

pub(super) fn repeated(evidence: &Evidence, promise: Promise) -> Option<Finding> {
    let repeats = repeats_by_fault(&evidence.arrived, &evidence.made);
    let mut faults = Vec::new();
    for (at, count) in repeats.into_iter().enumerate() {
        let before = at.checked_sub(1).map(|at| evidence.made[at].fault);
        let interruptions = before.map_or(0, |fault| fault.interruptions());
        let allowed = promise.repeats_max.map_or(0, |each| each * interruptions);
        if count > allowed {
            let after = before.map_or("no fault at all", |fault| fault.name());
            faults.push(format!("{count} after {after}, at most {allowed} were promised"));
        }
    }
    Finding::of(What::Repeated, faults)
}
