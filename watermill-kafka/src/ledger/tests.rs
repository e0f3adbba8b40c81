use std::num::NonZeroUsize;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn window(size: usize) -> Window {
    Window::ordered(NonZeroUsize::new(size).unwrap())
}

/// With these offsets handed out.
fn ledger(offsets: &[i64]) -> Ledger {
    let mut ledger = Ledger::default();
    for offset in offsets {
        assert_eq!(ledger.hand_out(*offset, None, &Message::with_id(offset.to_string(), "")), Some(1));
    }
    ledger
}

fn offer(ledger: &mut Ledger, window: Window, now: Instant) -> Offer {
    ledger.offer(window, 100, || now)
}

#[test]
fn the_watermark_follows_what_is_done_from_the_front_over_gaps() {
    let mut ledger = ledger(&[3, 4, 7, 9]);
    ledger.ack(4, None);
    ledger.ack(7, None);
    assert_eq!(ledger.uncommitted(), None);
    ledger.ack(3, None);
    assert_eq!(ledger.uncommitted(), Some(8));
    ledger.committed(8);
    assert_eq!(ledger.uncommitted(), None);
    ledger.ack(9, None);
    assert_eq!((ledger.uncommitted(), ledger.outstanding()), (Some(10), 0));
}

#[test]
fn only_what_is_out_can_be_settled() {
    let now = Instant::now();
    let mut ledger = ledger(&[0, 1]);
    ledger.ack(1, None);
    ledger.nack(1, Duration::ZERO, now, None);
    ledger.ack(5, None);
    ledger.dead_lettered(0);
    assert!(ledger.reject(1, None).is_none());
    assert_eq!((ledger.watermark(), ledger.outstanding()), (None, 1));
}

#[test]
fn a_nacked_record_is_offered_again_before_a_fresh_one_when_it_is_due() {
    let now = Instant::now();
    let mut ledger = ledger(&[0, 1]);
    ledger.nack(1, Duration::ZERO, now, None);
    ledger.nack(0, SECOND, now, None);
    assert!(matches!(offer(&mut ledger, window(2), now), Offer::Nothing(Some(due)) if due == now + SECOND));
    let Offer::Redelivery(again) = offer(&mut ledger, window(2), now + SECOND) else { panic!("it is due") };
    assert_eq!((again.offset, again.attempt), (0, 2));
    let Offer::Redelivery(again) = offer(&mut ledger, window(2), now + SECOND) else { panic!("it is due") };
    assert_eq!((again.offset, again.attempt), (1, 2));
    assert!(matches!(offer(&mut ledger, window(2), now), Offer::Nothing(None)), "the window is full");
}

#[test]
fn in_an_unordered_window_others_pass_a_nacked_record_up_to_the_bound() {
    let now = Instant::now();
    let unordered = Window::unordered(NonZeroUsize::MIN);
    let mut ledger = ledger(&[0]);
    ledger.nack(0, SECOND, now, None);
    assert!(matches!(offer(&mut ledger, unordered, now), Offer::Fresh));
    assert!(matches!(ledger.offer(unordered, 1, || now), Offer::Nothing(Some(_))), "one is the bound");
    assert_eq!(ledger.due(), Some(now + SECOND));
}

#[test]
fn a_rejected_record_holds_the_watermark_until_its_dead_letter_has_arrived() {
    let mut ledger = ledger(&[0, 1]);
    let rejected = ledger.reject(0, None).unwrap();
    assert_eq!((rejected.message.id().as_str(), rejected.attempts), ("0", 1));
    ledger.ack(1, None);
    assert_eq!((ledger.watermark(), ledger.rejected()), (None, 1));
    ledger.dead_lettered(0);
    assert_eq!((ledger.watermark(), ledger.rejected()), (Some(2), 0));
}

#[test]
fn a_record_before_those_that_were_read_is_for_another_ledger() {
    let mut ledger = ledger(&[0, 1]);
    assert_eq!(ledger.hand_out(1, None, &Message::default()), None);
    ledger.ack(0, None);
    ledger.ack(1, None);
    assert_eq!((ledger.expects(), ledger.hand_out(1, None, &Message::default())), (Some(2), None));
    assert_eq!(ledger.hand_out(2, None, &Message::default()), Some(1));
}

