//! Behaviour on SQLite files.

use std::{num::NonZeroUsize, time::Duration};

use futures::{FutureExt, StreamExt};
use sqlx::{
    Row, Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tempfile::TempDir;
use watermill_core::{
    Backoff, Delivery, Message, Publisher, PublisherExt, Subscriber, Subscription, Window,
    error::{NotAccepted, PublishErrorKind, SettleErrorKind, SubscribeErrorKind},
    subscription::Health,
};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig, StartPosition};

/// A database file that goes with the test.
struct Database {
    directory: TempDir,
}

impl Database {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    async fn pool(&self) -> SqlitePool {
        self.pool_of(5).await
    }

    async fn pool_of(&self, connections: u32) -> SqlitePool {
        let options = SqliteConnectOptions::new()
            .filename(self.directory.path().join("test.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        SqlitePoolOptions::new().max_connections(connections).connect_with(options).await.unwrap()
    }
}

fn publisher(pool: &SqlitePool) -> SqlPublisher<Sqlite> {
    SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap()
}

fn subscriber(pool: &SqlitePool) -> SqlSubscriber<Sqlite> {
    subscriber_with(pool, SqlSubscriberConfig::default())
}

fn subscriber_with(pool: &SqlitePool, config: SqlSubscriberConfig) -> SqlSubscriber<Sqlite> {
    SqlSubscriber::new(pool.clone(), config).unwrap()
}

fn numbered(range: std::ops::Range<usize>) -> Vec<Message> {
    range.map(|n| Message::new(n.to_string())).collect()
}

async fn next(subscription: &mut Subscription) -> Delivery {
    tokio::time::timeout(Duration::from_secs(20), subscription.next())
        .await
        .expect("a delivery comes")
        .expect("the stream goes on")
        .unwrap()
}

async fn payload(subscription: &mut Subscription) -> String {
    let delivery = next(subscription).await;
    let text = String::from_utf8(delivery.payload().to_vec()).unwrap();
    delivery.ack();
    text
}

async fn position(pool: &SqlitePool, topic: &str, group: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        r#"select offset_acked from "watermill_offsets_{topic}" where consumer_group = ?"#
    )))
    .bind(group)
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn count(pool: &SqlitePool, topic: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!(r#"select count(*) from "watermill_{topic}""#)))
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_is_published_in_a_transaction_comes_with_its_commit_and_in_order() {
    let database = Database::new();
    let pool = database.pool().await;
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();

    let mut transaction = pool.begin().await.unwrap();
    {
        let publisher = SqlPublisher::in_transaction(&mut transaction);
        let publisher: &dyn Publisher = &publisher;
        publisher.publish("t", numbered(0..2)).await.unwrap();
        publisher.publish("t", numbered(2..3)).await.unwrap();
    }
    assert!(subscription.next().now_or_never().is_none());
    transaction.commit().await.unwrap();
    for n in 0..3 {
        assert_eq!(payload(&mut subscription).await, n.to_string());
    }
    subscription.close().await.unwrap();
    assert_eq!(position(&pool, "t", "").await, 3);
}

#[tokio::test]
async fn a_rollback_publishes_nothing_and_takes_the_new_table_with_it() {
    let database = Database::new();
    let pool = database.pool().await;
    let mut transaction = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut transaction).publish("t", numbered(0..2)).await.unwrap();
    transaction.rollback().await.unwrap();
    let tables: i64 = sqlx::query_scalar("select count(*) from sqlite_schema where name = 'watermill_t'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(tables, 0);
    publisher(&pool).publish("t", numbered(7..8)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "7");
}

#[tokio::test]
async fn the_callers_rows_and_the_messages_are_one() {
    let database = Database::new();
    let pool = database.pool().await;
    sqlx::query("create table winners (name text)").execute(&pool).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("insert into winners values ('ann')").execute(&mut *transaction).await.unwrap();
    // A call that fails leaves the transaction usable, and nothing of itself in it.
    let publisher = SqlPublisher::in_transaction(&mut transaction);
    let bad = vec![Message::new("good"), Message::with_id("x".repeat(37), "bad")];
    publisher.publish("t", bad).await.unwrap_err();
    publisher.publish("t", numbered(0..1)).await.unwrap();
    drop(publisher);
    transaction.commit().await.unwrap();
    assert_eq!(count(&pool, "t").await, 1);
    let winners: i64 = sqlx::query_scalar("select count(*) from winners").fetch_one(&pool).await.unwrap();
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_not_skipped() {
    let database = Database::new();
    let pool = database.pool().await;
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    let mut writers = Vec::new();
    for writer in 0..8 {
        let pool = pool.clone();
        writers.push(tokio::spawn(async move {
            let mut committed = Vec::new();
            for round in 0..10 {
                let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
                let mine: Vec<_> = (0..3).map(|n| format!("{writer}-{round}-{n}")).collect();
                let publisher = SqlPublisher::in_transaction(&mut transaction);
                for payload in &mine {
                    publisher.publish_one("t", Message::new(payload.clone())).await.unwrap();
                    tokio::task::yield_now().await;
                }
                drop(publisher);
                if round % 3 == 0 {
                    transaction.rollback().await.unwrap();
                } else {
                    transaction.commit().await.unwrap();
                    committed.extend(mine);
                }
            }
            committed
        }));
    }
    let mut committed = Vec::new();
    let mut delivered = Vec::new();
    for writer in writers {
        let done = tokio::spawn(writer);
        committed.extend(done.await.unwrap().unwrap());
    }
    for _ in 0..committed.len() {
        delivered.push(payload(&mut subscription).await);
    }
    let rows =
        sqlx::query(r#"select payload from watermill_t order by "offset""#).fetch_all(&pool).await.unwrap();
    let stored: Vec<_> =
        rows.iter().map(|row| String::from_utf8(row.get::<Vec<u8>, _>(0)).unwrap()).collect();
    assert_eq!(delivered, stored);
    committed.sort();
    delivered.sort();
    assert_eq!(delivered, committed);
    assert!(subscription.next().now_or_never().is_none());
}

#[tokio::test]
async fn every_group_gets_every_message() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let base = subscriber(&pool);
    for group in ["billing", "shipping", ""] {
        let mut subscription = base.in_group(group).unwrap().subscribe("t").await.unwrap();
        for n in 0..3 {
            assert_eq!(payload(&mut subscription).await, n.to_string());
        }
        subscription.close().await.unwrap();
        assert_eq!(position(&pool, "t", group).await, 3);
    }
}

#[tokio::test]
async fn a_group_that_starts_latest_gets_what_comes_after_it_was_made() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    publisher.publish("t", numbered(0..3)).await.unwrap();
    let late = subscriber_with(&pool, SqlSubscriberConfig::default().start(StartPosition::Latest));
    late.initialize("t").await.unwrap();
    publisher.publish("t", numbered(3..4)).await.unwrap();
    let mut subscription = late.subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "3");
}

#[tokio::test]
async fn a_frozen_owner_is_fenced_off_after_a_take_over() {
    // P38 and P39: a paused relay holds its peer up, and publishes the rest of its batch when it wakes.
    let database = Database::new();
    let (pool, frozen_pool) = (database.pool().await, database.pool_of(1).await);
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let config = SqlSubscriberConfig::default().lease(Duration::from_millis(300));

    let mut zombie = subscriber_with(&frozen_pool, config.clone()).subscribe("t").await.unwrap();
    let outstanding = next(&mut zombie).await;
    let watch = outstanding.cancellation();
    // Without its only connection it can neither renew its lease nor notice that it is gone.
    let ice = frozen_pool.acquire().await.unwrap();

    let mut successor = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    let again = next(&mut successor).await;
    assert_eq!(again.payload(), "0");
    assert!(again.info().redelivered());
    again.ack_confirmed().await.unwrap();
    assert_eq!(position(&pool, "t", "").await, 1);

    // It hands out nothing any more, though it has fetched more.
    assert!(!watch.is_cancelled());
    zombie.set_window(Window::ordered(NonZeroUsize::new(10).unwrap()));
    assert!(zombie.next().now_or_never().is_none());
    drop(ice);
    let refused = outstanding.ack_confirmed().await.unwrap_err();
    assert_eq!(refused.kind(), SettleErrorKind::Lost);
    watch.cancelled().await;
    assert!(matches!(zombie.health(), Health::Degraded { .. }));
    assert_eq!(payload(&mut successor).await, "1");
    successor.close().await.unwrap();
    assert_eq!(position(&pool, "t", "").await, 2);
    // And it stands by: what is left is its own again.
    assert_eq!(payload(&mut zombie).await, "2");
}

#[tokio::test]
async fn a_graceful_stop_hands_over_at_once() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..4)).await.unwrap();
    // With a lease of an hour only the hand-over can make this test end.
    let config = SqlSubscriberConfig::default().lease(Duration::from_secs(3600));
    let subscriber = subscriber_with(&pool, config);
    let mut first = subscriber.subscribe("t").await.unwrap();
    assert_eq!(payload(&mut first).await, "0");
    let mut second = subscriber.subscribe("t").await.unwrap();
    let outstanding = next(&mut first).await;
    assert!(second.next().now_or_never().is_none());
    first.close().await.unwrap();
    let again = next(&mut second).await;
    assert_eq!((again.payload().as_ref(), again.info().attempt()), (&b"1"[..], 2));
    again.ack();
    assert_eq!(outstanding.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
    let fresh = next(&mut second).await;
    assert_eq!((fresh.payload().as_ref(), fresh.info().redelivered()), (&b"2"[..], false));
}

