//! What the ledger does, step by step.

#[cfg(feature = "sqlite")]
mod joining;

use std::num::NonZeroUsize;

use super::*;
use crate::{marshaler::Columns, stored::Store};

fn ledger(offsets: impl IntoIterator<Item = i64>) -> LogLedger {
    let mut ledger = empty();
    ledger.begin(0.into(), Progress::default(), None);
    fill(&mut ledger, offsets);
    ledger
}

fn empty() -> LogLedger {
    LogLedger::new(Limits {
        batch_size: 100,
        batch_bytes: 1_000,
        max_ahead: 1_000,
        dead_letters: true,
        tells_passed: false,
    })
}

fn next(ledger: &mut LogLedger, now: Instant) -> Option<Handed> {
    match ledger.next(now) {
        Offer::Handed(handed) => Some(handed),
        Offer::Nothing(_) => None,
    }
}

fn next_offset(ledger: &mut LogLedger, now: Instant) -> Option<i64> {
    next(ledger, now)?.offset
}

fn message() -> Stored {
    let columns = Columns { uuid: b"id", payload: b"", metadata: None };
    Store::default().keep(columns).unwrap()
}

fn fill(ledger: &mut LogLedger, offsets: impl IntoIterator<Item = i64>) {
    for offset in offsets {
        ledger.push(offset.into(), message(), None);
    }
}

fn window(size: usize) -> Window {
    Window::ordered(NonZeroUsize::new(size).unwrap())
}

fn ack(ledger: &mut LogLedger, handed: &Handed) {
    assert!(ledger.settle(handed.token, Outcome::Ack, None, Instant::now()));
}

fn nack(ledger: &mut LogLedger, handed: &Handed, delay: Duration, now: Instant) {
    assert!(ledger.settle(handed.token, Outcome::Nack { delay }, None, now));
}

#[test]
fn the_position_is_the_last_row_of_those_that_are_done_from_the_front_on() {
    let now = Instant::now();
    let mut ledger = ledger([3, 5, 6, 9]);
    ledger.set_window(window(4));
    let handed: Vec<_> = std::iter::from_fn(|| next(&mut ledger, now)).collect();
    ack(&mut ledger, &handed[2]);
    ack(&mut ledger, &handed[1]);
    let save = ledger.save();
    assert_eq!((save.position.offset, save.progress.as_deref()), (0, Some("[0,[[5,6]],[]]")));
    ledger.saved(save);
    ack(&mut ledger, &handed[0]);
    // The stored progress has become void and is removed.
    let save = ledger.save();
    assert_eq!((save.position.offset, save.progress.as_deref()), (6, Some("")));
    ledger.saved(save);
    ack(&mut ledger, &handed[3]);
    let save = ledger.save();
    assert_eq!((save.position.offset, save.progress), (9, None));
}

#[test]
fn a_nacked_row_comes_again_before_any_later_one() {
    let now = Instant::now();
    let mut ledger = ledger([1, 2, 3]);
    ledger.set_window(window(2));
    let one = next(&mut ledger, now).unwrap();
    let two = next(&mut ledger, now).unwrap();
    nack(&mut ledger, &one, Duration::from_secs(1), now);
    ack(&mut ledger, &two);
    let due = now + Duration::from_secs(1);
    assert!(matches!(ledger.next(now), Offer::Nothing(Some(at)) if at == due));
    let again = next(&mut ledger, now + Duration::from_secs(1)).unwrap();
    assert_eq!((again.offset, again.attempt, again.redelivered), (Some(1), 2, true));
    assert_eq!(next_offset(&mut ledger, now), Some(3));
}

#[test]
fn unordered_a_nacked_row_holds_nothing_up() {
    let now = Instant::now();
    let mut ledger = ledger([1, 2]);
    ledger.set_window(Window::unordered(NonZeroUsize::MIN));
    let one = next(&mut ledger, now).unwrap();
    nack(&mut ledger, &one, Duration::MAX, now);
    let two = next(&mut ledger, now).unwrap();
    assert_eq!(two.offset, Some(2));
    assert!(next(&mut ledger, now).is_none(), "the window is full");
    nack(&mut ledger, &two, Duration::ZERO, now);
    assert_eq!(next_offset(&mut ledger, now), Some(2));
}

#[test]
fn a_row_is_settled_once() {
    let mut ledger = ledger([1]);
    let one = next(&mut ledger, Instant::now()).unwrap();
    ack(&mut ledger, &one);
    assert!(!ledger.settle(one.token, Outcome::Ack, None, Instant::now()));
    assert_eq!(ledger.unrecorded().count, 1);
}

#[test]
fn what_was_handed_out_in_another_term_is_not_settled_in_this_one() {
    let now = Instant::now();
    let mut ledger = ledger([1, 2]);
    let old = next(&mut ledger, now).unwrap();
    ledger.begin(0.into(), Progress::default(), Some(1.into()));
    fill(&mut ledger, [1, 2]);
    let new = next(&mut ledger, now).unwrap();
    assert_eq!((new.offset, new.redelivered), (Some(1), true));
    assert!(!ledger.settle(old.token, Outcome::Ack, None, now));
    ack(&mut ledger, &new);
    assert!(!next(&mut ledger, now).unwrap().redelivered, "it came after the owner before had gone");
}

