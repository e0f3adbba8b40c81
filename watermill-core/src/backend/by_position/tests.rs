use std::{num::NonZeroUsize, time::Duration};

use super::*;
use crate::{backend::Handed, error::SettleErrorKind};

fn window(per_scope: usize) -> Window {
    Window::ordered(NonZeroUsize::new(per_scope).unwrap())
}

/// A ledger of partition 0 from its beginning, with messages at these offsets.
fn ledger(window: Window, offsets: &[u64]) -> ByPosition {
    let mut ledger = ByPosition::new(10);
    ledger.set_window(window);
    ledger.assign(0, 0);
    fill(&mut ledger, 0, offsets);
    ledger
}

fn fill(ledger: &mut ByPosition, partition: u32, offsets: &[u64]) {
    offsets.iter().for_each(|offset| ledger.push(partition, *offset, Message::new("x"), None));
}

fn next(ledger: &mut ByPosition) -> Option<Handed> {
    match ledger.next(Instant::now()) {
        Offer::Handed(handed) => Some(handed),
        Offer::Nothing(_) => None,
    }
}

/// The offsets of all that is handed out without anything being settled.
fn all(ledger: &mut ByPosition) -> Vec<i64> {
    std::iter::from_fn(|| next(ledger)).filter_map(|handed| handed.offset).collect()
}

fn settle(ledger: &mut ByPosition, token: Token, outcome: Outcome) -> bool {
    ledger.settle(token, outcome, None, Instant::now())
}

fn nack(delay_ms: u64) -> Outcome {
    Outcome::Nack { delay: Duration::from_millis(delay_ms) }
}

#[tokio::test(start_paused = true)]
async fn the_position_passes_what_is_done_from_the_front_on() {
    let mut ledger = ledger(window(3), &[3, 5, 6]);
    let tokens: Vec<_> = std::iter::from_fn(|| next(&mut ledger)).map(|handed| handed.token).collect();
    settle(&mut ledger, tokens[1], Outcome::Ack);
    assert_eq!(ledger.positions(), []);
    assert_eq!(ledger.unrecorded(), Unrecorded::default());
    settle(&mut ledger, tokens[0], Outcome::Ack);
    assert_eq!(ledger.positions(), [(0, 6)]);
    assert_eq!(ledger.unrecorded().count, 2);
    ledger.recorded(&[(0, 6)]);
    assert_eq!((ledger.positions(), ledger.unrecorded()), (vec![], Unrecorded::default()));
}

#[tokio::test(start_paused = true)]
async fn a_receipt_is_complete_once_the_position_has_passed_its_message() {
    let mut ledger = ledger(window(2), &[0, 1]);
    let one = next(&mut ledger).unwrap().token;
    let two = next(&mut ledger).unwrap().token;
    let (receipt, mut wait) = Receipt::new();
    ledger.settle(two, Outcome::Ack, Some(receipt), Instant::now());
    assert!(!ledger.unrecorded().awaited, "to record now would complete nothing");
    settle(&mut ledger, one, Outcome::Ack);
    assert!(ledger.unrecorded().awaited);
    ledger.not_recorded(Instant::now());
    assert!(wait.try_recv().is_err());
    ledger.recorded(&[(0, 2)]);
    assert_eq!(wait.try_recv().unwrap().ok(), Some(()));
}

#[tokio::test(start_paused = true)]
async fn a_nacked_message_comes_again_before_any_later_one() {
    let mut ledger = ledger(window(1), &[1, 2]);
    let one = next(&mut ledger).unwrap();
    settle(&mut ledger, one.token, nack(50));
    let due = Instant::now() + Duration::from_millis(50);
    assert!(matches!(ledger.next(Instant::now()), Offer::Nothing(Some(at)) if at == due));
    tokio::time::advance(Duration::from_millis(50)).await;
    let again = next(&mut ledger).unwrap();
    assert_eq!((again.offset, again.attempt), (Some(1), 2));
    assert!(!settle(&mut ledger, one.token, Outcome::Ack), "a late word on the first delivery");
    settle(&mut ledger, again.token, Outcome::Ack);
    assert_eq!(all(&mut ledger), [2]);
}