#[tokio::test]
async fn a_subscription_that_is_dropped_gives_its_lease_back() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let config = SqlSubscriberConfig::default().lease(Duration::from_secs(3600));
    let subscriber = subscriber_with(&pool, config);
    let mut first = subscriber.subscribe("t").await.unwrap();
    next(&mut first).await.ack_confirmed().await.unwrap();
    let outstanding = next(&mut first).await;
    drop(first);
    let mut second = subscriber.subscribe("t").await.unwrap();
    assert_eq!(payload(&mut second).await, "1");
    drop(outstanding);
    assert_eq!(payload(&mut second).await, "2");
}

#[test]
fn a_process_that_dies_loses_no_message() {
    let database = Database::new();
    let config = SqlSubscriberConfig::default().lease(Duration::from_millis(300));
    let run = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = run();
    let delivered = first.block_on(async {
        let pool = database.pool().await;
        publisher(&pool).publish("t", numbered(0..50)).await.unwrap();
        let mut subscription = subscriber_with(&pool, config.clone()).subscribe("t").await.unwrap();
        let mut delivered = Vec::new();
        for _ in 0..20 {
            let delivery = next(&mut subscription).await;
            delivered.push(String::from_utf8(delivery.payload().to_vec()).unwrap());
            if delivered.len() == 10 {
                delivery.ack_confirmed().await.unwrap();
            } else {
                delivery.ack();
            }
        }
        // Neither closed nor dropped: the runtime stops under it.
        std::mem::forget(subscription);
        delivered
    });
    first.shutdown_background();
    run().block_on(async {
        let pool = database.pool().await;
        let recorded = position(&pool, "t", "").await;
        assert!(recorded >= 10);
        let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
        let resumed = next(&mut subscription).await;
        assert!(resumed.info().redelivered());
        let at: usize = std::str::from_utf8(resumed.payload()).unwrap().parse().unwrap();
        assert!(at >= 10 && at <= delivered.len(), "{at}");
        resumed.ack();
        for n in at + 1..50 {
            assert_eq!(payload(&mut subscription).await, n.to_string());
        }
    });
}

