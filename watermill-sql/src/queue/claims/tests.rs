//! What is in hand, step by step.

use std::num::NonZeroUsize;

use super::*;
use crate::{marshaler::Columns, stored::Store};

const BATCH: usize = 100;

fn claims(offsets: impl IntoIterator<Item = i64>, window: usize, now: Instant) -> Claims {
    let mut claims = Claims::new(false, true, 1_000);
    claims.set_window(Window::unordered(NonZeroUsize::new(window).unwrap()));
    fill(&mut claims, offsets, now);
    claims
}

fn next(claims: &mut Claims, now: Instant) -> Option<Handed> {
    match claims.next(now) {
        Offer::Handed(handed) => Some(handed),
        Offer::Nothing(_) => None,
    }
}

/// A row without an id and metadata.
fn stored(payload: &[u8]) -> Stored {
    let columns = Columns { uuid: b"", payload, metadata: None };
    Store::default().keep(columns).unwrap()
}

fn fill(claims: &mut Claims, offsets: impl IntoIterator<Item = i64>, now: Instant) {
    for offset in offsets {
        claims.push((Claim { offset, attempt: 1 }, None), stored(b""), None, now);
    }
}

fn settle(claims: &mut Claims, handed: &Handed, outcome: Outcome) {
    assert!(claims.settle(handed.token, outcome, None, Instant::now()));
}

#[test]
fn no_more_is_out_than_the_window_allows() {
    let now = Instant::now();
    let mut claims = claims(1..=5, 2, now);
    let one = next(&mut claims, now).unwrap();
    let two = next(&mut claims, now).unwrap();
    assert!(next(&mut claims, now).is_none());
    settle(&mut claims, &two, Outcome::Ack);
    assert_eq!(next(&mut claims, now).unwrap().offset, Some(3));
    settle(&mut claims, &one, Outcome::Nack { delay: Duration::from_secs(1) });
    let [done] = &claims.take_done(10).0[..] else { panic!("one is done") };
    assert_eq!(done.claim.offset, 2);
    let [released] = &claims.take_released(10).0[..] else { panic!("one is let go") };
    let claim = Claim { offset: 1, attempt: 1 };
    assert_eq!(released.release, Release { claim, delay: Duration::from_secs(1), tried: true });
    assert_eq!(claims.unrecorded(), Unrecorded::default());
}

#[test]
fn a_rejected_row_is_done_with_and_its_message_kept_where_there_is_a_place() {
    let now = Instant::now();
    let mut claims = claims([7], 1, now);
    let handed = next(&mut claims, now).unwrap();
    settle(&mut claims, &handed, Outcome::Reject { reason: "no".to_owned() });
    let [done] = &claims.take_done(10).0[..] else { panic!("one is done") };
    let dead = done.kept().unwrap();
    assert_eq!((dead.offset, dead.reason.as_str(), dead.attempts), (7, "no", 1));
}

#[test]
fn a_graceful_end_gives_everything_back_and_counts_only_what_was_tried() {
    let now = Instant::now();
    let mut claims = claims(1..=3, 1, now);
    let handed = next(&mut claims, now).unwrap();
    claims.give_back(now);
    let mut released: Vec<_> =
        claims.take_released(10).0.into_iter().map(|released| released.release).collect();
    released.sort_by_key(|release| release.claim.offset);
    assert_eq!(released.iter().map(|release| release.attempts()).collect::<Vec<_>>(), [1, 0, 0]);
    assert!(claims.is_empty());
    assert!(!claims.settle(handed.token, Outcome::Ack, None, now), "too late");
}

#[test]
fn what_is_with_others_is_not_handed_out_and_its_settlement_does_not_count() {
    let now = Instant::now();
    let mut claims = claims(1..=3, 2, now);
    let one = next(&mut claims, now).unwrap();
    let held = claims.held();
    let lost = claims.keep_only(&held, &HashSet::from([2]), now);
    assert_eq!((lost.len(), lost.contains(&one.token.position)), (2, true));
    assert_eq!((claims.outstanding(), claims.fresh.len()), (0, 1));
    assert!(!claims.settle(one.token, Outcome::Ack, None, now));
    assert_eq!(next(&mut claims, now).unwrap().offset, Some(2));
}

