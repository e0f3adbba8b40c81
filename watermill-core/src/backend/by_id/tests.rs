use std::num::NonZeroUsize;

use futures::FutureExt as _;
use tokio::sync::oneshot;

use super::*;
use crate::{Message, delivery::Receipt, error::SettleErrorKind};

fn window(per_scope: usize) -> Window {
    Window::ordered(NonZeroUsize::new(per_scope).unwrap())
}

fn unordered(per_scope: usize) -> Window {
    Window::unordered(NonZeroUsize::new(per_scope).unwrap())
}

/// A ledger with messages of these ids and scopes.
fn ledger(nacks: Nacks, window: Window, messages: &[(u32, u64)]) -> ById<u32> {
    let mut ledger = ById::new(nacks);
    ledger.set_window(window);
    for (id, scope) in messages {
        ledger.push(Incoming::new(*id, Message::new(id.to_string())).scope(*scope), Instant::now());
    }
    ledger
}

fn next(ledger: &mut ById<u32>) -> Option<(String, Token)> {
    match ledger.next(Instant::now()) {
        Offer::Handed(handed) => {
            Some((String::from_utf8_lossy(handed.message.payload()).into_owned(), handed.token))
        }
        Offer::Nothing(_) => None,
    }
}

/// Everything that is handed out without anything being settled.
fn all(ledger: &mut ById<u32>) -> Vec<String> {
    std::iter::from_fn(|| next(ledger)).map(|(id, _)| id).collect()
}

fn settle(ledger: &mut ById<u32>, token: Token, outcome: Outcome) -> bool {
    ledger.settle(token, outcome, None, Instant::now())
}

fn nack(delay_ms: u64) -> Outcome {
    Outcome::Nack { delay: Duration::from_millis(delay_ms) }
}

fn receipt() -> (Receipt, oneshot::Receiver<Result<(), SettleError>>) {
    Receipt::new()
}

fn told(ledger: &mut ById<u32>) -> Vec<(u32, bool)> {
    ledger.take_settled(usize::MAX).into_iter().map(|settled| (settled.id, settled.tried)).collect()
}

