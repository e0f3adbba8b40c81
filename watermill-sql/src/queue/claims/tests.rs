//! What is in hand, step by step.

use std::num::NonZeroUsize;

use super::*;

const BATCH: usize = 100;

fn claims(offsets: impl IntoIterator<Item = i64>, window: usize, now: Instant) -> Claims {
    let mut claims = Claims::default();
    claims.set_window(Window::unordered(NonZeroUsize::new(window).unwrap()));
    fill(&mut claims, offsets, now);
    claims
}

fn fill(claims: &mut Claims, offsets: impl IntoIterator<Item = i64>, now: Instant) {
    for offset in offsets {
        claims.push(Claim { offset, attempt: 1 }, Message::new(""), None, now);
    }
}

fn settle(claims: &mut Claims, handed: &Handed, outcome: Outcome) {
    assert!(claims.settle(handed.token(), outcome, None, true, Instant::now()));
}

#[test]
fn no_more_is_out_than_the_window_allows() {
    let now = Instant::now();
    let mut claims = claims(1..=5, 2, now);
    let one = claims.next(now).unwrap();
    let two = claims.next(now).unwrap();
    assert!(claims.next(now).is_none());
    settle(&mut claims, &two, Outcome::Ack);
    assert_eq!(claims.next(now).unwrap().offset, 3);
    settle(&mut claims, &one, Outcome::Nack { delay: Duration::from_secs(1) });
    let [done] = &claims.take_done(10)[..] else { panic!("one is done") };
    assert_eq!(done.claim.offset, 2);
    let released = claims.take_released(10);
    let claim = Claim { offset: 1, attempt: 1 };
    assert_eq!(released, [Release { claim, delay: Duration::from_secs(1), tried: true }]);
    assert_eq!(claims.unsaved(), (0, None, false));
}

#[test]
fn a_rejected_row_is_done_with_and_its_message_kept_where_there_is_a_place() {
    let now = Instant::now();
    let mut claims = claims([7], 1, now);
    let handed = claims.next(now).unwrap();
    settle(&mut claims, &handed, Outcome::Reject { reason: "no".to_owned() });
    let [done] = &claims.take_done(10)[..] else { panic!("one is done") };
    let dead = done.dead.as_ref().unwrap();
    assert_eq!((dead.offset, dead.reason.as_str(), dead.attempts), (7, "no", 1));
}

#[test]
fn a_graceful_end_gives_everything_back_and_counts_only_what_was_tried() {
    let now = Instant::now();
    let mut claims = claims(1..=3, 1, now);
    let handed = claims.next(now).unwrap();
    claims.give_back(now);
    let mut released = claims.take_released(10);
    released.sort_by_key(|release| release.claim.offset);
    assert_eq!(released.iter().map(|release| release.attempts()).collect::<Vec<_>>(), [1, 0, 0]);
    assert!(claims.is_empty());
    assert!(!claims.settle(handed.token(), Outcome::Ack, None, true, now), "too late");
}

#[test]
fn what_is_with_others_is_not_handed_out_and_its_settlement_does_not_count() {
    let now = Instant::now();
    let mut claims = claims(1..=3, 2, now);
    let one = claims.next(now).unwrap();
    let held = claims.held();
    let lost = claims.keep_only(&held, &HashSet::from([2]));
    assert_eq!((lost.len(), lost.contains(&one.sequence)), (2, true));
    assert_eq!((claims.out(), claims.fresh()), (0, 1));
    assert!(!claims.settle(one.token(), Outcome::Ack, None, true, now));
    assert_eq!(claims.next(now).unwrap().offset, 2);
}

#[test]
fn what_was_claimed_after_a_renewal_began_is_kept_by_it() {
    let now = Instant::now();
    let mut claims = claims([1], 2, now);
    let held = claims.held();
    fill(&mut claims, [2], now);
    assert_eq!(claims.keep_only(&held, &HashSet::from([1])).len(), 0);
    assert_eq!(claims.fresh(), 2);
}

#[test]
fn quick_handlers_have_more_claimed_ahead_and_slow_ones_less() {
    let now = Instant::now();
    let mut claims = claims([], 1, now);
    let mut most = 0;
    for _ in 0..10 {
        assert!(claims.next(now).is_none());
        let wanted = claims.wanted(BATCH);
        most = most.max(wanted);
        fill(&mut claims, 0..wanted as i64, now);
        claims.came_full(BATCH);
        while let Some(handed) = claims.next(now) {
            settle(&mut claims, &handed, Outcome::Ack);
        }
    }
    assert_eq!(most, BATCH);

    let mut now = now;
    for _ in 0..10 {
        let wanted = claims.wanted(BATCH);
        fill(&mut claims, 0..wanted as i64, now);
        now += Duration::from_secs(1);
        while let Some(handed) = claims.next(now) {
            settle(&mut claims, &handed, Outcome::Ack);
        }
    }
    // One for the window, and one that waits.
    assert_eq!(claims.wanted(BATCH), 2);
}

#[test]
fn what_could_not_be_recorded_is_tried_again_first() {
    let now = Instant::now();
    let mut claims = claims(1..=2, 2, now);
    for _ in 0..2 {
        let handed = claims.next(now).unwrap();
        settle(&mut claims, &handed, Outcome::Ack);
    }
    let first = claims.take_done(1);
    claims.keep_done(first, now);
    assert_eq!(claims.unsaved().0, 2);
    let offsets: Vec<_> = claims.take_done(10).iter().map(|done| done.claim.offset).collect();
    assert_eq!(offsets, [1, 2]);
}
