//! What is explored, and what must be found. With `--nocapture` it prints how many states there are, and how each
//! design or lacking rule fails, step by step.

use std::{env, fmt::Debug, hash::Hash};

use stateright::{Checker, HasDiscoveries, Model};

use super::{
    reading::Rule,
    relay::{REFUSED, Relaying, Without},
    shards::{Sharding, Unsharded},
    skip_locked::SkipLocked,
    world::{LETTERS, LOST, ORDER, TWICE},
};

fn is_large() -> bool {
    env::var("WATERMILL_MODEL").is_ok_and(|size| size == "large")
}

/// Explores everything, and checks that nothing is wrong but `expected`.
fn holds<M>(name: &str, model: M, expected: &[&str])
where
    M: Model<State: Clone + Debug + Hash + PartialEq + Send + Sync, Action: Clone + Debug + PartialEq + Send>
        + Send
        + Sync
        + 'static,
{
    let checker = model.checker().spawn_bfs().join();
    let mut found: Vec<_> = checker.discoveries().into_iter().collect();
    found.sort_by_key(|(property, _)| *property);
    println!("{name}: {} states, to a depth of {}", checker.unique_state_count(), checker.max_depth());
    for (property, path) in &found {
        println!("  not true: {property}");
        path.clone().into_actions().iter().for_each(|action| println!("    {action:?}"));
    }
    let found: Vec<_> = found.into_iter().map(|(property, _)| property).collect();
    assert_eq!(found, expected, "{name}");
}

/// Looks for a case in which a property is not true.
fn fails<M>(name: &str, model: M, property: &'static str)
where
    M: Model<State: Clone + Debug + Hash + PartialEq + Send + Sync, Action: Clone + Debug + PartialEq + Send>
        + Send
        + Sync
        + 'static,
{
    let finish = HasDiscoveries::AllOf([property].into());
    let checker = model.checker().finish_when(finish).spawn_bfs().join();
    let path = checker.discovery(property).unwrap_or_else(|| panic!("{name}: it is always true: {property}"));
    println!("{name}: found after {} states: not true: {property}", checker.unique_state_count());
    path.into_actions().iter().for_each(|action| println!("    {action:?}"));
}

/// Transactions that commit in any order, and one relay.
fn writers(rule: Rule) -> Relaying {
    match is_large() {
        true => Relaying::new(rule, &[&[1], &[1, 2], &[2]]),
        false => Relaying::new(rule, &[&[1], &[1, 2]]),
    }
}

/// Two relays over rows that are there, which take over from each other.
fn relays(plan: &[u8], (breaks_max, stops_max, nacks_max): (u8, u8, u8)) -> Relaying {
    let breaks_max = if is_large() { breaks_max + 1 } else { breaks_max };
    Relaying { relays: 2, breaks_max, stops_max, nacks_max, ..Relaying::new(Rule::IdCursor, &[plan]) }
}

#[test]
fn by_lock_holders_nothing_is_lost_invented_or_reordered() {
    holds("lock-holders", writers(Rule::LockHolders), &[]);
}

#[test]
fn by_gaps_nothing_is_lost_invented_or_reordered() {
    holds("gaps", writers(Rule::Gaps), &[]);
}

/// The order is that in which transactions began to write. One that waits for another in the middle, as for a lock of the
/// row that both change, is before it, though it writes its message after the other's commit. The rule is Go's.
#[test]
fn by_snapshot_nothing_is_lost_or_invented_and_a_key_is_in_the_order_in_which_its_transactions_began() {
    holds("snapshot", writers(Rule::Snapshot), &[ORDER]);
}

#[test]
fn every_part_of_the_commit_order_rules_is_needed() {
    let two = |rule| Relaying::new(rule, &[&[1], &[1, 2]]);
    fails("lock-holders, the locks looked at before the sequence", two(Rule::LocksFirst), LOST);
    fails("lock-holders without the locks", two(Rule::NoLocks), LOST);
    fails("snapshot without the horizon", two(Rule::NoHorizon), LOST);
    fails("gaps, by a probe alone", two(Rule::ProbeAlone), LOST);
    fails("gaps, by the end of statements alone", two(Rule::NoProbe), LOST);
}

#[test]
fn relays_that_take_over_lose_invent_and_reorder_nothing_and_repeat_a_batch_for_each_crash_at_most() {
    holds("relays", relays(&[1, 1, 2], (1, 0, 0)), &[]);
    holds("relays, one of which stops", relays(&[1, 1, 2], (0, 1, 0)), &[]);
    holds("relays with a message that is nacked", relays(&[1, 2], (1, 0, 1)), &[]);
    holds("relays with a dead letter", relays(&[REFUSED, 1], (1, 0, 1)), &[]);
}

#[test]
fn relays_over_writers_that_commit_late_lose_invent_and_reorder_nothing() {
    let batch = if is_large() { 2 } else { 1 };
    for rule in [Rule::LockHolders, Rule::Gaps] {
        let both = Relaying { relays: 2, batch, breaks_max: 1, ..Relaying::new(rule, &[&[1], &[1]]) };
        holds(&format!("relays over writers, {rule:?}"), both, &[]);
    }
}

#[test]
fn every_rule_of_the_relay_is_needed() {
    let lacking = |without, plan: &[u8]| {
        let nacks = u8::from(plan.contains(&REFUSED));
        Relaying { without: Some(without), ..relays(plan, (1, 0, nacks)) }
    };
    let three = &[1, 1, 2];
    fails("relays without fencing", lacking(Without::Fencing, three), TWICE);
    fails("relays without a bound", lacking(Without::Bound, three), TWICE);
    fails("relays without progress", lacking(Without::Progress, three), TWICE);
    fails("relays without contiguity", lacking(Without::Contiguity, three), LOST);
    fails("relays without lanes", lacking(Without::Lanes, three), ORDER);
    fails("relays without one transaction", lacking(Without::OneTransaction, &[REFUSED, 1]), LETTERS);
}

#[test]
fn the_naive_designs_fail() {
    fails("id-cursor", Relaying::new(Rule::IdCursor, &[&[1], &[1]]), LOST);
    let skip_locked = |relays| SkipLocked { plans: vec![vec![1, 1]], relays, breaks_max: 1 };
    fails("skip-locked", skip_locked(2), ORDER);
    holds("skip-locked with one relay", skip_locked(1), &[]);
}

#[test]
fn a_change_of_the_number_of_shards_reorders_nothing_and_loses_nothing() {
    let counts = if is_large() { vec![1, 2, 3, 1] } else { vec![1, 2, 1] };
    let sharding = |without| Sharding { keys: vec![1, 2, 1], counts: counts.clone(), breaks_max: 1, without };
    holds("shards", sharding(None), &[]);
}

#[test]
fn every_rule_of_a_change_of_the_number_of_shards_is_needed() {
    let sharding =
        |rule| Sharding { keys: vec![1, 1], counts: vec![1, 2], breaks_max: 0, without: Some(rule) };
    fails("shards that do not wait for those before them", sharding(Unsharded::Waiting), ORDER);
    fails("shards that look at the plan before they fetch", sharding(Unsharded::LookAfterFetch), TWICE);
    fails("shards whose boundary is set while they read", sharding(Unsharded::Closing), TWICE);
}
