//! Who gets a message, and what becomes of it when that one is slow or dies.

use std::{collections::HashSet, num::NonZeroUsize};

use watermill_core::Window;

use super::*;

fn window(size: usize) -> Window {
    Window::unordered(NonZeroUsize::new(size).unwrap())
}

pub(crate) async fn each_message_goes_to_one_of_many_workers<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..500)).await.unwrap();
    let workers = (0..4).map(async |_| {
        // A process of its own would have a pool of its own.
        let pool = server.connect().await;
        let mut subscription = worker::<S>(&pool).subscribe("t").await.unwrap();
        let mut seen = Vec::new();
        while let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_secs(2), subscription.next()).await
        {
            let delivery = delivery.unwrap();
            assert_eq!(delivery.info().attempt(), 1);
            seen.push(payload(&delivery).to_owned());
            delivery.ack();
        }
        subscription.close().await.unwrap();
        seen
    });
    let seen = futures::future::join_all(workers).await.concat();
    assert_eq!((seen.len(), seen.iter().collect::<HashSet<_>>().len()), (500, 500));
    assert_eq!(S::number(&pool, "select count(*) from watermill_t").await, 0);
}

pub(crate) async fn a_slow_worker_leaves_messages_to_others<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..10)).await.unwrap();
    let mut slow = worker::<S>(&pool).subscribe("t").await.unwrap();
    let held = next(&mut slow).await;
    // One it works on, one waits: the others are for whoever is there.
    let mut other = worker::<S>(&pool).subscribe("t").await.unwrap();
    for _ in 0..8 {
        next(&mut other).await.ack();
    }
    held.ack();
    next(&mut slow).await.ack();
}

pub(crate) async fn a_worker_that_dies_loses_no_message<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..2)).await.unwrap();
    let config = SqlQueueSubscriberConfig::default().visibility_timeout(Duration::from_millis(500));
    // Whoever ends a runtime ends its tasks where they stand, as the end of a process does.
    let victim = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dies = {
        let config = config.clone();
        let pool = server.connect().await;
        victim
            .spawn(async move {
                let mut subscription = worker_with::<S>(&pool, config).subscribe("t").await.unwrap();
                let delivery = next(&mut subscription).await;
                std::mem::forget(delivery);
                std::mem::forget(subscription);
            })
            .await
    };
    dies.unwrap();
    victim.shutdown_background();

    let mut subscription = worker_with::<S>(&pool, config).subscribe("t").await.unwrap();
    let mut seen = HashSet::new();
    for _ in 0..2 {
        let delivery = next(&mut subscription).await;
        assert!(delivery.info().redelivered() && delivery.info().attempt() == 2);
        seen.insert(payload(&delivery).to_owned());
        delivery.ack();
    }
    assert_eq!(seen.len(), 2);
}

pub(crate) async fn a_handler_may_take_longer_than_the_visibility_timeout<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..1)).await.unwrap();
    let config = SqlQueueSubscriberConfig::default().visibility_timeout(Duration::from_millis(600));
    let mut slow = worker_with::<S>(&pool, config.clone()).subscribe("t").await.unwrap();
    let delivery = next(&mut slow).await;
    let mut other = worker_with::<S>(&pool, config).subscribe("t").await.unwrap();
    let came = tokio::time::timeout(Duration::from_millis(1_800), other.next()).await;
    assert!(came.is_err(), "the message is renewed while it is worked on");
    delivery.ack_confirmed().await.unwrap();
    assert_eq!(S::number(&pool, "select count(*) from watermill_t").await, 0);
}

pub(crate) async fn a_worker_whose_message_is_with_another_is_told_and_its_ack_refused<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..2)).await.unwrap();
    let config = SqlQueueSubscriberConfig::default().visibility_timeout(Duration::from_millis(600));
    let mut subscription = worker_with::<S>(&pool, config).subscribe("t").await.unwrap();
    subscription.set_window(window(2));
    let (one, two) = (next(&mut subscription).await, next(&mut subscription).await);
    // As if this process had been frozen for longer than the timeout.
    S::execute(&pool, "update watermill_t set owner = 'another', attempts = attempts + 1").await;
    let refused = one.ack_confirmed().await.unwrap_err();
    assert_eq!(refused.kind(), SettleErrorKind::Lost);
    within("the cancellation", two.info().cancellation().cancelled()).await;
    assert_eq!(two.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
    assert_eq!(S::number(&pool, "select count(*) from watermill_t").await, 2);
}

pub(crate) async fn what_lies_behind_a_backlog_that_waits_is_found_by_an_index<S: Server>() {
    const DOUBLINGS: u32 = 13;
    let server = S::default();
    let pool = server.connect().await;
    worker::<S>(&pool).initialize("big").await.unwrap();
    let columns = "uuid, payload, metadata, acked, due_ms";
    let double = format!("insert into watermill_big ({columns}) select {columns} from watermill_big");
    S::execute(
        &pool,
        &format!(
            "insert into watermill_big ({columns})
             values ('u', '1', '{{}}', true, 0), ('u', '1', '{{}}', false, 2000000000000)"
        ),
    )
    .await;
    for _ in 0..DOUBLINGS {
        S::execute(&pool, &double).await;
    }
    // The server's counters lag behind; the doublings have read so many.
    let before = counted::<S>(&pool, 2 * (2_i64.pow(DOUBLINGS) - 1)).await;
    publisher::<S>(&pool).publish("big", numbered(0..50)).await.unwrap();
    let mut subscription = worker::<S>(&pool).subscribe("big").await.unwrap();
    for _ in 0..50 {
        next(&mut subscription).await.ack();
    }
    subscription.close().await.unwrap();
    if let Some(before) = before {
        let after = counted::<S>(&pool, before + 50).await.unwrap();
        assert!(after - before < 2_i64.pow(DOUBLINGS) / 2, "{} rows were read for 50", after - before);
    }
}

/// Waits until the server has counted so many rows that were read, where it counts them.
async fn counted<S: Server>(pool: &Pool<S::Database>, least: i64) -> Option<i64> {
    within("the counters", async {
        loop {
            match S::scanned(pool).await {
                Some(count) if count < least => tokio::time::sleep(Duration::from_millis(50)).await,
                count => return count,
            }
        }
    })
    .await
}

/// It takes several statements, one for those that had to wait and one for all others.
pub(crate) async fn a_claim_brings_no_more_bytes_than_it_may_however_it_looks<S: Server>() {
    for config in
        [SqlQueueSubscriberConfig::default(), SqlQueueSubscriberConfig::default().ordered_by_key(true)]
    {
        let server = S::default();
        let pool = server.connect().await;
        let large = |kib: usize| Message::new(format!("\"{}\"", "x".repeat(kib * 1024)));
        worker_with::<S>(&pool, config.clone()).initialize("t").await.unwrap();
        let waited = large(10).delay_for(Duration::from_millis(1));
        let all = vec![waited, large(95), large(95), large(95)];
        publisher::<S>(&pool).publish("t", all).await.unwrap();
        let soon = S::number(&pool, S::SOON_MS).await;
        within("the first to be due", async { while S::number(&pool, S::SOON_MS).await < soon + 10 {} })
            .await;
        // Nobody asks for messages, so that this is what one claim has brought.
        let worker = worker_with::<S>(&pool, config.batch_bytes(100 * 1024));
        let _subscription = worker.subscribe("t").await.unwrap();
        until_there_are::<S>(&pool, 2, "select count(*) from watermill_t where owner is not null").await;
    }
}
