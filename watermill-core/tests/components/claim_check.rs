//! Claim check: large payloads go by way of a store, and nobody notices.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use watermill_core::{
    Handler, Message, Publisher, Router, Subscriber,
    components::claim_check::{
        Claim, ClaimCheckPublisher, ClaimCheckSubscriber, ClaimError, ClaimErrorKind, ClaimStore, FileStore,
        RemoveExpired,
    },
    delivery::Outcome,
    error::{PublishErrorKind, SubscribeErrorKind},
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber, patience};

use crate::{Running, message};

/// A store in memory that can be away.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    payloads: BTreeMap<Claim, Bytes>,
    fails: u32,
}

impl Shelf {
    fn fail_next(&self, calls: u32) {
        self.0.lock().fails = calls;
    }

    fn call(&self, claim: &Claim) -> Result<parking_lot::MutexGuard<'_, State>, ClaimError> {
        let mut state = self.0.lock();
        if state.fails > 0 {
            state.fails -= 1;
            return Err(ClaimError::new(ClaimErrorKind::Unavailable, claim));
        }
        Ok(state)
    }
}

#[async_trait]
impl ClaimStore for Shelf {
    async fn put(&self, claim: &Claim, payload: Bytes) -> Result<(), ClaimError> {
        self.call(claim)?.payloads.insert(claim.clone(), payload);
        Ok(())
    }

    async fn get(&self, claim: &Claim) -> Result<Bytes, ClaimError> {
        let payload = self.call(claim)?.payloads.get(claim).cloned();
        payload.ok_or_else(|| ClaimError::new(ClaimErrorKind::Lost, claim))
    }
}

fn large(id: &str) -> Message {
    Message::with_id(id, vec![7; 1_000]).with_key("k").with_metadata("m", "n")
}

/// What is published of a message by way of the store.
async fn checked_in(store: &Shelf, message: Message) -> Message {
    let out = RecordingPublisher::new();
    let publisher = ClaimCheckPublisher::new(out.clone(), store.clone()).above(100);
    publisher.publish("t", vec![message]).await.unwrap();
    out.published("t").remove(0)
}

