//! What arrived, against what was committed.

use std::collections::{HashMap, HashSet};

use super::{Evidence, Finding, Promise, What};
use crate::database::Row;

/// A commit that was acknowledged and is not there, or a rollback that is.
pub(super) fn forgotten(evidence: &Evidence) -> Option<Finding> {
    let kept = ids(evidence);
    let gone = evidence.committed.keys().filter(|id| !kept.contains(id.as_str()));
    let gone = gone.map(|id| format!("{id} was committed and its row is gone"));
    let back = evidence.rolled_back.iter().filter(|id| kept.contains(id.as_str()));
    let back = back.map(|id| format!("{id} was rolled back and its row is there"));
    Finding::of(What::DatabaseForgot, gone.chain(back).collect())
}

/// Committed, taken by the broker, and not in the topic.
pub(super) fn lost(evidence: &Evidence) -> Option<Finding> {
    let arrived: HashSet<&str> = evidence.arrived.iter().map(|arrived| &*arrived.event.id).collect();
    let lost = evidence.rows.iter().filter(|row| !row.is_refused && !arrived.contains(&*row.id));
    let lost = lost.map(|Row { id, key, version, .. }| {
        let dead = if evidence.dead.contains(id) { ", which is among the dead letters" } else { "" };
        format!("{id}, version {version} of key {key}{dead}")
    });
    Finding::of(What::Lost, lost.collect())
}

/// In the topic, and never committed.
pub(super) fn invented(evidence: &Evidence) -> Option<Finding> {
    let kept = ids(evidence);
    let invented = evidence.arrived.iter().filter(|arrived| !kept.contains(&*arrived.event.id));
    let invented = invented.map(|arrived| {
        let id = &arrived.event.id;
        let why = if evidence.rolled_back.contains(id) { "rolled back" } else { "never committed" };
        format!("{id} was {why}")
    });
    Finding::of(What::Invented, invented.collect())
}

/// In the topic with another content than it was committed with.
pub(super) fn changed(evidence: &Evidence) -> Option<Finding> {
    let rows: HashMap<&str, &Row> = evidence.rows.iter().map(|row| (&*row.id, row)).collect();
    let changed = evidence.arrived.iter().filter(|arrived| {
        let event = &arrived.event;
        rows.get(&*event.id).is_some_and(|row| (row.key, row.version) != (event.key, event.version))
    });
    Finding::of(What::Changed, changed.map(|arrived| format!("{:?}", arrived.event)).collect())
}

/// A key whose messages first came in another order than they were committed in.
pub(super) fn reordered(evidence: &Evidence) -> Option<Finding> {
    let (mut seen, mut last, mut broken) = (HashSet::new(), HashMap::new(), HashMap::new());
    for arrived in &evidence.arrived {
        let event = &arrived.event;
        if !seen.insert(&*event.id) {
            continue;
        }
        let last = last.entry(event.key).or_insert(event.version);
        if event.version < *last {
            broken.entry(event.key).or_insert((event.version, *last));
        }
        *last = event.version.max(*last);
    }
    let broken = broken.into_iter();
    let broken = broken.map(|(key, (late, early))| format!("key {key}: version {late} came after {early}"));
    Finding::of(What::Reordered, broken.collect())
}

pub(super) fn not_set_aside(evidence: &Evidence, promise: Promise) -> Option<Finding> {
    let missing = evidence.rows.iter().filter(|row| row.is_refused && !evidence.dead.contains(&row.id));
    let missing = missing.map(|row| row.id.clone()).collect();
    promise.has_dead_letters.then(|| Finding::of(What::NotSetAside, missing)).flatten()
}

pub(super) fn set_aside_for_nothing(evidence: &Evidence, promise: Promise) -> Option<Finding> {
    let refused: HashSet<&str> =
        evidence.rows.iter().filter(|row| row.is_refused).map(|row| &*row.id).collect();
    let good = evidence.dead.iter().filter(|id| !refused.contains(id.as_str())).cloned().collect();
    promise.has_dead_letters.then(|| Finding::of(What::SetAsideForNothing, good)).flatten()
}

fn ids(evidence: &Evidence) -> HashSet<&str> {
    evidence.rows.iter().map(|row| &*row.id).collect()
}