#[tokio::test]
async fn tables_that_go_made_are_read_and_written_without_migration() {
    let database = Database::new();
    let pool = database.pool().await;
    for statement in [
        r#"create table "watermill_t" ("offset" integer primary key autoincrement, uuid text not null,
           created_at text not null, payload blob not null, metadata json not null)"#,
        r#"create table "watermill_offsets_t" (consumer_group text not null, offset_acked integer not null,
           locked_until integer not null, primary key (consumer_group))"#,
        r#"insert into "watermill_t" (uuid, created_at, payload, metadata) values
           ('a', '2024-05-01T10:00:00+02:00', x'00ff', '{"k":"v"}'), ('b', '2024-05-01T10:00:01Z', 'text', 'null')"#,
        r#"insert into "watermill_offsets_t" values ('', 1, 0)"#,
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let group = SqlSubscriberConfig::default().group("rust");
    let mut subscription = subscriber_with(&pool, group).subscribe("t").await.unwrap();
    let a = next(&mut subscription).await;
    assert_eq!((a.id().as_str(), &a.payload()[..]), ("a", &[0, 255][..]));
    assert_eq!(a.metadata().get("k"), Some("v"));
    let published_at = a.info().published_at().unwrap();
    assert_eq!(published_at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 1_714_550_400);
    a.ack();

    // The group that Go has left goes on where it stopped.
    let mut resumed = subscriber(&pool).subscribe("t").await.unwrap();
    let b = next(&mut resumed).await;
    assert_eq!((b.id().as_str(), b.payload().as_ref()), ("b", &b"text"[..]));
    b.ack_confirmed().await.unwrap();
    let locked: i64 = sqlx::query_scalar(
        "select locked_until - unixepoch() from watermill_offsets_t where consumer_group = ''",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert!(locked > 0, "a Go reader stays out while this one reads");
    resumed.close().await.unwrap();
    let (acked, locked_until): (i64, i64) = sqlx::query_as(
        "select offset_acked, locked_until from watermill_offsets_t where consumer_group = ''",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!((acked, locked_until), (2, 0));

    publisher(&pool).publish("t", vec![Message::with_id("c", "out").with_metadata("a", "b")]).await.unwrap();
    let (created_at, metadata): (String, String) =
        sqlx::query_as("select created_at, metadata from watermill_t where uuid = 'c'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert!(created_at.ends_with('Z') && created_at.contains('T'), "{created_at}");
    assert_eq!(metadata, r#"{"a":"b"}"#);
}

#[tokio::test]
async fn a_go_reader_at_work_is_waited_for_and_one_that_takes_over_is_noticed() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..2)).await.unwrap();
    let subscriber = subscriber(&pool);
    subscriber.initialize("t").await.unwrap();
    let lock = "update watermill_offsets_t set locked_until = unixepoch() + 60";
    sqlx::query(lock).execute(&pool).await.unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let waiting = async {
        loop {
            if let Health::Degraded { reason } = subscription.health()
                && reason.contains("Go")
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    sqlx::query("update watermill_offsets_t set locked_until = 0").execute(&pool).await.unwrap();
    let delivery = next(&mut subscription).await;
    sqlx::query(lock).execute(&pool).await.unwrap();
    assert_eq!(delivery.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
    assert_eq!(position(&pool, "t", "").await, 0);
}

#[tokio::test]
async fn what_plain_sql_inserts_is_delivered() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    publisher.initialize("t").await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    sqlx::query("insert into watermill_t (uuid, payload) values ('1', 'hello')")
        .execute(&pool)
        .await
        .unwrap();
    let delivery = next(&mut subscription).await;
    assert_eq!((delivery.id().as_str(), delivery.payload().as_ref()), ("1", &b"hello"[..]));
    assert!(delivery.metadata().is_empty());
    assert!(delivery.info().published_at().is_some());
}

const MENDED: &str = "update watermill_t set metadata = '{}' where uuid = 'broken'";
const BROKEN: &str = r#"insert into watermill_t (uuid, payload, metadata) values ('broken', 'x', '{"a":1}')"#;

#[tokio::test]
async fn an_unreadable_row_is_reported_and_held_until_it_is_mended() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    publisher.publish("t", numbered(0..1)).await.unwrap();
    sqlx::query(BROKEN).execute(&pool).await.unwrap();
    publisher.publish("t", numbered(1..2)).await.unwrap();
    let config = SqlSubscriberConfig::default().retry(Backoff::constant(Duration::from_millis(20)));
    let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    // What comes before the row is delivered, what comes after it waits, and every look is reported.
    let (mut seen, mut errors) = (Vec::new(), 0);
    while seen.len() < 3 {
        match subscription.next().await.unwrap() {
            Ok(delivery) => {
                seen.push(String::from_utf8(delivery.payload().to_vec()).unwrap());
                delivery.ack();
            }
            Err(error) => {
                assert_eq!(error.kind(), SubscribeErrorKind::Undecodable);
                assert!(error.to_string().contains("offset 2"), "{error}");
                errors += 1;
                if errors == 3 {
                    assert_eq!(seen, ["0"]);
                    sqlx::query(MENDED).execute(&pool).await.unwrap();
                }
            }
        }
    }
    assert_eq!(seen, ["0", "x", "1"]);
}

#[tokio::test]
async fn with_a_dead_letter_topic_unreadable_and_rejected_rows_are_moved_there() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    publisher.initialize("t").await.unwrap();
    sqlx::query(BROKEN).execute(&pool).await.unwrap();
    publisher
        .publish("t", vec![Message::with_id("no", "payload").with_key("k"), Message::with_id("yes", "")])
        .await
        .unwrap();
    let config = SqlSubscriberConfig::default().dead_letter_topic("dead");
    let dying = subscriber_with(&pool, config);
    assert!(dying.capabilities().dead_letters);
    let mut subscription = dying.subscribe("t").await.unwrap();
    let error = subscription.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Undecodable);
    let rejected = next(&mut subscription).await;
    assert_eq!(rejected.id(), &"no");
    rejected.reject("no such customer");
    let accepted = next(&mut subscription).await;
    assert_eq!(accepted.id(), &"yes");
    accepted.ack_confirmed().await.unwrap();
    assert_eq!(position(&pool, "t", "").await, 3);

    let mut dead = subscriber(&pool).subscribe("dead").await.unwrap();
    let unreadable = next(&mut dead).await;
    assert_eq!((unreadable.id().as_str(), unreadable.payload().as_ref()), ("broken", &b"x"[..]));
    assert_eq!(unreadable.metadata().get("metadata_poisoned"), Some(r#"{"a":1}"#));
    unreadable.ack();
    let rejected = next(&mut dead).await;
    assert_eq!(rejected.key().map(|key| &key[..]), Some(&b"k"[..]));
    assert_eq!(rejected.metadata().get("reason_poisoned"), Some("no such customer"));
    assert_eq!(rejected.metadata().get("topic_poisoned"), Some("t"));
}

#[tokio::test]
async fn a_call_with_very_many_messages_is_all_or_nothing() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..2_500)).await.unwrap();
    assert_eq!(count(&pool, "t").await, 2_500);
    // The last of these meets a constraint, in the third statement of the call.
    sqlx::query("create unique index one on watermill_t (uuid)").execute(&pool).await.unwrap();
    let mut messages = numbered(0..2_500);
    messages.push(Message::with_id(messages[0].id().clone(), "twice"));
    let error = publisher(&pool).publish("t", messages.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.not_accepted()), (PublishErrorKind::Refused, &NotAccepted::All));
    assert_eq!(count(&pool, "t").await, 2_500);
    // Inside a transaction too, which stays usable.
    let mut transaction = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut transaction).publish("t", messages).await.unwrap_err();
    SqlPublisher::in_transaction(&mut transaction).publish("t", numbered(0..1)).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(count(&pool, "t").await, 2_501);
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_before_anything_is_sent() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    let error = publisher
        .publish("t", vec![Message::new(""), Message::with_id("x".repeat(37), "")])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Message);
    assert!(!error.is_retryable());
    let error = publisher.publish("no spaces", numbered(0..1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Topic);
    assert_eq!(subscriber(&pool).subscribe("no spaces").await.unwrap_err().kind(), SubscribeErrorKind::Topic);
    let tables: i64 =
        sqlx::query_scalar("select count(*) from sqlite_schema").fetch_one(&pool).await.unwrap();
    assert_eq!(tables, 0);
}

