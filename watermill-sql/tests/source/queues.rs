//! Working on a table as a queue.

use std::collections::BTreeSet;

use super::{
    outbox::{count, fill, id, insert, source},
    *,
};

pub(crate) async fn a_table_with_a_uuid_is_a_queue_for_many_workers<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 0..40).await;
    let queue = queue::<S>(&pool, source().after_ack(AfterAck::Delete));
    let mut subscriptions = Vec::new();
    for _ in 0..3 {
        subscriptions.push(queue.subscribe("outbox").await.unwrap());
    }
    let mut handled = Vec::new();
    let mut delivered = BTreeSet::new();
    for subscription in &mut subscriptions {
        let delivery = next(subscription).await;
        assert_eq!(delivery.metadata().get("type"), Some("placed"));
        assert!(delivered.insert(payload(&delivery)), "one has it and no other");
        handled.push(delivery);
    }
    for delivery in handled {
        delivery.ack_confirmed().await.unwrap();
    }
    let [first, others @ ..] = &mut subscriptions[..] else { unreachable!() };
    for other in others {
        other.stop_intake();
    }
    for _ in 3..40 {
        let delivery = next(first).await;
        assert!(delivered.insert(payload(&delivery)));
        delivery.ack_confirmed().await.unwrap();
    }
    assert_eq!(delivered.len(), 40);
    assert_eq!(count::<S>(&pool, "1 = 1").await, 0);
    assert_eq!(S::number(&pool, "select count(*) from watermill_claims_outbox").await, 0);
}

pub(crate) async fn a_row_that_was_acked_is_kept_and_comes_no_more<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 0..3).await;
    let queue = queue::<S>(&pool, source());
    let mut subscription = queue.subscribe("outbox").await.unwrap();
    assert_eq!(read(&mut subscription, 3).await, ["0", "1", "2"]);
    subscription.close().await.unwrap();
    fill::<S>(&pool, 3..4).await;
    let mut successor = queue.subscribe("outbox").await.unwrap();
    assert_eq!(read(&mut successor, 1).await, ["3"]);
    assert_eq!(count::<S>(&pool, "relayed = false and relayed_at is null").await, 4);
    // What somebody deletes is forgotten.
    S::execute(&pool, "delete from outbox").await;
    let claims = "select count(*) from watermill_claims_outbox";
    while S::number(&pool, claims).await > 0 {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn a_row_that_was_acked_is_marked_and_what_is_marked_is_left_alone<S: Outbox>() {
    for (column, marked) in [("relayed_at", "relayed_at is not null"), ("relayed", "relayed = true")] {
        let server = S::default();
        let pool = server.with_outbox().await;
        fill::<S>(&pool, 0..4).await;
        // Whoever has relayed the table so far has done these.
        let done = if column == "relayed" { "relayed = true" } else { "relayed_at = current_timestamp" };
        S::execute(&pool, &format!("update outbox set {done} where seq <= 2")).await;
        let queue = queue::<S>(&pool, source().after_ack(AfterAck::mark(column)));
        let mut subscription = queue.subscribe("outbox").await.unwrap();
        assert_eq!(read(&mut subscription, 2).await, ["2", "3"]);
        assert_eq!(count::<S>(&pool, marked).await, 4);
        assert_eq!(S::number(&pool, "select count(*) from watermill_claims_outbox").await, 0);
    }
}

pub(crate) async fn a_nacked_row_comes_again_and_a_rejected_one_is_moved<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 0..1).await;
    let queue = queue::<S>(&pool, source().after_ack(AfterAck::Delete));
    let queue = queue.with_dead_letters("dead").unwrap();
    let mut subscription = queue.subscribe("outbox").await.unwrap();
    next(&mut subscription).await.nack();
    let again = next(&mut subscription).await;
    assert_eq!((payload(&again), again.info().attempt()), ("0".to_owned(), 2));
    again.reject("no");
    subscription.close().await.unwrap();
    assert_eq!(count::<S>(&pool, "1 = 1").await, 0);
    let ours = SqlQueueSubscriber::new(pool.clone(), SqlQueueSubscriberConfig::default()).unwrap();
    let letter = next(&mut ours.subscribe("dead").await.unwrap()).await;
    assert_eq!(letter.id().as_str(), id(0));
}

pub(crate) async fn what_a_worker_that_died_had_comes_again<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 0..1).await;
    let queue = queue::<S>(&pool, source().after_ack(AfterAck::Delete));
    queue.initialize("outbox").await.unwrap();
    // As a worker leaves it that claims and is killed.
    S::execute(
        &pool,
        &format!(
            "insert into watermill_claims_outbox (uuid, owner, due_ms, attempts) values ('{}', 'dead 900', 5, 1)",
            id(0)
        ),
    )
    .await;
    let delivery = next(&mut queue.subscribe("outbox").await.unwrap()).await;
    assert_eq!((payload(&delivery), delivery.info().attempt()), ("0".to_owned(), 2));
}

/// A worker may add a claim after another has handled the row and deleted it.
pub(crate) async fn a_claim_whose_row_is_gone_is_done_with_though_nothing_else_comes<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    let queue = queue::<S>(&pool, source().after_ack(AfterAck::Delete));
    queue.initialize("outbox").await.unwrap();
    let late = format!(
        "insert into watermill_claims_outbox (uuid, owner, due_ms, attempts) values ('{}', null, 0, 0)",
        id(0)
    );
    S::execute(&pool, &late).await;
    let _subscription = queue.subscribe("outbox").await.unwrap();
    within("the claim to be done with", async {
        while S::number(&pool, "select count(*) from watermill_claims_outbox").await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// How large rows are is known when they are read, and not when they are claimed.
pub(crate) async fn a_claim_brings_no_more_bytes_than_it_may<S: Outbox>() {
    const BYTES: usize = 200_000;
    let server = S::default();
    let pool = server.with_outbox().await;
    for n in 0..30 {
        let large = format!("\"{}\"", "x".repeat(BYTES));
        let payload = format!("'{n}', '{{");
        S::execute(&pool, &insert(n).replace(&payload, &format!("'{large}', '{{"))).await;
    }
    // One that is larger than all that may be there at once.
    let huge = format!("'\"{}\"', '{{", "x".repeat(7 * BYTES));
    S::execute(&pool, &insert(30).replace("'30', '{", &huge)).await;
    let config = SqlQueueSubscriberConfig::default().batch_size(1_000).batch_bytes(5 * BYTES);
    let config = config.source(source().after_ack(AfterAck::Delete));
    let worker = SqlQueueSubscriber::new(pool.clone(), config).unwrap();
    let mut subscription = worker.subscribe("outbox").await.unwrap();
    subscription.set_window(watermill_core::Window::unordered(std::num::NonZeroUsize::new(40).unwrap()));
    let (mut seen, mut most) = (BTreeSet::new(), 0);
    while seen.len() < 31 {
        let delivery = next(&mut subscription).await;
        assert!(delivery.payload().len() >= BYTES);
        assert_eq!(delivery.info().attempt(), 1, "what was let go was not tried");
        seen.insert(delivery.id().to_string());
        // A claim that is under way lets go of what does not fit, a moment later.
        let mut claimed = i64::MAX;
        for _ in 0..5 {
            let now = "select count(*) from watermill_claims_outbox where owner is not null";
            claimed = claimed.min(S::number(&pool, now).await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        most = most.max(claimed);
        delivery.ack_confirmed().await.unwrap();
    }
    // In hand, and waiting.
    assert!((1..=24).contains(&most), "{most} rows were claimed");
}
