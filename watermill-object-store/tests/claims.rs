//! Payloads go by way of an object store, which is in memory here.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{
    ObjectStore, ObjectStoreExt, PutPayload,
    memory::InMemory,
    path::Path,
    throttle::{ThrottleConfig, ThrottledStore},
};
use tokio::time::timeout;
use watermill_core::{
    MemoryBroker, Message, Publisher, Subscriber,
    components::claim_check::{Claim, ClaimCheckPublisher, ClaimCheckSubscriber, ClaimErrorKind, ClaimStore},
};
use watermill_object_store::ObjectClaimStore;
use watermill_testkit::patience;

const HOUR: Duration = Duration::from_secs(3600);

fn bucket() -> (Arc<InMemory>, ObjectClaimStore) {
    let bucket = Arc::new(InMemory::new());
    (bucket.clone(), ObjectClaimStore::new(bucket, "payloads"))
}

async fn names(bucket: &InMemory) -> Vec<String> {
    let mut names: Vec<_> =
        bucket.list(None).map_ok(|object| object.location.to_string()).try_collect().await.unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn a_large_payload_is_an_object_until_its_message_is_delivered_and_after() {
    let (bucket, payloads) = bucket();
    let broker = MemoryBroker::new();
    let subscriber = ClaimCheckSubscriber::new(broker.subscriber(), payloads.clone());
    let publisher = ClaimCheckPublisher::new(broker.publisher(), payloads).above(100);
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let sent = [Message::with_id("large", vec![7; 101]), Message::with_id("small", vec![7; 100])];
    publisher.publish("t", sent.to_vec()).await.unwrap();
    for sent in sent {
        let delivery = timeout(patience(), subscription.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(*delivery.message(), sent);
        delivery.ack();
    }
    let names = names(&bucket).await;
    let [name] = &names[..] else { panic!("one object for the large one: {names:?}") };
    let claim = name.strip_prefix("payloads/").and_then(Claim::parse).expect("it is named after the claim");
    assert!(claim.expires() > SystemTime::now() + HOUR);
}

#[tokio::test]
async fn what_is_not_there_is_lost() {
    let (_bucket, payloads) = bucket();
    let claim = Claim::until(SystemTime::now() + HOUR);
    let error = payloads.get(&claim).await.unwrap_err();
    assert_eq!(error.kind(), ClaimErrorKind::Lost);
    payloads.put(&claim, Bytes::from_static(b"here")).await.unwrap();
    assert_eq!(payloads.get(&claim).await.unwrap(), "here");
}

#[tokio::test]
async fn what_has_expired_is_removed_and_nothing_else() {
    let (bucket, payloads) = bucket();
    let now = SystemTime::now();
    let (expired, kept) = (Claim::until(now - HOUR), Claim::until(now + HOUR));
    for claim in [&expired, &Claim::until(now - HOUR), &kept] {
        payloads.put(claim, Bytes::from_static(b"x")).await.unwrap();
    }
    let elsewhere = Path::from(format!("others/{expired}"));
    for foreign in [&elsewhere, &Path::from("payloads/readme.txt")] {
        bucket.put(foreign, PutPayload::from_static(b"x")).await.unwrap();
    }
    assert_eq!(payloads.remove_expired(now).await.unwrap(), 2);
    assert_eq!(payloads.remove_expired(now).await.unwrap(), 0);
    let mut left = vec![elsewhere.to_string(), format!("payloads/{kept}"), "payloads/readme.txt".to_owned()];
    left.sort();
    assert_eq!(names(&bucket).await, left);
    assert_eq!(payloads.get(&expired).await.unwrap_err().kind(), ClaimErrorKind::Lost);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_given_up_in_time() {
    let slow = ThrottleConfig { wait_put_per_call: HOUR, wait_get_per_call: HOUR, ..Default::default() };
    let store = Arc::new(ThrottledStore::new(InMemory::new(), slow));
    let payloads = ObjectClaimStore::new(store, "").call_within(Duration::from_secs(2));
    let claim = Claim::until(SystemTime::now() + HOUR);
    let put = payloads.put(&claim, Bytes::from_static(b"x")).await.unwrap_err();
    let get = payloads.get(&claim).await.unwrap_err();
    assert_eq!([put.kind(), get.kind()], [ClaimErrorKind::Unavailable; 2]);
}