#[tokio::test]
async fn an_empty_call_sends_nothing() {
    // P34: Go sends a statement without rows, which is a syntax error.
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", Vec::new()).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut transaction).publish("t", Vec::new()).await.unwrap();
    let tables: i64 =
        sqlx::query_scalar("select count(*) from sqlite_schema").fetch_one(&mut *transaction).await.unwrap();
    assert_eq!(tables, 0);
}

#[tokio::test]
async fn many_may_initialise_an_empty_database_at_once() {
    // P37: of two Go processes that do, one dies.
    let database = Database::new();
    let pools = [database.pool().await, database.pool().await, database.pool().await];
    let tasks = (0..24).map(|n| {
        let pool = pools[n % pools.len()].clone();
        tokio::spawn(async move {
            match n % 3 {
                0 => subscriber(&pool).initialize("t").await.unwrap(),
                1 => publisher(&pool).initialize("t").await.unwrap(),
                _ => publisher(&pool).publish("t", numbered(n..n + 1)).await.unwrap(),
            }
        })
    });
    for task in futures::future::join_all(tasks).await {
        task.unwrap();
    }
    assert_eq!(count(&pools[0], "t").await, 8);
}

#[tokio::test]
async fn a_table_that_is_not_ours_is_refused_by_name() {
    let database = Database::new();
    let pool = database.pool().await;
    sqlx::query("create table watermill_t (id integer)").execute(&pool).await.unwrap();
    let error = publisher(&pool).publish("t", numbered(0..1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Topic);
    assert!(error.to_string().contains("watermill_t") && error.to_string().contains("uuid"), "{error}");
    let error = subscriber(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Topic);
}

#[tokio::test]
async fn with_initialisation_off_nothing_is_created() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher =
        SqlPublisher::new(pool.clone(), SqlPublisherConfig::default().initialize_schema(false)).unwrap();
    assert_eq!(publisher.publish("t", numbered(0..1)).await.unwrap_err().kind(), PublishErrorKind::Topic);
    let reading = subscriber_with(&pool, SqlSubscriberConfig::default().initialize_schema(false));
    assert_eq!(reading.subscribe("t").await.unwrap_err().kind(), SubscribeErrorKind::Topic);
    subscriber(&pool).initialize("t").await.unwrap();
    publisher.publish("t", numbered(0..1)).await.unwrap();
    let mut subscription = reading.subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
}

