//! What the ledger does, step by step.

use std::num::NonZeroUsize;

use super::*;
use crate::{marshaler::Columns, stored::Store};

fn ledger(offsets: impl IntoIterator<Item = i64>) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.begin(0.into(), Progress::default(), None);
    fill(&mut ledger, offsets);
    ledger
}

fn message() -> Stored {
    let columns = Columns { uuid: b"id", payload: b"", metadata: None };
    Store::default().keep(columns).unwrap()
}

fn fill(ledger: &mut Ledger, offsets: impl IntoIterator<Item = i64>) {
    for offset in offsets {
        ledger.push(offset.into(), message(), None);
    }
}

fn window(size: usize) -> Window {
    Window::ordered(NonZeroUsize::new(size).unwrap())
}

fn ack(ledger: &mut Ledger, handed: &Handed) {
    assert!(ledger.settle(handed.token(), Outcome::Ack, None, false, Instant::now()));
}

fn nack(ledger: &mut Ledger, handed: &Handed, delay: Duration, now: Instant) {
    assert!(ledger.settle(handed.token(), Outcome::Nack { delay }, None, false, now));
}

#[test]
fn the_position_is_the_last_row_of_those_that_are_done_from_the_front_on() {
    let now = Instant::now();
    let mut ledger = ledger([3, 5, 6, 9]);
    ledger.set_window(window(4));
    let handed: Vec<_> = std::iter::from_fn(|| ledger.next(now)).collect();
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
    let one = ledger.next(now).unwrap();
    let two = ledger.next(now).unwrap();
    nack(&mut ledger, &one, Duration::from_secs(1), now);
    ack(&mut ledger, &two);
    assert!(ledger.next(now).is_none());
    assert_eq!(ledger.due(), Some(now + Duration::from_secs(1)));
    let again = ledger.next(now + Duration::from_secs(1)).unwrap();
    assert_eq!((again.offset, again.attempt, again.redelivered), (1, 2, true));
    assert_eq!(ledger.next(now).unwrap().offset, 3);
}

#[test]
fn unordered_a_nacked_row_holds_nothing_up() {
    let now = Instant::now();
    let mut ledger = ledger([1, 2]);
    ledger.set_window(Window::unordered(NonZeroUsize::MIN));
    let one = ledger.next(now).unwrap();
    nack(&mut ledger, &one, Duration::MAX, now);
    let two = ledger.next(now).unwrap();
    assert_eq!(two.offset, 2);
    assert!(ledger.next(now).is_none(), "the window is full");
    nack(&mut ledger, &two, Duration::ZERO, now);
    assert_eq!(ledger.next(now).unwrap().offset, 2);
}

#[test]
fn a_row_is_settled_once() {
    let mut ledger = ledger([1]);
    let one = ledger.next(Instant::now()).unwrap();
    ack(&mut ledger, &one);
    assert!(!ledger.settle(one.token(), Outcome::Ack, None, false, Instant::now()));
    assert_eq!(ledger.unsaved().0, 1);
}

#[test]
fn what_was_handed_out_in_another_term_is_not_settled_in_this_one() {
    let now = Instant::now();
    let mut ledger = ledger([1, 2]);
    let old = ledger.next(now).unwrap();
    ledger.begin(0.into(), Progress::default(), Some(1.into()));
    fill(&mut ledger, [1, 2]);
    let new = ledger.next(now).unwrap();
    assert_eq!((new.offset, new.redelivered), (1, true));
    assert!(!ledger.settle(old.token(), Outcome::Ack, None, false, now));
    ack(&mut ledger, &new);
    assert!(!ledger.next(now).unwrap().redelivered, "it came after the owner before had gone");
}

#[test]
fn what_the_owner_before_has_done_is_not_handed_out() {
    let now = Instant::now();
    let mut ledger = Ledger::default();
    let inherited =
        Progress { ahead: vec![(2.into(), 3.into()), (5.into(), 6.into())], attempts: vec![(4.into(), 7)] };
    ledger.begin(1.into(), inherited, None);
    fill(&mut ledger, [2, 3]);
    assert_eq!(ledger.save().position.offset, 3);
    fill(&mut ledger, [4, 5]);
    assert_eq!(ledger.fresh(), 2);
    let four = ledger.next(now).unwrap();
    assert_eq!((four.offset, four.attempt), (4, 8));
    assert!(ledger.next(now).is_none());
    // What is not fetched yet is not forgotten.
    let save = ledger.save();
    assert_eq!(save.progress.as_deref(), Some("[3,[[5,5],[6,6]],[[4,8]]]"));
    ack(&mut ledger, &four);
    fill(&mut ledger, [6, 7]);
    ledger.set_window(window(9));
    assert_eq!(ledger.next(now).unwrap().offset, 7);
    assert_eq!(ledger.save().position.offset, 6);
}

#[test]
fn what_could_not_be_recorded_is_kept() {
    let now = Instant::now();
    let mut ledger = ledger([1, 2]);
    let one = ledger.next(now).unwrap();
    ledger.settle(one.token(), Outcome::Reject { reason: "no".to_owned() }, None, true, now);
    let save = ledger.save();
    assert_eq!((save.position.offset, save.dead.len(), ledger.unsaved().0), (1, 1, 0));
    ledger.keep(save, now);
    let two = ledger.next(now).unwrap();
    ack(&mut ledger, &two);
    let save = ledger.save();
    assert_eq!((save.position.offset, save.dead.len(), save.acks), (2, 1, 2));
    assert_eq!(save.dead[0].reason, "no");
}

#[test]
fn an_unreadable_row_is_passed_in_its_place() {
    let now = Instant::now();
    let mut ledger = ledger([1]);
    ledger.push_dead(2.into(), Message::new(""), "why".to_owned(), now);
    fill(&mut ledger, [3]);
    let one = ledger.next(now).unwrap();
    assert_eq!(ledger.save().position.offset, 0);
    ack(&mut ledger, &one);
    assert_eq!(ledger.save().position.offset, 2);
    assert_eq!(ledger.next(now).unwrap().offset, 3);
}

#[test]
fn given_back_rows_keep_their_attempts() {
    let now = Instant::now();
    let mut ledger = ledger([1, 2]);
    let one = ledger.next(now).unwrap();
    ledger.give_back(now);
    assert!(!ledger.settle(one.token(), Outcome::Ack, None, false, now), "too late");
    assert!(ledger.has_unsaved());
    assert_eq!(ledger.save().progress.as_deref(), Some("[0,[],[[1,1]]]"));
}
