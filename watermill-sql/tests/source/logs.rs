//! Reading as a log.

use super::{
    outbox::{count, fill, id, insert, source},
    *,
};

pub(crate) async fn columns_become_id_payload_key_and_metadata<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 7..8).await;
    S::execute(&pool, &format!("insert into outbox (id) values ('{}')", id(8))).await;
    let mut subscription = log::<S>(&pool, source()).subscribe("outbox").await.unwrap();
    let full = next(&mut subscription).await;
    assert_eq!((full.id().as_str(), &full.payload()[..]), (&*id(7), &b"7"[..]));
    assert_eq!(full.key().unwrap(), "c-7");
    let metadata: Vec<_> = full.metadata().iter().collect();
    assert_eq!(metadata, [("n", "7"), ("trace", "t"), ("type", "placed")]);
    assert_eq!(full.info().offset(), Some(1));
    full.ack();
    let empty = next(&mut subscription).await;
    assert_eq!((empty.id().as_str(), empty.payload().len(), empty.key()), (&*id(8), 0, None));
    assert!(empty.metadata().is_empty());
    empty.ack();
    subscription.close().await.unwrap();
}

pub(crate) async fn positions_are_ours_and_the_table_stays_as_it_is<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 0..3).await;
    let subscriber = log::<S>(&pool, source().topic("relay"));
    let mut subscription = subscriber.subscribe("relay").await.unwrap();
    assert_eq!(read(&mut subscription, 2).await, ["0", "1"]);
    subscription.close().await.unwrap();
    fill::<S>(&pool, 3..4).await;
    let mut successor = subscriber.subscribe("relay").await.unwrap();
    assert_eq!(read(&mut successor, 2).await, ["2", "3"]);
    let mut other = subscriber.in_group("other").unwrap().subscribe("relay").await.unwrap();
    assert_eq!(read(&mut other, 4).await, ["0", "1", "2", "3"]);
    assert_eq!(count::<S>(&pool, "relayed = false and relayed_at is null").await, 4);
    assert_eq!(S::number(&pool, "select max(offset_acked) from watermill_offsets_relay").await, 4);
}

pub(crate) async fn what_commits_late_is_read_in_its_place_and_what_is_rolled_back_is_passed<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 0..1).await;
    let mut subscription = log::<S>(&pool, source()).subscribe("outbox").await.unwrap();
    assert_eq!(read(&mut subscription, 1).await, ["0"]);
    if S::MANY_WRITERS {
        let mut late = pool.begin().await.unwrap();
        S::execute_in(&mut late, &insert(1)).await;
        let mut void = pool.begin().await.unwrap();
        S::execute_in(&mut void, &insert(2)).await;
        fill::<S>(&pool, 3..4).await;
        void.rollback().await.unwrap();
        fill::<S>(&pool, 4..5).await;
        // A group that sees all of that at once, while the first is still open.
        let mut another = log::<S>(&pool, source()).in_group("g").unwrap().subscribe("outbox").await.unwrap();
        late.commit().await.unwrap();
        assert_eq!(read(&mut subscription, 3).await, ["1", "3", "4"]);
        assert_eq!(read(&mut another, 4).await, ["0", "1", "3", "4"]);
    }
    fill::<S>(&pool, 5..6).await;
    assert_eq!(read(&mut subscription, 1).await, ["5"]);
}

pub(crate) async fn a_row_that_was_acked_is_deleted_and_no_other<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 0..5).await;
    let subscriber = log::<S>(&pool, source().after_ack(AfterAck::Delete));
    let mut subscription = subscriber.subscribe("outbox").await.unwrap();
    // Its number is below what is read already, so that it is never read: it must not go unseen, too.
    S::execute(&pool, &insert(9).replace("(id,", "(seq, id,").replace("values (", "values (-3, ")).await;
    assert_eq!(read(&mut subscription, 3).await, ["0", "1", "2"]);
    assert_eq!(count::<S>(&pool, "seq > 0").await, 2);
    assert_eq!(count::<S>(&pool, "seq = -3").await, 1);
    // Acked ahead of one that is not: they go together.
    let delivery = next(&mut subscription).await;
    subscription.close().await.unwrap();
    drop(delivery);
    let mut successor = subscriber.subscribe("outbox").await.unwrap();
    assert_eq!(read(&mut successor, 2).await, ["3", "4"]);
    assert_eq!(count::<S>(&pool, "seq > 0").await, 0);
    fill::<S>(&pool, 5..6).await;
    assert_eq!(read(&mut successor, 1).await, ["5"]);
}

pub(crate) async fn a_row_that_was_acked_is_marked<S: Outbox>() {
    for (column, marked) in [("relayed_at", "relayed_at is not null"), ("relayed", "relayed = true")] {
        let server = S::default();
        let pool = server.with_outbox().await;
        fill::<S>(&pool, 0..3).await;
        let source = source().after_ack(AfterAck::mark(column));
        let mut subscription = log::<S>(&pool, source).subscribe("outbox").await.unwrap();
        read(&mut subscription, 2).await;
        assert_eq!(count::<S>(&pool, marked).await, 2);
        assert_eq!(count::<S>(&pool, &format!("{marked} and seq = 3")).await, 0);
    }
}

pub(crate) async fn a_row_that_was_rejected_is_moved_to_the_dead_letters<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 0..2).await;
    let subscriber = log::<S>(&pool, source().after_ack(AfterAck::Delete)).with_dead_letters("dead").unwrap();
    let mut subscription = subscriber.subscribe("outbox").await.unwrap();
    next(&mut subscription).await.reject("no");
    assert_eq!(read(&mut subscription, 1).await, ["1"]);
    assert_eq!(count::<S>(&pool, "1 = 1").await, 0);
    let ours = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).unwrap();
    let mut dead = ours.subscribe("dead").await.unwrap();
    let letter = next(&mut dead).await;
    assert_eq!(letter.id().as_str(), id(0));
    assert_eq!(letter.key().unwrap(), "c-0");
}

pub(crate) async fn a_row_that_is_no_message_is_moved_to_the_dead_letters<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    S::execute(&pool, &insert(0).replace("{\"trace\":\"t\",\"n\":0}", "[1]")).await;
    fill::<S>(&pool, 1..2).await;
    let subscriber = log::<S>(&pool, source()).with_dead_letters("dead").unwrap();
    let mut subscription = subscriber.subscribe("outbox").await.unwrap();
    let error = subscription.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Undecodable);
    assert_eq!(read(&mut subscription, 1).await, ["1"]);
    assert_eq!(S::number(&pool, "select count(*) from watermill_dead").await, 1);
}
