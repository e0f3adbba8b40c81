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
        assert!(ledger.hand_out(*offset, None, &Message::with_id(offset.to_string(), "")));
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
    ledger.bury(0);
    assert!(ledger.condemn(1, None).is_none());
    assert_eq!((ledger.watermark(), ledger.outstanding()), (None, 1));
}

#[test]
fn a_nacked_record_is_offered_again_before_a_fresh_one_when_it_is_due() {
    let now = Instant::now();
    let mut ledger = ledger(&[0, 1]);
    ledger.nack(1, Duration::ZERO, now, None);
    ledger.nack(0, SECOND, now, None);
    assert!(matches!(offer(&mut ledger, window(2), now), Offer::Nothing(Some(due)) if due == now + SECOND));
    let Offer::Again(again) = offer(&mut ledger, window(2), now + SECOND) else { panic!("it is due") };
    assert_eq!((again.offset, again.attempt), (0, 2));
    let Offer::Again(again) = offer(&mut ledger, window(2), now + SECOND) else { panic!("it is due") };
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
fn a_condemned_record_holds_the_watermark_until_it_is_buried() {
    let mut ledger = ledger(&[0, 1]);
    let condemned = ledger.condemn(0, None).unwrap();
    assert_eq!((condemned.message.id().as_str(), condemned.attempts), ("0", 1));
    ledger.ack(1, None);
    assert_eq!((ledger.watermark(), ledger.condemned()), (None, 1));
    ledger.bury(0);
    assert_eq!((ledger.watermark(), ledger.condemned()), (Some(2), 0));
}

#[test]
fn a_record_that_is_offered_twice_by_the_client_is_handed_out_once() {
    let mut ledger = ledger(&[0, 1]);
    assert!(!ledger.hand_out(1, None, &Message::default()));
    ledger.ack(0, None);
    ledger.ack(1, None);
    assert!(!ledger.hand_out(1, None, &Message::default()));
    assert!(ledger.hand_out(2, None, &Message::default()));
}