#[test]
fn a_record_is_enlisted_when_those_before_it_are_done_or_enlisted() {
    let mut ledger = ledger(&[3, 5, 6, 9]);
    assert_eq!(ledger.enlist(5), Enlistment::Early);
    ledger.ack(3, None);
    assert_eq!(ledger.enlist(5), Enlistment::Made);
    assert_eq!(ledger.enlist(9), Enlistment::Early, "6 is not done");
    assert_eq!(ledger.enlist(6), Enlistment::Made);
    assert_eq!(ledger.enlist(9), Enlistment::Made);
    assert_eq!(ledger.enlist(4), Enlistment::Lost);
    ledger.withdraw_enlisted(6);
    assert_eq!(ledger.enlisted_state(), EnlistedState::NotYet);
    ledger.ack(5, None);
    ledger.ack(9, None);
    assert_eq!((ledger.enlisted_state(), ledger.watermark()), (EnlistedState::Yes, Some(6)));
    ledger.ack(6, None);
    assert_eq!(ledger.watermark(), Some(10));
}

#[test]
fn behind_a_nacked_record_nothing_can_be_enlisted_and_comes_again_with_it() {
    let now = Instant::now();
    let mut ledger = ledger(&[0, 1, 2]);
    ledger.nack(1, SECOND, now, None);
    assert_eq!(ledger.enlist(2), Enlistment::Behind);
    assert_eq!(ledger.enlist(2), Enlistment::Lost, "whoever has it may not go on with it");
    ledger.ack(2, None);
    assert_eq!(ledger.outstanding(), 1);
    assert_eq!(ledger.enlist(0), Enlistment::Made);
    ledger.ack(0, None);
    assert_eq!(ledger.watermark(), Some(1));

    let again = |offer| match offer {
        Offer::Redelivery(Handed { offset, attempt, .. }) => (offset, attempt),
        other => panic!("{other:?}"),
    };
    assert!(matches!(offer(&mut ledger, window(9), now), Offer::Nothing(Some(_))));
    assert_eq!(again(offer(&mut ledger, window(9), now + SECOND)), (1, 2));
    assert_eq!(again(offer(&mut ledger, window(9), now + SECOND)), (2, 1), "its attempt did not count");
}

#[test]
fn an_enlisted_record_that_is_not_done_after_all_aborts_the_transaction() {
    let mut nacked = ledger(&[0]);
    nacked.enlist(0);
    nacked.nack(0, Duration::ZERO, Instant::now(), None);
    assert_eq!(nacked.enlisted_state(), EnlistedState::No);
    assert!(
        matches!(offer(&mut nacked, window(9), Instant::now()), Offer::Nothing(None)),
        "it is read again"
    );
    let mut rejected = ledger(&[0]);
    rejected.enlist(0);
    rejected.reject(0, None);
    assert_eq!(rejected.enlisted_state(), EnlistedState::No);
}

#[test]
fn a_partition_that_is_read_again_goes_on_counting_attempts() {
    let mut ledger = ledger(&[7, 8, 9]);
    ledger.ack(7, None);
    let Reread { start, end, ledger: mut again } = ledger.reread();
    assert_eq!((start, end), (Some(7), Some(10)), "nothing is committed");
    assert_eq!(again.hand_out(7, None, &Message::default()), Some(1), "it was done, and not for nothing");
    assert_eq!(again.hand_out(8, None, &Message::default()), Some(2));
    let mut again = again.reread().ledger;
    assert_eq!(again.hand_out(8, None, &Message::default()), Some(3));
    assert_eq!(again.hand_out(9, None, &Message::default()), Some(2));
}

#[test]
fn a_log_that_begins_anew_has_its_beginning_committed_before_anything_of_it_is_done() {
    let mut ledger = Ledger::beginning(3);
    assert_eq!(ledger.uncommitted(), Some(3), "whoever reads it next begins there");
    assert_eq!(ledger.hand_out(2, None, &Message::default()), None, "it has gone back again");
    assert_eq!(ledger.hand_out(3, None, &Message::default()), Some(1));
    ledger.committed(3);
    assert_eq!(ledger.uncommitted(), None);
}
