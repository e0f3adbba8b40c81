//! [`check`]: what was promised, against what was seen from outside. Pure functions, each of which finds what it is for.

mod delivery;
mod repeats;
mod stalls;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

pub(crate) use self::{repeats::repeats_by_fault, stalls::stalls};
use crate::{
    database::Row,
    records::{Arrived, Made, Moment},
};

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// The rows of the application, from the database: what was committed together with a message.
    pub(crate) rows: Vec<Row>,
    /// What the writers know to be committed, and since when.
    pub(crate) committed: HashMap<String, Moment>,
    /// What they know not to be.
    pub(crate) rolled_back: HashSet<String>,
    /// When the consumer has first seen a message.
    pub(crate) seen: HashMap<String, Moment>,
    /// The topic, from its beginning to its end.
    pub(crate) arrived: Vec<Arrived>,
    /// The messages that were set aside.
    pub(crate) dead: HashSet<String>,
    /// The faults, in their order.
    pub(crate) made: Vec<Made>,
    /// Until when it was looked at.
    pub(crate) until: Moment,
    /// What processes did that they should not when they were told to stop.
    pub(crate) misbehaved: Vec<String>,
    /// Processes that were not told to.
    pub(crate) ended_by_themselves: Vec<String>,
}

/// What is promised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    /// The most repeats of one interruption; `None` where nothing may come twice.
    pub(crate) repeats_max: Option<usize>,
    /// The longest that a message may wait while nothing is broken, in milliseconds.
    pub(crate) stall_max: Moment,
    /// Whether what the broker refuses is to be found among the dead letters.
    pub(crate) has_dead_letters: bool,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Its name.
    pub(crate) what: What,
    pub(crate) count: usize,
    /// One of them.
    pub(crate) example: String,
}

/// The ways to break one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Lost,
    Invented,
    Changed,
    Reordered,
    Repeated,
    Stalled,
    NotSetAside,
    SetAsideForNothing,
    Misbehaved,
    EndedByThemselves,
    /// The database has not kept what it has acknowledged: then nothing else says anything.
    DatabaseForgot,
}

impl What {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Invented => "invented",
            Self::Changed => "changed",
            Self::Reordered => "keys out of order",
            Self::Repeated => "repeated beyond the promise",
            Self::Stalled => "stalled beyond the bound",
            Self::NotSetAside => "refused and not dead-lettered",
            Self::SetAsideForNothing => "dead-lettered for nothing",
            Self::Misbehaved => "processes that misbehaved",
            Self::EndedByThemselves => "processes that ended by themselves",
            Self::DatabaseForgot => "forgotten by the database itself",
        }
    }
}

/// Everything that was broken.
pub(crate) fn check(evidence: &Evidence, promise: Promise) -> Vec<Finding> {
    let findings = [
        delivery::forgotten(evidence),
        delivery::lost(evidence),
        delivery::invented(evidence),
        delivery::changed(evidence),
        delivery::reordered(evidence),
        repeats::repeated(evidence, promise),
        stalls::stalled(evidence, promise),
        delivery::not_set_aside(evidence, promise),
        delivery::set_aside_for_nothing(evidence, promise),
        Finding::of(What::Misbehaved, evidence.misbehaved.clone()),
        Finding::of(What::EndedByThemselves, evidence.ended_by_themselves.clone()),
    ];
    findings.into_iter().flatten().collect()
}

impl Finding {
    /// None where there is no case.
    fn of(what: What, cases: Vec<String>) -> Option<Self> {
        let example = cases.first()?.clone();
        Some(Self { what, count: cases.len(), example })
    }
}
