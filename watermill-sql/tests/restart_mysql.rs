//! A server that crashes and comes back, with the test of the conformance suite for that, and servers whose
//! settings are for one test alone. In a binary of its own, because each of these tests starts a server.

#![cfg(feature = "mysql")]

mod mysql_database;

use std::sync::Arc;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use mysql_database::Database;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, MySqlPool};
use watermill_core::{
    Delivery, Message, Publisher, Subscriber, Subscription,
    error::{PublishErrorKind, SubscribeError, SubscribeErrorKind},
};
use watermill_sql::{
    Layout, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlSubscriber,
    SqlSubscriberConfig,
};
use watermill_testkit::{Backend, Connection, Lack, PrivateServer, Service, suite};

/// A server for this test alone.
struct Restartable {
    database: Database,
    server: Arc<PrivateServer>,
    layout: Layout,
}

#[async_trait]
impl Backend for Restartable {
    async fn connect(&self) -> Connection {
        let pool = self.database.pool().await;
        let publishing = SqlPublisherConfig::default().layout(self.layout);
        let publisher = SqlPublisher::new(pool.clone(), publishing).expect("a valid config");
        match self.layout {
            Layout::Queue => {
                let worker = SqlQueueSubscriber::new(pool, SqlQueueSubscriberConfig::default());
                Connection::new(publisher, worker.expect("a valid config"))
            }
            _ => {
                let subscriber = SqlSubscriber::new(pool, SqlSubscriberConfig::default());
                Connection::new(publisher, subscriber.expect("a valid config"))
            }
        }
    }

    fn lacks(&self) -> &[Lack] {
        match self.layout {
            Layout::Queue => &[Lack::ConsumerTimeout, Lack::History],
            _ => &[Lack::ConsumerTimeout],
        }
    }

