//! Acks of steps.

use futures::FutureExt as _;
use tokio::sync::OwnedMutexGuard;

use super::*;
use crate::{
    log::{
        lease::Lease,
        recorder::{Recorder, Recording},
    },
    topic::Tables,
};

fn recorder() -> Arc<Recorder> {
    let tables = Tables::new::<sqlx::Sqlite>("orders").unwrap();
    let lease = Lease {
        tables: tables.clone(),
        group: String::new(),
        owner: "owner".to_owned(),
        token: 1,
        length: Duration::from_secs(5),
        position: Position::default(),
        locked_until: 0,
        witness: None,
    };
    Arc::new(Recorder::new::<sqlx::Sqlite>(lease, tables, None, std::sync::Weak::new()))
}

async fn hold(recorder: &Recorder) -> OwnedMutexGuard<Recording> {
    recorder.join(Duration::from_secs(1)).await.unwrap().unwrap()
}

/// A ledger of which so many rows are handed out.
fn handed_out(rows: i64) -> (LogLedger, Arc<Recorder>, Vec<Token>) {
    let (mut ledger, recorder) = (ledger(1..=rows), recorder());
    ledger.acks_join(recorder.clone());
    ledger.set_window(window(usize::try_from(rows).unwrap()));
    let handed = std::iter::from_fn(|| next(&mut ledger, Instant::now()));
    let tokens = handed.map(|handed| handed.token).collect();
    (ledger, recorder, tokens)
}

#[tokio::test]
async fn what_a_step_has_acked_is_done_whatever_its_settlement_says() {
    let (mut ledger, recorder, tokens) = handed_out(3);
    let mut recording = hold(&recorder).await;
    let save = ledger.save_with(&tokens[..1]).unwrap();
    assert_eq!((save.position.offset, save.progress.as_deref()), (1, None));
    ledger.joined(&recorder, &mut recording, save, &tokens[..1]);
    assert_eq!((recording.lease.position.offset, ledger.outstanding()), (1, 3));
    assert_eq!(ledger.tokens(), tokens[1..], "it cannot be lost any more");
    assert!(ledger.save_with(&tokens[..1]).is_none(), "nor be acked again");
    assert!(ledger.settle(tokens[0], Outcome::Nack { delay: Duration::ZERO }, None, Instant::now()));
    assert_eq!((ledger.outstanding(), ledger.has_unsaved()), (2, false));
    // Ahead of the second.
    let save = ledger.save_with(&tokens[2..]).unwrap();
    assert_eq!((save.position.offset, save.progress.as_deref()), (1, Some("[1,[[3,3]],[]]")));
    ledger.joined(&recorder, &mut recording, save, &tokens[2..]);
    // What is recorded next keeps it, settled or not.
    let save = ledger.save();
    assert_eq!((save.position.offset, save.progress.as_deref()), (1, Some("[1,[[3,3]],[]]")));
    ledger.saved(save);
    ledger.give_back(Instant::now());
    let again: Vec<_> = std::iter::from_fn(|| next_offset(&mut ledger, Instant::now())).collect();
    assert_eq!(again, [2]);
}

#[tokio::test]
async fn a_step_that_fails_leaves_to_be_recorded_what_was() {
    let (mut ledger, recorder, tokens) = handed_out(2);
    let recording = hold(&recorder).await;
    assert!(ledger.settle(tokens[0], Outcome::Ack, None, Instant::now()));
    let save = ledger.save_with(&tokens[1..]).unwrap();
    assert_eq!((save.position.offset, ledger.has_unsaved()), (2, false));
    ledger.not_joined(&recorder, save);
    assert!(recorder.left().now_or_never().is_some(), "its reader is told");
    let save = ledger.save();
    assert_eq!((save.position.offset, recording.lease.position.offset), (1, 0));
}

#[tokio::test]
async fn a_step_of_a_term_that_is_over_changes_nothing_of_the_next() {
    let (mut ledger, recorder, tokens) = handed_out(2);
    let mut recording = hold(&recorder).await;
    let save = ledger.save_with(&tokens[1..]).unwrap();
    ledger.begin(0.into(), Progress::default(), None);
    fill(&mut ledger, 1..=2);
    ledger.acks_join(self::recorder());
    ledger.joined(&recorder, &mut recording, save, &tokens[1..]);
    assert!(ledger.save_with(&tokens[..1]).is_none());
    let again: Vec<_> = std::iter::from_fn(|| next_offset(&mut ledger, Instant::now())).collect();
    assert_eq!(again, [1, 2]);
}

#[tokio::test]
async fn a_term_is_over_for_the_next_step_once_something_is_not_answered() {
    let limit = Duration::from_secs(1);
    let recorder = recorder();
    recorder.hold(limit).await.unwrap().unwrap().is_unclear();
    assert!(recorder.hold(limit).await.unwrap().is_some(), "its reader goes on alone");
    assert!(recorder.join(limit).await.unwrap().is_none());
    assert!(recorder.hold(limit).await.unwrap().is_none());
}

#[tokio::test]
async fn what_the_reader_has_recorded_since_leaves_nothing_unclear_that_comes_too_late() {
    let limit = Duration::from_secs(1);
    let (mut ledger, recorder, tokens) = handed_out(2);
    let mut recording = recorder.hold(limit).await.unwrap().unwrap();
    recording.is_unclear();
    assert!(ledger.settle(tokens[0], Outcome::Ack, None, Instant::now()));
    let save = ledger.save();
    recorder.committed(&mut recording, &mut ledger, save);
    drop(recording);
    assert!(recorder.join(limit).await.unwrap().is_some());
}

#[tokio::test]
async fn once_a_step_is_not_answered_the_lease_can_only_be_given_back() {
    let limit = Duration::from_secs(1);
    let recorder = recorder();
    recorder.join(limit).await.unwrap().unwrap().end();
    assert!(recorder.hold(limit).await.unwrap().is_none());
    assert!(recorder.hold_to_release(limit).await.unwrap().is_over());
}

#[tokio::test]
async fn whoever_waits_for_what_was_given_back_is_told_when_a_step_has_acked_it() {
    let (mut ledger, recorder, tokens) = handed_out(2);
    let mut recording = hold(&recorder).await;
    let save = ledger.save_with(&tokens[..1]).unwrap();
    assert!(!ledger.joined(&recorder, &mut recording, save, &tokens[..1]), "its settlement tells");
    let save = ledger.save_with(&tokens[1..]).unwrap();
    ledger.give_back(Instant::now());
    assert!(ledger.joined(&recorder, &mut recording, save, &tokens[1..]));
    assert!(recorder.left().now_or_never().is_some() && ledger.is_empty());
}

#[tokio::test]
async fn what_steps_fail_to_record_is_due_as_it_was() {
    let (mut ledger, recorder, tokens) = handed_out(2);
    let (_recording, start) = (hold(&recorder).await, Instant::now());
    assert!(ledger.settle(tokens[0], Outcome::Ack, None, start));
    for _ in 0..2 {
        let save = ledger.save_with(&tokens[1..]).unwrap();
        ledger.not_joined(&recorder, save);
    }
    assert_eq!(ledger.unrecorded().since, Some(start));
}