#[tokio::test(start_paused = true)]
async fn by_the_window_a_nacked_message_stays_while_order_counts_and_else_goes_to_the_server() {
    let mut ledger = ledger(Nacks::ByWindow, window(1), &[(1, 0), (2, 0)]);
    let (first, token) = next(&mut ledger).unwrap();
    assert!(settle(&mut ledger, token, nack(0)));
    assert_eq!((first.as_str(), told(&mut ledger)), ("1", vec![]));
    ledger.set_window(unordered(1));
    let (again, token) = next(&mut ledger).unwrap();
    assert!(settle(&mut ledger, token, nack(0)));
    // What is behind it is not given back with it.
    assert_eq!((again.as_str(), told(&mut ledger)), ("1", vec![(1, true)]));
    assert_eq!(all(&mut ledger), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn scopes_are_independent_and_take_turns() {
    let messages = [(1, 7), (2, 7), (3, 8), (4, 9)];
    let mut ledger = ledger(Nacks::ToServer, window(1), &messages);
    let handed: Vec<_> = std::iter::from_fn(|| next(&mut ledger)).collect();
    assert_eq!(handed.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["1", "3", "4"]);
    assert!(settle(&mut ledger, handed[0].1, Outcome::Ack));
    assert_eq!(all(&mut ledger), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn the_total_holds_over_all_scopes() {
    let total = NonZeroUsize::new(2).unwrap();
    let mut ledger = ledger(Nacks::ToServer, window(1).with_total(total), &[(1, 1), (2, 2), (3, 3)]).scoped();
    assert_eq!(all(&mut ledger), ["1", "2"]);
    let tokens = ledger.tokens();
    assert!(ledger.handled(tokens[0]));
    assert_eq!(all(&mut ledger), [""; 0], "a handled one counts against the total");
    settle(&mut ledger, tokens[0], Outcome::Ack);
    assert_eq!(all(&mut ledger), ["3"]);
}

#[tokio::test(start_paused = true)]
async fn a_handled_delivery_makes_room_in_its_scope() {
    let mut ledger = ledger(Nacks::ToServer, window(1), &[(1, 0), (2, 0)]);
    let (_, token) = next(&mut ledger).unwrap();
    assert!(next(&mut ledger).is_none());
    assert!(ledger.handled(token));
    assert!(!ledger.handled(token), "once is enough");
    assert_eq!(all(&mut ledger), ["2"]);
    assert_eq!(ledger.outstanding(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_fetched_ahead_is_bounded_by_the_window() {
    let mut ledger = ledger(Nacks::ToServer, unordered(3), &[]).ahead(2);
    assert_eq!(ledger.room(), 5);
    for id in 0..5 {
        ledger.push(Incoming::new(id, Message::new("x")), Instant::now());
    }
    assert!(!ledger.wants_more());
    assert_eq!(all(&mut ledger).len(), 3);
    assert_eq!(ledger.room(), 0);
    let token = ledger.tokens()[0];
    settle(&mut ledger, token, Outcome::Ack);
    assert_eq!(ledger.room(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_nack_for_the_server_takes_what_is_fresh_in_its_ordered_scope_along() {
    let mut ledger = ledger(Nacks::ToServer, window(1), &[(1, 7), (2, 7), (3, 8), (4, 7)]);
    let (_, token) = next(&mut ledger).unwrap();
    settle(&mut ledger, token, nack(0));
    assert_eq!(told(&mut ledger), [(1, true), (2, false), (4, false)]);
    assert_eq!(all(&mut ledger), ["3"]);
}

#[tokio::test(start_paused = true)]
async fn a_nack_for_the_server_leaves_the_others_alone_without_order() {
    let mut ledger = ledger(Nacks::ToServer, unordered(1), &[(1, 0), (2, 0)]);
    let (_, token) = next(&mut ledger).unwrap();
    settle(&mut ledger, token, nack(0));
    assert_eq!(told(&mut ledger), [(1, true)]);
    assert_eq!(all(&mut ledger), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_nack_where_nobody_remembers_is_the_end_of_its_message_alone() {
    let mut ledger = ledger(Nacks::Forgotten, window(2), &[(1, 7), (2, 7), (3, 7)]);
    let (_, token) = next(&mut ledger).unwrap();
    settle(&mut ledger, token, nack(100));
    assert_eq!(told(&mut ledger), [(1, true)]);
    assert_eq!(all(&mut ledger), ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_nack_that_is_kept_holds_up_its_scope_until_it_is_due() {
    let mut ledger = ledger(Nacks::KeptHere, window(2), &[(1, 7), (2, 7), (3, 8)]);
    let (_, token) = next(&mut ledger).unwrap();
    settle(&mut ledger, token, nack(100));
    assert_eq!(all(&mut ledger), ["3"]);
    let due = Instant::now() + Duration::from_millis(100);
    assert!(matches!(ledger.next(Instant::now()), Offer::Nothing(Some(at)) if at == due));
    tokio::time::advance(Duration::from_millis(100)).await;
    let Offer::Handed(again) = ledger.next(Instant::now()) else { panic!("it is due") };
    assert_eq!((again.message.payload().as_ref(), again.attempt, again.token.delivery), (&b"1"[..], 2, 2));
    assert_eq!(all(&mut ledger), ["2"]);
    assert!(!settle(&mut ledger, token, Outcome::Ack), "a late word on the first delivery");
}

#[tokio::test(start_paused = true)]
async fn a_nack_that_is_kept_holds_nothing_up_without_order() {
    let mut ledger = ledger(Nacks::KeptHere, unordered(1), &[(1, 0), (2, 0)]);
    let (_, token) = next(&mut ledger).unwrap();
    settle(&mut ledger, token, nack(100));
    let (id, token) = next(&mut ledger).unwrap();
    assert_eq!(id, "2");
    settle(&mut ledger, token, nack(0));
    assert_eq!(next(&mut ledger).unwrap().0, "2");
    tokio::time::advance(Duration::from_millis(100)).await;
    assert!(next(&mut ledger).is_none(), "the window is full");
}

#[tokio::test(start_paused = true)]
async fn what_was_delayed_keeps_its_place_when_the_window_becomes_ordered() {
    let mut ledger = ledger(Nacks::KeptHere, unordered(1), &[(1, 0), (2, 0), (3, 0)]);
    let (_, token) = next(&mut ledger).unwrap();
    settle(&mut ledger, token, nack(100));
    ledger.set_window(window(9));
    assert!(next(&mut ledger).is_none());
    tokio::time::advance(Duration::from_millis(100)).await;
    assert_eq!(all(&mut ledger), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_waits_for_the_record() {
    let mut ledger = ledger(Nacks::ToServer, unordered(9), &[(1, 0), (2, 0), (3, 0)]);
    all(&mut ledger);
    let mut tokens = ledger.tokens();
    tokens.sort_unstable();
    let mut waits = Vec::new();
    for (token, outcome) in tokens.into_iter().zip([Outcome::Ack, nack(5), Outcome::Ack]) {
        let (receipt, wait) = receipt();
        ledger.settle(token, outcome, Some(receipt), Instant::now());
        waits.push(wait);
    }
    assert_eq!(ledger.unrecorded().count, 3);
    assert!(ledger.unrecorded().awaited);

    let kept = ledger.take_settled(2);
    ledger.keep_settled(kept, Instant::now());
    assert_eq!(ledger.unrecorded().count, 3, "what could not be told is told again, before the others");
    let mut settled = ledger.take_settled(3).into_iter();
    settled.next().unwrap().recorded();
    settled.next().unwrap().lost();
    settled.next().unwrap().failed(SettleError::failed("no"));
    let results: Vec<_> = waits.into_iter().map(|wait| wait.now_or_never().unwrap().unwrap()).collect();
    assert!(results[0].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().kind(), SettleErrorKind::Lost);
    assert_eq!(results[2].as_ref().unwrap_err().kind(), SettleErrorKind::Failed);
    assert_eq!(ledger.unrecorded(), Unrecorded::default());
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_is_named_and_forgotten_and_its_receipts_fail() {
    let mut ledger = ledger(Nacks::ToServer, unordered(2), &[(1, 0), (2, 0), (3, 0), (4, 0)]);
    let (_, first) = next(&mut ledger).unwrap();
    let (_, second) = next(&mut ledger).unwrap();
    let (receipt, wait) = receipt();
    ledger.settle(first, Outcome::Ack, Some(receipt), Instant::now());
    assert_eq!(ledger.lose_where(|id| *id != 4), [second]);
    assert_eq!(wait.now_or_never().unwrap().unwrap().unwrap_err().kind(), SettleErrorKind::Lost);
    assert!(!settle(&mut ledger, second, Outcome::Ack));
    assert_eq!(all(&mut ledger), ["4"]);
    assert_eq!((ledger.len(), ledger.outstanding()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn giving_back_says_what_was_tried_and_what_is_left_of_a_delay() {
    let mut ledger = ledger(Nacks::KeptHere, unordered(2), &[(1, 0), (2, 0), (3, 0)]);
    let (_, token) = next(&mut ledger).unwrap();
    next(&mut ledger).unwrap();
    settle(&mut ledger, token, nack(100));
    tokio::time::advance(Duration::from_millis(40)).await;
    ledger.give_back(Instant::now());
    let settled = ledger.take_settled(9);
    let given: Vec<_> = settled.iter().map(|it| (it.id, it.tried, it.outcome.clone())).collect();
    assert_eq!(given, [(1, true, nack(60)), (2, true, nack(0)), (3, false, nack(0))]);
    assert!(ledger.is_empty() && ledger.tokens().is_empty() && next(&mut ledger).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_fresh_is_given_back_in_order_while_others_are_out() {
    let mut ledger = ledger(Nacks::ToServer, window(1), &[(1, 7), (2, 7), (3, 8), (4, 7)]);
    let (_, out) = next(&mut ledger).unwrap();
    ledger.give_back_fresh(Instant::now());
    assert_eq!(told(&mut ledger), [(2, false), (3, false), (4, false)]);
    assert_eq!((ledger.len(), ledger.outstanding()), (1, 1));
    assert!(settle(&mut ledger, out, Outcome::Ack));
    assert_eq!(told(&mut ledger), [(1, true)]);
    assert!(ledger.is_empty() && next(&mut ledger).is_none());
}

#[test]
fn a_key_is_always_the_same_scope() {
    assert_eq!(key_scope("a"), key_scope("a"));
    assert_ne!(key_scope("a"), key_scope("b"));
}