#[tokio::test]
async fn a_database_that_is_locked_is_unavailable_and_says_so() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).initialize("t").await.unwrap();
    let options = (*pool.connect_options()).clone().busy_timeout(Duration::from_millis(10));
    let hasty = SqlitePoolOptions::new().connect_with(options).await.unwrap();
    let transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = publisher(&hasty).publish("t", numbered(0..1)).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
    assert!(error.is_retryable());
    transaction.rollback().await.unwrap();
    publisher(&hasty).publish("t", numbered(0..1)).await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_cannot_write_any_more_says_to_run_it_again() {
    let database = Database::new();
    let pool = database.pool().await;
    let outside = publisher(&pool);
    outside.publish("t", numbered(0..1)).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("select * from watermill_t").fetch_all(&mut *transaction).await.unwrap();
    outside.publish("t", numbered(1..2)).await.unwrap();
    let error =
        SqlPublisher::in_transaction(&mut transaction).publish("t", numbered(2..3)).await.unwrap_err();
    assert!(error.is_retryable());
    assert!(error.to_string().contains("BEGIN IMMEDIATE"), "{error}");
}

#[tokio::test]
async fn what_was_acked_out_of_order_does_not_come_again_and_attempts_are_kept() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..4)).await.unwrap();
    let subscriber = subscriber(&pool);
    let mut first = subscriber.subscribe("t").await.unwrap();
    first.set_window(Window::unordered(NonZeroUsize::new(3).unwrap()));
    let (zero, one, two) = (next(&mut first).await, next(&mut first).await, next(&mut first).await);
    zero.nack_after(Duration::from_secs(3600));
    two.ack_confirmed().await.unwrap();
    one.ack();
    first.close().await.unwrap();
    assert_eq!(position(&pool, "t", "").await, 0);

    let mut second = subscriber.subscribe("t").await.unwrap();
    let zero = next(&mut second).await;
    assert_eq!((zero.payload().as_ref(), zero.info().attempt()), (&b"0"[..], 2));
    zero.ack();
    assert_eq!(payload(&mut second).await, "3");
    second.close().await.unwrap();
    assert_eq!(position(&pool, "t", "").await, 4);
}

