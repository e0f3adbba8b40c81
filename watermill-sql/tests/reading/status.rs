//! Status without a subscriber.

use watermill_sql::{Count, SqlStatus};

use super::*;

fn status<S: Server>(pool: &Pool<S::Database>) -> SqlStatus<S::Database> {
    SqlStatus::new(pool.clone())
}

fn exactly(count: Count) -> u64 {
    assert!(count.is_exact);
    count.rows
}

pub(crate) async fn the_status_of_a_log_tells_of_each_group_where_it_is_and_who_reads<S: Server>() {
    for config in S::ways() {
        let server = S::default();
        let pool = server.connect().await;
        publisher::<S>(&pool).publish("t", numbered(0..5)).await.unwrap();
        let before = status::<S>(&pool).log("t").await.unwrap();
        assert!(before.groups.is_empty(), "{before:?}");
        reader::<S>(&pool, config.clone().group("idle")).initialize("t").await.unwrap();
        let mut subscription = reader::<S>(&pool, config.group("busy")).subscribe("t").await.unwrap();
        read(&mut subscription, 2).await;
        let log = status::<S>(&pool).log("t").await.unwrap();
        let [busy, idle] = &log.groups[..] else { panic!("{log:?}") };
        assert_eq!((busy.group.as_str(), busy.position, exactly(busy.backlog)), ("busy", 2, 3));
        let owner = busy.owner.as_ref().expect("it is read");
        assert!(owner.remaining <= Duration::from_secs(5), "{owner:?}");
        assert!(busy.oldest_unread.unwrap() < Duration::from_secs(600), "{busy:?}");
        assert_eq!((idle.group.as_str(), idle.position, exactly(idle.backlog)), ("idle", 0, 5));
        assert_eq!(idle.owner, None);
        read(&mut subscription, 3).await;
        subscription.close().await.unwrap();
        let log = status::<S>(&pool).log("t").await.unwrap();
        assert_eq!((exactly(log.groups[0].backlog), log.groups[0].oldest_unread), (0, None));
        assert_eq!(log.groups[0].owner, None);
    }
}

pub(crate) async fn the_status_of_a_log_tells_who_writes<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..1)).await.unwrap();
    let mut writer = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut writer).publish("t", numbered(1..2)).await.unwrap();
    let writers = status::<S>(&pool).log("t").await.unwrap().writers;
    assert_eq!(!writers.is_empty(), S::MANY_WRITERS, "{writers:?}");
    assert!(writers.iter().all(|writer| writer.id > 0 && writer.age.is_some()), "{writers:?}");
    writer.commit().await.unwrap();
}

pub(crate) async fn a_large_backlog_is_not_counted<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    for _ in 0..11 {
        publisher::<S>(&pool).publish("t", vec![Message::new("1"); 1_000]).await.unwrap();
    }
    reader::<S>(&pool, SqlSubscriberConfig::default()).initialize("t").await.unwrap();
    let log = status::<S>(&pool).log("t").await.unwrap();
    let backlog = log.groups[0].backlog;
    assert_eq!((backlog.rows, backlog.is_exact), (11_000, false));
}

pub(crate) async fn the_status_of_a_queue_tells_what_waits_for_what<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let config = SqlPublisherConfig::default().layout(Layout::Queue);
    let publisher = SqlPublisher::new(pool.clone(), config).unwrap();
    publisher.publish("t", numbered(0..3)).await.unwrap();
    publisher.publish("t", vec![Message::new("9").delay_for(Duration::from_secs(3_600))]).await.unwrap();
    publisher.publish("dead", numbered(0..2)).await.unwrap();
    let worker = SqlQueueSubscriber::new(pool.clone(), SqlQueueSubscriberConfig::default().batch_size(1));
    let mut subscription = worker.unwrap().subscribe("t").await.unwrap();
    let delivery = next(&mut subscription).await;
    let queue = status::<S>(&pool).queue("t", Some("dead")).await.unwrap();
    assert_eq!((exactly(queue.delayed), queue.dead.map(exactly)), (1, Some(2)));
    // It has claimed one more, perhaps.
    let in_hand = exactly(queue.in_hand);
    assert!((1..=2).contains(&in_hand), "{queue:?}");
    assert_eq!(exactly(queue.due) + in_hand, 3);
    drop(delivery);
}

pub(crate) async fn rows_are_looked_at_and_stay<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("log", vec![Message::with_id("a", "1").with_key("k")]).await.unwrap();
    let config = SqlPublisherConfig::default().layout(Layout::Queue);
    let queue = SqlPublisher::new(pool.clone(), config).unwrap();
    queue.publish("queue", vec![Message::with_id("a", "1").with_key("k")]).await.unwrap();
    let broken = r#"(uuid, payload, metadata) values ('broken', '2', '{"a":1}')"#;
    for topic in ["log", "queue"] {
        S::execute(&pool, &format!("insert into watermill_{topic} {broken}")).await;
        for _ in 0..2 {
            let rows = status::<S>(&pool).peek(topic, 0, 10).await.unwrap();
            let [good, bad] = &rows[..] else { panic!("{rows:?}") };
            assert_eq!((good.offset, good.message.id().as_str()), (1, "a"));
            assert_eq!(good.message.key().map(|key| &key[..]), Some(&b"k"[..]));
            assert!(good.unreadable.is_none() && good.published_at.is_some());
            assert_eq!((bad.message.id().as_str(), bad.message.payload().as_ref()), ("broken", &b"2"[..]));
            assert!(bad.unreadable.is_some());
        }
        assert_eq!(status::<S>(&pool).peek(topic, 1, 10).await.unwrap().len(), 1);
    }
}

pub(crate) async fn what_is_not_there_is_said_and_not_made<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).initialize("log").await.unwrap();
    let status = status::<S>(&pool);
    let errors = [
        status.log("missing").await.map(drop).unwrap_err(),
        status.queue("missing", None).await.map(drop).unwrap_err(),
        status.queue("log", None).await.map(drop).unwrap_err(),
        status.peek("missing", 0, 1).await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), SubscribeErrorKind::Topic, "{error}");
    }
    assert!(status.log("log").await.unwrap().groups.is_empty());
}