    async fn restart(&self) {
        let server = self.server.clone();
        let restarted = tokio::task::spawn_blocking(move || {
            server.kill();
            server.start_again();
        });
        restarted.await.expect("the server comes back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_loses_nothing_of_a_log() {
    a_restart_loses_nothing(Layout::Log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_loses_nothing_of_a_queue() {
    a_restart_loses_nothing(Layout::Queue).await;
}

async fn a_restart_loses_nothing(layout: Layout) {
    let server = PrivateServer::start(Service::MYSQL);
    let database = Database::on(server.url());
    let backend = Restartable { database, server: Arc::new(server), layout };
    suite::delivery::a_restart_of_the_server_loses_nothing(Arc::new(backend)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_primaries_and_a_replica_are_refused_with_the_remedy() {
    let server = PrivateServer::start(Service::MYSQL);
    let database = Database::on(server.url());
    let pool = database.pool().await;
    let subscriber = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).unwrap();
    subscriber.initialize("t").await.unwrap();
    for (wrong, right, remedy) in [
        ("auto_increment_increment = 2", "auto_increment_increment = 1", "set it to 1"),
        ("read_only = 1", "read_only = 0", "connect to the primary"),
    ] {
        execute(&pool, &format!("set global {wrong}")).await;
        let error = subscriber.subscribe("t").await.unwrap_err();
        assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{wrong}: {error}");
        assert!(error.to_string().contains(remedy), "{wrong}: {error}");
        execute(&pool, &format!("set global {right}")).await;
        subscriber.subscribe("t").await.unwrap().close().await.unwrap();
    }

    // An account that may not write to a replica is told to try again, and its subscriber why.
    execute(&pool, "create user app; grant all on *.* to app; revoke super, read_only admin on *.* from app")
        .await;
    let app = MySqlPool::connect_with(database.options.clone().username("app")).await.unwrap();
    let subscriber = SqlSubscriber::new(app.clone(), SqlSubscriberConfig::default()).unwrap();
    let publisher = SqlPublisher::new(app, SqlPublisherConfig::default()).unwrap();
    publisher.publish("t", vec![Message::new("0")]).await.unwrap();
    execute(&pool, "set global read_only = 1").await;
    let error = publisher.publish("t", vec![Message::new("1")]).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable());
    // A new group writes its row, which would fail in the same way: the check comes before.
    let error = subscriber.subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    execute(&pool, "set global read_only = 0").await;
    publisher.publish("t", vec![Message::new("1")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_decides_no_gap_on_a_server_that_has_become_a_replica() {
    let server = PrivateServer::start(Service::MYSQL);
    let database = Database::on(server.url());
    let pool = database.pool().await;
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    publisher.publish("t", vec![Message::new("0")]).await.unwrap();
    let subscriber = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    next(&mut subscription).await.unwrap().ack_confirmed().await.unwrap();

    // Who administers the server may write to it all the same, as its replication does.
    execute(&pool, "set global read_only = 1").await;
    execute(&pool, "alter table watermill_t auto_increment = 3").await;
    publisher.publish("t", vec![Message::new("2")]).await.unwrap();
    let error = next(&mut subscription).await.expect_err("nothing is delivered behind the gap");
    assert!(error.to_string().contains("unavailable"), "{error}");
    let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(why.contains("connect to the primary"), "{why}");
    execute(&pool, "set global read_only = 0").await;
    assert_eq!(payload(&mut subscription).await, "2");
}

/// Go's sessions have the server's zone, and write and read UTC text there.
#[tokio::test(flavor = "multi_thread")]
async fn due_times_agree_with_go_whatever_the_zone_of_the_server() {
    let server = PrivateServer::start(Service::MYSQL);
    let database = Database::on(server.url());
    let pool = database.pool().await;
    for (n, zone) in ["+05:00", "-05:00", "+00:00"].into_iter().enumerate() {
        execute(&pool, &format!("set global time_zone = '{zone}'")).await;
        let go = MySqlPool::connect_with(database.options.clone().timezone(None)).await.unwrap();
        let (pool, topic) = (database.pool().await, format!("t{n}"));
        let publisher =
            SqlPublisher::new(pool.clone(), SqlPublisherConfig::default().layout(Layout::Queue)).unwrap();
        let hour = Message::new("1").delay_for(std::time::Duration::from_secs(3_600));
        publisher.publish(&topic, vec![hour]).await.unwrap();
        let seconds: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "select timestampdiff(second, utc_timestamp(), delayed_until) from watermill_{topic}"
        )))
        .fetch_one(&go)
        .await
        .unwrap();
        assert!((3_000..=3_700).contains(&seconds), "{zone}: due for Go in {seconds} s");
        execute(&pool, &format!("delete from watermill_{topic}")).await;
        // Written by Go: one that is due, and one that is not.
        execute(
            &go,
            &format!(
                "insert into watermill_{topic} (uuid, payload, metadata, acked, delayed_until) values
                     ('later', '2', '{{}}', 0, utc_timestamp() + interval 1 hour),
                     ('due', '3', '{{}}', 0, utc_timestamp() - interval 1 minute)"
            ),
        )
        .await;
        let worker = SqlQueueSubscriber::new(pool.clone(), SqlQueueSubscriberConfig::default()).unwrap();
        let mut subscription = worker.subscribe(&topic).await.unwrap();
        assert_eq!(payload(&mut subscription).await, "3", "{zone}");
        subscription.close().await.unwrap();
        let waits: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "select cast(due_ms - 1000 * unix_timestamp() as signed) from watermill_{topic} where uuid = 'later'"
        )))
        .fetch_one(&pool)
        .await
        .unwrap();
        assert!((3_000_000..=3_700_000).contains(&waits), "{zone}: due here in {waits} ms");
    }
}

/// After a crash nobody is connected who has its rows locked.
/// A statement that takes long, of somebody who has nothing to do with the topic, and one that may yet draw an offset.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_elsewhere_holds_nobody_back_where_the_server_tells_which_tables_are_open() {
    let server = PrivateServer::start(Service::MYSQL);
    let database = Database::on(server.url());
    let pool = database.pool().await;
    execute(&pool, "install soname 'metadata_lock_info'").await;
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    publisher.initialize("t").await.unwrap();
    let mut lock = pool.acquire().await.unwrap();
    sqlx::raw_sql("do get_lock('long', 600)").execute(&mut *lock).await.unwrap();
    let leave_a_gap = async |n: usize| {
        let mut rolled_back = pool.begin().await.unwrap();
        let one = || vec![Message::new(n.to_string())];
        SqlPublisher::in_transaction(&mut rolled_back).publish("t", one()).await.unwrap();
        rolled_back.rollback().await.unwrap();
        publisher.publish("t", one()).await.unwrap();
    };