#[test]
fn what_was_claimed_after_a_renewal_began_is_kept_by_it() {
    let now = Instant::now();
    let mut claims = claims([1], 2, now);
    let held = claims.held();
    fill(&mut claims, [2], now);
    assert_eq!(claims.keep_only(&held, &HashSet::from([1]), now).len(), 0);
    assert_eq!(claims.fresh.len(), 2);
}

#[test]
fn quick_handlers_have_more_claimed_ahead_and_slow_ones_less() {
    let now = Instant::now();
    let mut claims = claims([], 1, now);
    let mut most = 0;
    for _ in 0..10 {
        assert!(next(&mut claims, now).is_none());
        let wanted = claims.wanted(BATCH);
        most = most.max(wanted);
        fill(&mut claims, 0..wanted as i64, now);
        claims.came_full(BATCH);
        while let Some(handed) = next(&mut claims, now) {
            settle(&mut claims, &handed, Outcome::Ack);
        }
    }
    assert_eq!(most, BATCH);

    let mut now = now;
    for _ in 0..10 {
        let wanted = claims.wanted(BATCH);
        fill(&mut claims, 0..wanted as i64, now);
        now += Duration::from_secs(1);
        while let Some(handed) = next(&mut claims, now) {
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
        let handed = next(&mut claims, now).unwrap();
        settle(&mut claims, &handed, Outcome::Ack);
    }
    let (first, _) = claims.take_done(1);
    claims.keep_done(first, now);
    assert_eq!(claims.unrecorded().count, 2);
    let offsets: Vec<_> = claims.take_done(10).0.iter().map(|done| done.claim.offset).collect();
    assert_eq!(offsets, [1, 2]);
}

#[test]
fn a_nack_is_confirmed_once_its_row_is_let_go() {
    let now = Instant::now();
    let mut claims = claims([1], 1, now);
    let handed = next(&mut claims, now).unwrap();
    let (receipt, mut wait) = Receipt::new();
    claims.settle(handed.token, Outcome::Nack { delay: Duration::ZERO }, Some(receipt), now);
    assert!(claims.unrecorded().awaited);
    let (released, _) = claims.take_released(10);
    assert!(wait.try_recv().is_err());
    released.into_iter().for_each(|row| row.complete(true));
    assert_eq!(wait.try_recv().unwrap().ok(), Some(()));
}

/// Rows of a run of one key: the last holds it.
fn run(claims: &mut Claims, key: i64, offsets: std::ops::RangeInclusive<i64>, now: Instant) {
    let last = *offsets.end();
    for offset in offsets {
        let claim = (Claim { offset, attempt: 1 }, Some(KeyClaim { key, holds: offset == last }));
        claims.push(claim, stored(b""), None, now);
    }
}

fn in_order(now: Instant) -> Claims {
    let mut claims = Claims::new(true, true, 1_000);
    run(&mut claims, 7, 1..=3, now);
    run(&mut claims, 8, 4..=4, now);
    claims
}

fn released(claims: &mut Claims) -> Vec<(i64, bool)> {
    let (released, _) = claims.take_released(10);
    let mut released: Vec<_> =
        released.iter().map(|row| (row.release.claim.offset, row.release.tried)).collect();
    released.sort_unstable();
    released
}

#[test]
fn one_of_a_key_is_out_at_a_time_and_other_keys_are_beside_it() {
    let now = Instant::now();
    let mut claims = in_order(now);
    let one = next(&mut claims, now).unwrap();
    let four = next(&mut claims, now).unwrap();
    assert_eq!((one.offset, four.offset), (Some(1), Some(4)));
    assert_ne!(one.token.scope, four.token.scope);
    assert!(next(&mut claims, now).is_none());
    settle(&mut claims, &one, Outcome::Ack);
    let two = next(&mut claims, now).unwrap();
    assert_eq!((two.offset, two.token.scope), (Some(2), one.token.scope));
    assert!(claims.handled(two.token));
    assert_eq!(next(&mut claims, now).unwrap().offset, Some(3), "its outputs are on their way");
}

#[test]
fn an_unordered_window_does_not_let_a_message_pass_another_of_its_key() {
    let now = Instant::now();
    let mut claims = in_order(now);
    claims.set_window(Window::unordered(NonZeroUsize::new(8).unwrap()));
    let mut out: Vec<_> =
        std::iter::from_fn(|| next(&mut claims, now)).filter_map(|handed| handed.offset).collect();
    // Between keys there is no order.
    out.sort_unstable();
    assert_eq!(out, [1, 4]);
}

#[test]
fn a_wider_window_hands_out_more_of_a_key_and_a_narrower_one_less() {
    let now = Instant::now();
    let mut claims = in_order(now);
    claims.set_window(Window::ordered(NonZeroUsize::new(3).unwrap()));
    claims.set_window(Window::ordered(NonZeroUsize::new(2).unwrap()));
    let mut out: Vec<_> =
        std::iter::from_fn(|| next(&mut claims, now)).filter_map(|handed| handed.offset).collect();
    out.sort_unstable();
    assert_eq!(out, [1, 2, 4]);
}

#[test]
fn a_nack_lets_those_behind_it_go_untried() {
    let now = Instant::now();
    let mut claims = in_order(now);
    let one = next(&mut claims, now).unwrap();
    settle(&mut claims, &one, Outcome::Nack { delay: Duration::from_secs(1) });
    assert_eq!(released(&mut claims), [(1, true), (2, false), (3, false)]);
    assert_eq!(next(&mut claims, now).unwrap().offset, Some(4));
}

#[test]
fn a_key_is_done_with_when_the_last_of_its_run_is() {
    let now = Instant::now();
    let mut claims = in_order(now);
    for offset in 1..=3 {
        let handed =
            std::iter::from_fn(|| next(&mut claims, now)).find(|handed| handed.offset == Some(offset));
        settle(&mut claims, &handed.unwrap(), Outcome::Ack);
        let (_, passed_on) = claims.take_done(10);
        assert_eq!(passed_on.ended, if offset == 3 { vec![7] } else { vec![] });
        assert!(passed_on.heirs.is_empty());
    }
}

#[test]
fn a_row_that_holds_its_key_and_is_done_before_others_passes_it_on() {
    let now = Instant::now();
    let mut claims = Claims::new(true, true, 1_000);
    claims.set_window(Window::ordered(NonZeroUsize::new(3).unwrap()));
    run(&mut claims, 7, 1..=3, now);
    let out: Vec<_> = std::iter::from_fn(|| next(&mut claims, now)).collect();
    settle(&mut claims, &out[2], Outcome::Ack);
    let (done, passed_on) = claims.take_done(10);
    let heirs = passed_on.heirs;
    assert_eq!((heirs.len(), passed_on.ended.len()), (1, 0));
    claims.keep_done(done, now);
    assert_eq!(claims.take_done(10).1.heirs, heirs, "tried again, it is the same one");
    settle(&mut claims, &out[0], Outcome::Ack);
    settle(&mut claims, &out[1], Outcome::Ack);
    assert_eq!(claims.take_done(10).1, PassedOn { heirs: vec![], ended: vec![7] });
}

#[test]
fn with_a_lost_row_its_key_is_lost() {
    let now = Instant::now();
    let mut claims = in_order(now);
    let one = next(&mut claims, now).unwrap();
    let held = claims.held();
    let lost = claims.keep_only(&held, &HashSet::from([2, 3, 4]), now);
    assert!(lost.contains(&one.token.position) && lost.len() == 3);
    assert_eq!(released(&mut claims), [(2, false), (3, false)], "the one that is lost is another's");
    assert_eq!(next(&mut claims, now).unwrap().offset, Some(4));
    assert_eq!(claims.outstanding(), 1);
}

#[test]
fn rows_that_are_large_are_not_claimed_ahead_beyond_the_bytes_that_may_wait() {
    let now = Instant::now();
    let mut claims = claims([], 1, now);
    claims.ahead = 100;
    for offset in 1..=3 {
        assert!(claims.wants_more());
        claims.push((Claim { offset, attempt: 1 }, None), stored(&[7; 400]), None, now);
    }
    assert_eq!((claims.wants_more(), claims.wanted(BATCH)), (false, 0), "1,200 bytes wait");
    let handed = next(&mut claims, now).unwrap();
    assert!(claims.wants_more(), "what is handed out does not wait");
    claims.keep_only(&[Claim { offset: 2, attempt: 1 }], &HashSet::new(), now);
    assert_eq!(claims.waiting_bytes, 400);
    settle(&mut claims, &handed, Outcome::Ack);
    claims.give_back(now);
    assert_eq!(claims.waiting_bytes, 0);
}
