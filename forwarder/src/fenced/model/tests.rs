//! What is explored, and what must be found. `WATERMILL_MODEL=large` explores more; with `--nocapture` it prints how
//! many states there are, and how it fails without a rule, step by step.

use std::env;

use stateright::{Checker, HasDiscoveries, Model};

use super::world::{Fencing, LOST, TWICE, Without};

fn relays() -> Fencing {
    let is_large = env::var("WATERMILL_MODEL").is_ok_and(|size| size == "large");
    let (messages, breaks_max) = if is_large { (3, 3) } else { (2, 2) };
    Fencing { without: None, messages, relays: 2, in_hand_max: 2, breaks_max }
}

#[test]
fn whatever_dies_is_paused_or_is_not_answered_everything_is_published_once_and_in_order() {
    let checker = relays().checker().spawn_bfs().join();
    println!("fenced: {} states, to a depth of {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

#[test]
fn every_rule_is_needed() {
    use Without::{Checkpoint, Doubt, Fencing as Fence, Memory, OneTransaction, Patience, Sequence};
    for without in [Fence, Checkpoint, OneTransaction, Doubt, Memory, Sequence, Patience] {
        let broken = if matches!(without, Sequence | Patience) { LOST } else { TWICE };
        let model = Fencing { without: Some(without), ..relays() };
        let finish = HasDiscoveries::AllOf([broken].into());
        let checker = model.checker().finish_when(finish).spawn_bfs().join();
        let path =
            checker.discovery(broken).unwrap_or_else(|| panic!("without {without:?} it is always true"));
        let states = checker.unique_state_count();
        println!("fenced without {without:?}: found after {states} states: not true: {broken}");
        path.into_actions().iter().for_each(|action| println!("    {action:?}"));
    }
}