    let elsewhere = waiting(&pool, "do get_lock('long', 300)").await;
    leave_a_gap(1).await;
    let subscriber = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
    assert!(!elsewhere.is_finished(), "nobody has waited for it");
    sqlx::raw_sql("do release_lock('long')").execute(&mut *lock).await.unwrap();
    elsewhere.await.unwrap();

    sqlx::raw_sql("do get_lock('other', 600)").execute(&mut *lock).await.unwrap();
    let writing = "insert into watermill_t (payload, metadata)
        select '3', '{}' from (select get_lock('other', 300) as held) waited";
    let writing = waiting(&pool, writing).await;
    leave_a_gap(2).await;
    within("the gauge", async {
        while !subscriber.held_back().iter().any(|held| held.holder.contains("a statement of connection")) {
            assert!(subscription.next().now_or_never().is_none());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    sqlx::raw_sql("do release_lock('other')").execute(&mut *lock).await.unwrap();
    writing.await.unwrap();
    assert_eq!(payload(&mut subscription).await, "2");
    assert_eq!(payload(&mut subscription).await, "3");
}

/// Begins a statement that waits for a lock of an application's.
async fn waiting(pool: &MySqlPool, statement: &'static str) -> tokio::task::JoinHandle<()> {
    let running = tokio::spawn({
        let pool = pool.clone();
        async move { sqlx::raw_sql(statement).execute(&pool).await.map(drop).unwrap() }
    });
    let runs = "select count(*) from information_schema.processlist where state = 'User lock'";
    within("a statement that waits", async {
        while sqlx::query_scalar::<_, i64>(runs).fetch_one(pool).await.unwrap() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_prepared_holds_a_reader_back_across_a_crash() {
    let server = Arc::new(PrivateServer::start(Service::MYSQL));
    let database = Database::on(server.url());
    let pool = database.pool().await;
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    publisher.initialize("t").await.unwrap();
    let mut connection = database.options.connect().await.unwrap();
    let first_phase = "xa start 'early'; insert into watermill_t (payload) values ('0'); xa end 'early'; \
                       xa prepare 'early'";
    sqlx::raw_sql(first_phase).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    publisher.publish("t", vec![Message::new("1")]).await.unwrap();
    let subscriber = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    until_held_by_who_is_prepared(&subscriber, &mut subscription).await;

    tokio::task::spawn_blocking({
        let server = server.clone();
        move || {
            server.kill();
            server.start_again();
        }
    })
    .await
    .unwrap();
    // By a reader that has seen it before, and by one that has not.
    let fresh = database.pool().await;
    let other = SqlSubscriber::new(fresh.clone(), SqlSubscriberConfig::default().group("other")).unwrap();
    let mut others = other.subscribe("t").await.unwrap();
    until_held_by_who_is_prepared(&other, &mut others).await;
    execute(&fresh, "xa commit 'early'").await;
    for mut subscription in [subscription, others] {
        for expected in ["0", "1"] {
            assert_eq!(payload(&mut subscription).await, expected);
        }
    }
}

async fn until_held_by_who_is_prepared(
    subscriber: &SqlSubscriber<sqlx::MySql>,
    subscription: &mut Subscription,
) {
    within("the gauge", async {
        while !subscriber.held_back().iter().any(|held| held.holder.contains("xa recover")) {
            let next = subscription.next().now_or_never();
            assert!(next.is_none_or(|next| next.unwrap().is_err()));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn next(subscription: &mut Subscription) -> Result<Delivery, SubscribeError> {
    within("an event", subscription.next()).await.expect("the stream goes on")
}

/// Acks the next message, whatever errors come before it.
async fn payload(subscription: &mut Subscription) -> String {
    loop {
        if let Ok(delivery) = next(subscription).await {
            let payload = String::from_utf8(delivery.payload().to_vec()).unwrap();
            delivery.ack();
            return payload;
        }
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(watermill_testkit::patience(), future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

async fn execute(pool: &MySqlPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
}