#[tokio::test]
async fn a_large_payload_travels_by_way_of_the_store_and_a_small_one_as_it_is() {
    let (store, source) = (Shelf::default(), ScriptedSubscriber::new());
    let small = message("small").with_metadata("m", "n");
    assert_eq!(checked_in(&store, small.clone()).await, small);
    let claimed = checked_in(&store, large("large")).await;
    assert!(claimed.payload().is_empty());
    assert_eq!(claimed.metadata().get("_watermill_claim_bytes"), Some("1000"));
    assert_eq!((claimed.key().unwrap().as_ref(), claimed.metadata().get("m")), (b"k".as_ref(), Some("n")));

    source.push(claimed);
    source.push(small.clone());
    let mut delivered = ClaimCheckSubscriber::new(source, store).subscribe("t").await.unwrap();
    for expected in [large("large"), small] {
        let delivery = timeout(patience(), delivered.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(*delivery.message(), expected, "in order, and as it was published");
        delivery.ack();
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_published_and_nothing_else_of_its_call_is() {
    let (store, out) = (Shelf::default(), RecordingPublisher::new());
    let publisher = ClaimCheckPublisher::new(out.clone(), store.clone()).above(100);
    store.fail_next(1);
    let error = publisher.publish("t", vec![message("small"), large("a")]).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
    assert!(out.all_published().is_empty());
    assert!(!publisher.capabilities().keeps_order, "payloads take their time");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_waited_for_and_then_the_message_comes_again() {
    async fn handle(_: Message) {}
    let (store, source) = (Shelf::default(), ScriptedSubscriber::new().redeliver(true));
    source.push(checked_in(&store, large("a")).await);
    store.fail_next(30);
    let subscriber = ClaimCheckSubscriber::new(source.clone(), store).fetch_within(Duration::from_secs(20));
    let began = Instant::now();
    let router = Router::new().add(Handler::new("h", handle).from(subscriber, "t"));
    let running = Running::start(router).await;
    source.finished().await;
    let outcomes = source.outcomes();
    assert_eq!(outcomes.last().unwrap().1, Outcome::Ack);
    let nacks = &outcomes[..outcomes.len() - 1];
    assert!(!nacks.is_empty(), "twenty seconds were not enough");
    for (_, outcome) in nacks {
        assert!(matches!(outcome, Outcome::Nack { delay } if !delay.is_zero()), "no hot loop: {outcome:?}");
    }
    assert!(began.elapsed() > Duration::from_secs(20));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_is_late_is_waited_for_and_one_that_has_expired_is_not() {
    let store = Shelf::default();
    let late = checked_in(&store, large("late")).await;
    let payloads = std::mem::take(&mut store.0.lock().payloads);
    let expired = Claim::until(SystemTime::now() - Duration::from_secs(1));
    let expired = message("expired").with_metadata("_watermill_claim", expired.as_str());
    let source = ScriptedSubscriber::new().dead_letters(true);
    source.push(expired);
    source.push(late);
    let began = Instant::now();
    let mut delivered =
        ClaimCheckSubscriber::new(source.clone(), store.clone()).subscribe("t").await.unwrap();
    let error = delivered.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Undecodable);
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits for what has expired");
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        store.0.lock().payloads = payloads;
    });
    let late = delivered.next().await.unwrap().unwrap();
    assert_eq!((late.id().as_str(), late.payload().len()), ("late", 1_000));
    late.ack();
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_does_not_come_is_lost_after_a_while() {
    let store = Shelf::default();
    let lost = checked_in(&store, large("lost")).await;
    store.0.lock().payloads.clear();
    let source = ScriptedSubscriber::new().dead_letters(true);
    source.push(lost);
    let patient = ClaimCheckSubscriber::new(source.clone(), store).late_within(Duration::from_secs(9));
    let began = Instant::now();
    let error = patient.subscribe("t").await.unwrap().next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Undecodable);
    let waited = began.elapsed().as_secs();
    assert!((9..=30).contains(&waited), "{waited} s");
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_is_lost_or_cut_off_and_a_claim_that_is_none_reject_their_message() {
    let store = Shelf::default();
    let lost = checked_in(&store, large("lost")).await;
    store.0.lock().payloads.clear();
    let cut_off = checked_in(&store, large("cut off")).await;
    store.0.lock().payloads.values_mut().for_each(|payload| payload.truncate(10));
    let path = message("path").with_metadata("_watermill_claim", "../../etc/passwd");

    let source = ScriptedSubscriber::new().dead_letters(true);
    for message in [lost, cut_off, path] {
        source.push(message);
    }
    source.push(message("fine"));
    let mut delivered = ClaimCheckSubscriber::new(source.clone(), store).subscribe("t").await.unwrap();
    for said in ["is not in the store", "has 10 bytes", "is no claim"] {
        let error = timeout(patience(), delivered.next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), SubscribeErrorKind::Undecodable);
        let error = watermill_core::error::chain(&error);
        assert!(error.contains(said), "{error}");
    }
    let fine = timeout(patience(), delivered.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(fine.id().as_str(), "fine", "nothing is held up");
    let rejected = source.outcomes();
    assert!(rejected.iter().all(|(_, outcome)| matches!(outcome, Outcome::Reject { .. })), "{rejected:?}");
    assert_eq!(rejected.len(), 3);
}

#[tokio::test]
async fn files_keep_payloads_until_they_expire() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path().join("claims"));
    let now = SystemTime::now();
    let [kept, expired] = [600, 1].map(|seconds| Claim::until(now + Duration::from_secs(seconds)));
    assert_eq!(store.remove_expired(now).await.unwrap(), 0, "there is no folder yet");
    for claim in [&kept, &expired] {
        store.put(claim, Bytes::from(vec![1, 2, 3])).await.unwrap();
        assert_eq!(store.get(claim).await.unwrap(), vec![1, 2, 3]);
    }
    let unfinished = folder.path().join("claims").join(format!("{expired}.unfinished"));
    std::fs::write(unfinished, "cut").unwrap();
    std::fs::write(folder.path().join("claims").join("README"), "not a claim").unwrap();
    assert_eq!(store.remove_expired(now).await.unwrap(), 0);
    assert_eq!(store.remove_expired(now + Duration::from_secs(60)).await.unwrap(), 2);
    assert_eq!(store.get(&expired).await.unwrap_err().kind(), ClaimErrorKind::Lost);
    assert!(store.get(&kept).await.is_ok());
    assert!(folder.path().join("claims").join("README").exists());
}

#[tokio::test]
async fn a_folder_that_is_not_there_loses_no_payload() {
    let disk = tempfile::tempdir().unwrap();
    let store = FileStore::new(disk.path().join("claims"));
    let claim = Claim::until(SystemTime::now() + Duration::from_secs(600));
    store.put(&claim, Bytes::from("x")).await.unwrap();
    let (mounted, away) = (disk.path().join("claims"), disk.path().join("away"));
    std::fs::rename(&mounted, &away).unwrap();
    assert_eq!(store.get(&claim).await.unwrap_err().kind(), ClaimErrorKind::Unavailable);
    std::fs::rename(&away, &mounted).unwrap();
    assert!(store.get(&claim).await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_removed_keeps_nothing_else_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path());
    let now = SystemTime::now();
    // A folder of that name is no file that could be removed.
    for _ in 0..5 {
        std::fs::create_dir(folder.path().join(Claim::until(now).as_str())).unwrap();
        store.put(&Claim::until(now), Bytes::from("x")).await.unwrap();
    }
    assert!(store.remove_expired(now).await.is_err());
    let left = std::fs::read_dir(folder.path()).unwrap();
    assert!(left.map(Result::unwrap).all(|entry| entry.path().is_dir()), "only what cannot go is left");
}

#[tokio::test]
async fn a_router_removes_what_has_expired() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path());
    let expired = Claim::until(SystemTime::now() - Duration::from_secs(1));
    store.put(&expired, Bytes::from("x")).await.unwrap();
    let running = Running::start(Router::new().plugin(RemoveExpired::of(store.clone()))).await;
    let gone = async {
        while store.get(&expired).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(patience(), gone).await.expect("it is removed");
    running.stop().await;
}