#[tokio::test(start_paused = true)]
async fn without_order_a_nacked_message_holds_nothing_up() {
    let mut ledger = ledger(Window::unordered(NonZeroUsize::MIN), &[1, 2]);
    let one = next(&mut ledger).unwrap().token;
    settle(&mut ledger, one, nack(50));
    let two = next(&mut ledger).unwrap();
    assert_eq!(two.offset, Some(2));
    settle(&mut ledger, two.token, Outcome::Ack);
    assert_eq!(ledger.positions(), [], "it holds the position");
}

#[tokio::test(start_paused = true)]
async fn partitions_take_turns_and_share_the_total() {
    let total = NonZeroUsize::new(3).unwrap();
    let mut ledger = ledger(window(2).with_total(total), &[0, 1, 2]);
    ledger.assign(7, 100);
    fill(&mut ledger, 7, &[100, 101]);
    let handed: Vec<_> = std::iter::from_fn(|| next(&mut ledger)).collect();
    let places: Vec<_> = handed.iter().map(|it| (it.partition.unwrap(), it.offset.unwrap())).collect();
    assert_eq!(places, [(7, 100), (0, 0), (7, 101)]);
    assert!(ledger.handled(handed[1].token));
    assert_eq!(all(&mut ledger), [0_i64; 0], "a handled one counts against the total");
}

#[tokio::test(start_paused = true)]
async fn what_is_read_ahead_is_bounded() {
    let mut ledger = ledger(window(1).with_total(NonZeroUsize::MIN), &[]);
    assert_eq!((ledger.room(0), ledger.room(1)), (10, 0));
    fill(&mut ledger, 0, &(0..10).collect::<Vec<_>>());
    assert!(!ledger.wants_more());
    let one = next(&mut ledger).unwrap().token;
    assert_eq!(ledger.room(0), 0, "from the oldest unsettled one on there are ten");
    settle(&mut ledger, one, Outcome::Ack);
    assert_eq!(ledger.room(0), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_is_ignored() {
    let mut ledger = ledger(window(9), &[4, 5]);
    fill(&mut ledger, 0, &[4, 5, 6]);
    assert_eq!(all(&mut ledger), [4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn the_word_of_an_earlier_assignment_does_not_count() {
    let mut ledger = ledger(window(1), &[0]);
    let old = next(&mut ledger).unwrap().token;
    let (receipt, mut wait) = Receipt::new();
    assert_eq!(ledger.revoke(0), [old]);
    ledger.settle(old, Outcome::Ack, Some(receipt), Instant::now());
    assert_eq!(wait.try_recv().unwrap().unwrap_err().kind(), SettleErrorKind::Lost);
    ledger.assign(0, 0);
    fill(&mut ledger, 0, &[0]);
    let new = next(&mut ledger).unwrap().token;
    assert_ne!(old, new);
    assert!(!settle(&mut ledger, old, Outcome::Ack));
    assert!(settle(&mut ledger, new, Outcome::Ack));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_message_holds_the_position_until_it_is_where_it_belongs() {
    let mut ledger = ledger(window(1), &[0]);
    let token = next(&mut ledger).unwrap().token;
    settle(&mut ledger, token, Outcome::Reject { reason: "no".to_owned() });
    assert!(ledger.unrecorded().awaited);
    let rejected = ledger.take_rejected(9).pop().unwrap();
    assert_eq!((rejected.token, rejected.reason.as_str()), (token, "no"));
    ledger.keep_rejected(rejected);
    assert_eq!(ledger.take_rejected(9).len(), 1, "what could not be moved is tried again");
    assert_eq!(ledger.positions(), []);
    ledger.rejected_done(token, Instant::now());
    assert_eq!(ledger.positions(), [(0, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_graceful_end_leaves_the_position_to_record() {
    let mut ledger = ledger(window(2), &[0, 1, 2]);
    let one = next(&mut ledger).unwrap().token;
    let two = next(&mut ledger).unwrap().token;
    settle(&mut ledger, one, Outcome::Ack);
    ledger.give_back(Instant::now());
    assert!(!settle(&mut ledger, two, Outcome::Ack), "too late");
    assert_eq!((ledger.positions(), ledger.outstanding(), ledger.tokens()), (vec![(0, 1)], 0, vec![]));
}
