//! Each way to break a promise is found, and nothing is found where none was broken.

use super::*;
use crate::{fault::Fault, records::Event};

const PROMISE: Promise = Promise { repeats_max: Some(10), stall_max: 1_000, has_dead_letters: true };
const ONCE: Promise = Promise { repeats_max: None, ..PROMISE };

/// Messages of two keys, committed a second after one another, with a fault in their midst.
fn sound() -> Evidence {
    let mut evidence = Evidence { until: 20_000, ..Evidence::default() };
    for number in 0..10 {
        let (id, key, version) = (format!("m{number}"), number % 2, number / 2 + 1);
        let event = Event { id: id.clone(), key, version };
        evidence.rows.push(Row { id: id.clone(), key, version, is_refused: false });
        evidence.committed.insert(id.clone(), 1_000 * number);
        evidence.seen.insert(id, 1_000 * number + 100);
        evidence.arrived.push(Arrived { event, at: 1_000 * number + 90 });
    }
    evidence.rolled_back.insert("never".to_owned());
    evidence.made.push(Made { fault: Fault::KillOneRelay, from: 5_500, to: 5_600 });
    evidence
}

fn found(evidence: &Evidence, promise: Promise) -> Vec<(What, usize)> {
    check(evidence, promise).into_iter().map(|finding| (finding.what, finding.count)).collect()
}

/// What came again, at some time.
fn again(evidence: &mut Evidence, number: usize, at: Moment) {
    let event = evidence.arrived[number].event.clone();
    evidence.arrived.push(Arrived { event, at });
}

#[test]
fn nothing_is_found_where_everything_was_kept() {
    assert_eq!(check(&sound(), PROMISE), []);
    assert_eq!(check(&sound(), ONCE), []);
}

#[test]
fn a_committed_message_that_never_came_is_lost() {
    let mut evidence = sound();
    evidence.arrived.remove(3);
    let findings = check(&evidence, PROMISE);
    assert_eq!((findings[0].what, findings[0].count), (What::Lost, 1));
    assert_eq!(findings[0].example, "m3, version 2 of key 1");
}

#[test]
fn one_that_is_among_the_dead_letters_is_lost_too_and_was_set_aside_for_nothing() {
    let mut evidence = sound();
    evidence.arrived.remove(3);
    evidence.dead.insert("m3".to_owned());
    assert_eq!(found(&evidence, PROMISE), [(What::Lost, 1), (What::SetAsideForNothing, 1)]);
    assert!(check(&evidence, PROMISE)[0].example.ends_with("among the dead letters"));
}

#[test]
fn a_message_of_a_transaction_that_was_rolled_back_is_invented() {
    let mut evidence = sound();
    let event = Event { id: "never".to_owned(), key: 0, version: 99 };
    evidence.arrived.push(Arrived { event, at: 9_500 });
    let findings = check(&evidence, PROMISE);
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].what, &*findings[0].example), (What::Invented, "never was rolled back"));
}

#[test]
fn a_message_with_the_content_of_another_is_changed() {
    let mut evidence = sound();
    evidence.arrived[9].event.version = 77;
    assert_eq!(found(&evidence, PROMISE), [(What::Changed, 1)]);
}

#[test]
fn a_key_whose_messages_first_come_in_another_order_is_out_of_order() {
    let mut evidence = sound();
    evidence.arrived.swap(2, 4);
    let findings = check(&evidence, PROMISE);
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].what, &*findings[0].example), (What::Reordered, "key 0: version 2 came after 3"));
}

#[test]
fn two_keys_may_come_in_any_order() {
    let mut evidence = sound();
    evidence.arrived.swap(2, 3);
    assert_eq!(check(&evidence, PROMISE), []);
}

#[test]
fn what_comes_again_is_no_change_of_the_order() {
    let mut evidence = sound();
    again(&mut evidence, 0, 5_700);
    assert_eq!(found(&evidence, PROMISE), []);
}

#[test]
fn repeats_are_promised_after_a_fault_up_to_a_number() {
    let mut evidence = sound();
    (0..10).for_each(|_| again(&mut evidence, 0, 5_700));
    assert_eq!(found(&evidence, PROMISE), []);
    again(&mut evidence, 0, 5_700);
    assert_eq!(found(&evidence, PROMISE), [(What::Repeated, 1)]);
    assert_eq!(repeats_by_fault(&evidence.arrived, &evidence.made), [0, 11]);
}

#[test]
fn without_a_fault_nothing_is_repeated() {
    let mut evidence = sound();
    again(&mut evidence, 0, 3_000);
    assert_eq!(found(&evidence, PROMISE), [(What::Repeated, 1)]);
}

#[test]
fn where_nothing_may_come_twice_a_single_repeat_is_found() {
    let mut evidence = sound();
    again(&mut evidence, 0, 5_700);
    assert_eq!(found(&evidence, ONCE), [(What::Repeated, 1)]);
}

#[test]
fn a_message_that_waits_while_nothing_is_broken_is_stalled() {
    let mut evidence = sound();
    evidence.seen.insert("m8".to_owned(), 9_001);
    let findings = check(&evidence, PROMISE);
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].what, &*findings[0].example), (What::Stalled, "1.0 s after relay killed"));
}

#[test]
fn one_that_never_comes_has_waited_until_the_end() {
    let mut evidence = sound();
    evidence.seen.remove("m9");
    assert_eq!(stalls(&evidence), [100, 11_000]);
}

#[test]
fn a_wait_is_not_counted_while_something_is_broken() {
    let mut evidence = sound();
    // It was committed 500 ms before, and seen 900 ms after an outage of ten seconds.
    evidence.made[0].to = 15_500;
    for number in 5..10 {
        evidence.seen.insert(format!("m{number}"), 16_400);
    }
    assert_eq!(stalls(&evidence), [500, 900]);
    assert_eq!(found(&evidence, PROMISE), []);
    // And where it waits before one, that counts.
    evidence.committed.insert("m5".to_owned(), 4_000);
    assert_eq!(found(&evidence, PROMISE), [(What::Stalled, 1)]);
}

#[test]
fn what_the_broker_refuses_is_found_among_the_dead_letters() {
    let mut evidence = sound();
    evidence.rows[9].is_refused = true;
    evidence.arrived.remove(9);
    evidence.seen.remove("m9");
    assert_eq!(found(&evidence, PROMISE), [(What::NotSetAside, 1)]);
    assert_eq!(found(&evidence, Promise { has_dead_letters: false, ..PROMISE }), []);
    evidence.dead.insert("m9".to_owned());
    assert_eq!(found(&evidence, PROMISE), []);
}

#[test]
fn a_database_that_does_not_keep_what_it_has_acknowledged_is_found() {
    let mut evidence = sound();
    evidence.committed.insert("gone".to_owned(), 1);
    assert_eq!(found(&evidence, PROMISE), [(What::DatabaseForgot, 1)]);
    evidence.rolled_back.insert("m0".to_owned());
    assert_eq!(found(&evidence, PROMISE), [(What::DatabaseForgot, 2)]);
}

#[test]
fn a_process_that_misbehaves_is_told() {
    let evidence = Evidence { misbehaved: vec!["it ended".to_owned()], ..sound() };
    assert_eq!(found(&evidence, PROMISE), [(What::Misbehaved, 1)]);
    let evidence = Evidence { ended_by_themselves: vec!["with 1".to_owned()], ..sound() };
    assert_eq!(found(&evidence, PROMISE), [(What::EndedByThemselves, 1)]);
}
