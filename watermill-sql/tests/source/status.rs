//! Status of tables that are not ours, without a subscriber.

use std::sync::Mutex;

use watermill_sql::{Count, SqlStatus};

use super::{
    outbox::{fill, source},
    *,
};

fn exactly(count: Count) -> u64 {
    assert!(count.is_exact);
    count.rows
}

pub(crate) async fn the_status_of_a_source_that_is_a_log_tells_of_each_group_where_it_is<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    let source = source().topic("relay").published_at("written_at");
    let status = SqlStatus::new(pool.clone()).source(source.clone());
    assert!(status.log("relay").await.unwrap().groups.is_empty(), "nobody reads it");
    fill::<S>(&pool, 0..5).await;
    log::<S>(&pool, source.clone()).in_group("idle").unwrap().initialize("relay").await.unwrap();
    let busy = log::<S>(&pool, source.clone()).in_group("busy").unwrap();
    let mut subscription = busy.subscribe("relay").await.unwrap();
    read(&mut subscription, 2).await;
    let found = status.log("relay").await.unwrap();
    let [busy, idle] = &found.groups[..] else { panic!("{found:?}") };
    assert_eq!((busy.group.as_str(), busy.position, exactly(busy.backlog)), ("busy", 2, 3));
    assert!(busy.owner.is_some());
    assert!(busy.oldest_unread.unwrap() < Duration::from_secs(600), "{busy:?}");
    assert_eq!((idle.group.as_str(), idle.position, exactly(idle.backlog)), ("idle", 0, 5));

    // Whoever reads knows it, too.
    let delivery = next(&mut subscription).await;
    assert!(delivery.info().published_at().unwrap().elapsed().unwrap_or_default() < Duration::from_secs(600));
    assert!(subscription.status().oldest_unsettled.unwrap() < Duration::from_secs(600));
    let rows = status.peek("relay", 3, 10).await.unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.offset, &row.message.payload()[..])).collect();
    assert_eq!(rows, [(4, &b"3"[..]), (5, b"4")]);
    assert_eq!(status.newest("relay").await.unwrap(), Some(5));

    // Without a column of times, no age is known.
    let ageless = SqlStatus::new(pool.clone()).source(outbox::source().topic("relay"));
    assert_eq!(ageless.log("relay").await.unwrap().groups[1].oldest_unread, None);
}

pub(crate) async fn the_status_of_a_source_that_is_a_queue_tells_what_waits_for_what<S: Outbox>() {
    for after_ack in [AfterAck::Keep, AfterAck::Delete, AfterAck::mark("relayed_at")] {
        let server = S::default();
        let pool = server.with_outbox().await;
        let source = SqlSource::table("outbox").published_at("written_at").after_ack(after_ack);
        let status = SqlStatus::new(pool.clone()).source(source.clone());
        let early = status.queue("outbox", None).await.unwrap_err();
        assert_eq!(early.kind(), SubscribeErrorKind::Topic, "{early}");
        fill::<S>(&pool, 0..6).await;
        let config =
            SqlQueueSubscriberConfig::default().source(source).batch_size(1).dead_letter_topic("dead");
        let worker = SqlQueueSubscriber::new(pool.clone(), config).unwrap();
        let mut subscription = worker.subscribe("outbox").await.unwrap();
        next(&mut subscription).await.ack_confirmed().await.unwrap();
        next(&mut subscription).await.settle_confirmed(rejected()).await.unwrap();
        next(&mut subscription).await.settle_confirmed(nacked()).await.unwrap();
        let delivery = next(&mut subscription).await;
        // Between two counts it may claim one more.
        let agreed = Mutex::new(None);
        until("the counts to agree", async || {
            let queue = status.queue("outbox", Some("dead")).await.unwrap();
            let agree = exactly(queue.due) + exactly(queue.in_hand) == 3;
            *agreed.lock().unwrap() = Some(queue);
            agree
        })
        .await;
        let queue = agreed.into_inner().unwrap().unwrap();
        assert_eq!((exactly(queue.delayed), queue.dead.map(exactly)), (1, Some(1)), "{queue:?}");
        // It has claimed one more, perhaps.
        let in_hand = exactly(queue.in_hand);
        assert!((1..=2).contains(&in_hand), "{queue:?}");
        assert!(queue.oldest_unclaimed.unwrap() < Duration::from_secs(600), "{queue:?}");
        let unnumbered = status.peek("outbox", 0, 1).await.unwrap_err();
        assert!(unnumbered.to_string().contains("SqlSource::offset"), "{unnumbered}");
        delivery.ack_confirmed().await.unwrap();
    }
}

fn rejected() -> Outcome {
    Outcome::Reject { reason: "no".to_owned() }
}

fn nacked() -> Outcome {
    Outcome::Nack { delay: Duration::from_secs(3_600) }
}