#[test]
fn what_the_owner_before_has_done_is_not_handed_out() {
    let now = Instant::now();
    let mut ledger = empty();
    let inherited =
        Progress { ahead: vec![(2.into(), 3.into()), (5.into(), 6.into())], attempts: vec![(4.into(), 7)] };
    ledger.begin(1.into(), inherited, None);
    fill(&mut ledger, [2, 3]);
    assert_eq!(ledger.save().position.offset, 3);
    fill(&mut ledger, [4, 5]);
    assert_eq!(ledger.fresh(), 2);
    let four = next(&mut ledger, now).unwrap();
    assert_eq!((four.offset, four.attempt), (Some(4), 8));
    assert!(next(&mut ledger, now).is_none());
    // What is not fetched yet is not forgotten.
    let save = ledger.save();
    assert_eq!(save.progress.as_deref(), Some("[3,[[5,5],[6,6]],[[4,8]]]"));
    ack(&mut ledger, &four);
    fill(&mut ledger, [6, 7]);
    ledger.set_window(window(9));
    assert_eq!(next_offset(&mut ledger, now), Some(7));
    assert_eq!(ledger.save().position.offset, 6);
}

#[test]
fn what_could_not_be_recorded_is_kept() {
    let now = Instant::now();
    let mut ledger = ledger([1, 2]);
    let one = next(&mut ledger, now).unwrap();
    ledger.settle(one.token, Outcome::Reject { reason: "no".to_owned() }, None, now);
    let save = ledger.save();
    assert_eq!((save.position.offset, save.rejected.len(), ledger.unrecorded().count), (1, 1, 0));
    ledger.keep(save, now);
    let two = next(&mut ledger, now).unwrap();
    ack(&mut ledger, &two);
    let save = ledger.save();
    assert_eq!((save.position.offset, save.rejected.len(), save.acks), (2, 1, 2));
    assert_eq!(save.rejected[0].kept().unwrap().reason, "no");
}

#[test]
fn an_unreadable_row_is_passed_in_its_place() {
    let now = Instant::now();
    let mut ledger = ledger([1]);
    ledger.push_dead(2.into(), Message::new(""), "why".to_owned(), now);
    fill(&mut ledger, [3]);
    let one = next(&mut ledger, now).unwrap();
    assert_eq!(ledger.save().position.offset, 0);
    ack(&mut ledger, &one);
    assert_eq!(ledger.save().position.offset, 2);
    assert_eq!(next_offset(&mut ledger, now), Some(3));
}

#[test]
fn given_back_rows_keep_their_attempts() {
    let now = Instant::now();
    let mut ledger = ledger([1, 2]);
    let one = next(&mut ledger, now).unwrap();
    ledger.give_back(now);
    assert!(!ledger.settle(one.token, Outcome::Ack, None, now), "too late");
    assert!(ledger.has_unsaved());
    assert_eq!(ledger.save().progress.as_deref(), Some("[0,[],[[1,1]]]"));
}

#[test]
fn a_nack_is_confirmed_once_its_attempt_is_recorded() {
    let now = Instant::now();
    let mut ledger = ledger([1]);
    let one = next(&mut ledger, now).unwrap();
    let (receipt, mut wait) = Receipt::new();
    ledger.settle(one.token, Outcome::Nack { delay: Duration::ZERO }, Some(receipt), now);
    assert!(wait.try_recv().is_err());
    assert!(ledger.unrecorded().awaited);
    let save = ledger.save();
    assert_eq!(save.progress.as_deref(), Some("[0,[],[[1,1]]]"));
    ledger.saved(save);
    assert_eq!(wait.try_recv().unwrap().ok(), Some(()));
}

#[test]
fn a_reader_that_has_read_to_the_end_knows_its_lag() {
    let now = Instant::now();
    let mut ledger = ledger([1, 2, 3]);
    assert_eq!(ledger.lag(), None);
    ledger.read_to_the_end = true;
    assert_eq!(ledger.lag(), Some(3));
    let one = next(&mut ledger, now).unwrap();
    ack(&mut ledger, &one);
    assert_eq!(ledger.lag(), Some(2));
}

#[test]
fn rows_that_are_large_are_not_fetched_ahead_beyond_the_bytes_that_may_wait() {
    let now = Instant::now();
    let mut ledger = ledger([]);
    let large = || {
        let columns = Columns { uuid: b"id", payload: &[7; 398], metadata: None };
        Store::default().keep(columns).unwrap()
    };
    for offset in 1..=2 {
        assert!(ledger.wants_more());
        ledger.push(offset.into(), large(), None);
    }
    assert!(ledger.wants_more(), "800 bytes wait");
    ledger.push(3.into(), large(), None);
    assert!(!ledger.wants_more(), "1,200 bytes wait");
    let handed = next(&mut ledger, now).unwrap();
    assert!(ledger.wants_more(), "what is handed out does not wait");
    nack(&mut ledger, &handed, Duration::ZERO, now);
    assert!(ledger.wants_more());
    ledger.lose(SettleError::lost);
    ledger.push(4.into(), large(), None);
    assert!(ledger.wants_more());
}

#[test]
fn fetches_grow_while_the_stream_waits_for_full_ones_and_shrink_at_the_end() {
    let now = Instant::now();
    let mut ledger = ledger([]);
    ledger.set_window(window(1_000));
    let mut from = 0;
    for expected in [100, 200, 400, 500, 500] {
        assert_eq!(ledger.rows_to_fetch(), expected);
        while next(&mut ledger, now).is_some() {}
        fill(&mut ledger, from + 1..=from + 10);
        from += 10;
        ledger.fetched(true);
    }
    // Nobody waits.
    ledger.fetched(true);
    assert_eq!(ledger.rows_to_fetch(), 500);
    assert!(ledger.wants_more(), "a batch while another is handled");
    // No more than may be in memory, or one batch.
    fill(&mut ledger, from + 1..=from + 580);
    assert_eq!(ledger.rows_to_fetch(), 470);
    ledger.fetched(false);
    assert_eq!(ledger.rows_to_fetch(), 100);
}