#[tokio::test]
async fn a_position_that_is_set_back_by_hand_is_read_again_at_once() {
    let database = Database::new();
    let pool = database.pool().await;
    let publisher = publisher(&pool);
    publisher.publish("t", numbered(0..2)).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    next(&mut subscription).await.ack_confirmed().await.unwrap();
    sqlx::query("update watermill_offsets_t set offset_acked = 0").execute(&pool).await.unwrap();
    let refused = next(&mut subscription).await.ack_confirmed().await.unwrap_err();
    assert_eq!(refused.kind(), SettleErrorKind::Lost);
    assert_eq!(payload(&mut subscription).await, "0");
    assert_eq!(payload(&mut subscription).await, "1");
}

#[tokio::test]
async fn acks_of_a_batch_are_recorded_together() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..1_000)).await.unwrap();
    sqlx::query("create table updates (n integer)").execute(&pool).await.unwrap();
    let subscriber =
        subscriber_with(&pool, SqlSubscriberConfig::default().ack_interval(Duration::from_secs(4)));
    subscriber.initialize("t").await.unwrap();
    sqlx::query(
        "create trigger counted after update of offset_acked on watermill_offsets_t begin insert into updates values (1); end",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    for n in 0..1_000 {
        assert_eq!(payload(&mut subscription).await, n.to_string());
    }
    subscription.close().await.unwrap();
    let updates: i64 = sqlx::query_scalar("select count(*) from updates").fetch_one(&pool).await.unwrap();
    assert!(updates <= 11, "{updates}");
}

#[tokio::test]
async fn closing_the_subscriber_closes_its_subscriptions() {
    let database = Database::new();
    let pool = database.pool().await;
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let subscriber = subscriber(&pool);
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
    subscriber.close().await.unwrap();
    subscriber.close().await.unwrap();
    assert!(subscription.next().await.is_none());
    assert_eq!(subscription.health(), Health::Ended);
    assert_eq!(position(&pool, "t", "").await, 1);
    assert_eq!(subscriber.subscribe("t").await.unwrap_err().kind(), SubscribeErrorKind::Closed);
}

#[tokio::test]
async fn a_closed_pool_is_an_error_and_not_silence() {
    let database = Database::new();
    let pool = database.pool().await;
    let config = SqlSubscriberConfig::default().retry(Backoff::constant(Duration::from_millis(5)));
    let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    pool.close().await;
    assert!(
        tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.unwrap().unwrap().is_err()
    );
    assert_eq!(
        publisher(&pool).publish("t", numbered(0..1)).await.unwrap_err().kind(),
        PublishErrorKind::Closed
    );
}
