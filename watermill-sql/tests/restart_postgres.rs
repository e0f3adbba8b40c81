//! A server that crashes and comes back, as it was or as a standby; one test is that of the conformance
//! suite. In a binary of its own, because each test of that suite would start a server.

#![cfg(feature = "postgres")]

mod postgres_database;

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use postgres_database::Database;
use sqlx::{AssertSqlSafe, ConnectOptions, PgPool, Postgres, postgres::PgConnectOptions};
use watermill_core::{
    Message, Publisher, Subscriber, Subscription,
    error::{PublishErrorKind, SubscribeErrorKind},
};
use watermill_sql::{
    CommitOrder, Layout, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig,
    SqlSubscriber, SqlSubscriberConfig,
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
    let server = PrivateServer::start(Service::POSTGRES);
    let database = Database::on(server.url());
    let backend = Restartable { database, server: Arc::new(server), layout };
    suite::delivery::a_restart_of_the_server_loses_nothing(Arc::new(backend)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_holds_a_reader_back_after_a_restart_too() {
    let server = started().await;
    let database = Database::on(server.url());
    let pool = database.pool().await;
    let subscriber = subscriber(&pool);
    subscriber.initialize("t").await.unwrap();
    execute(&pool, "begin; insert into watermill_t (payload) values ('0'); prepare transaction 'early'")
        .await;
    publisher(&pool).publish("t", vec![Message::new("1")]).await.unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    until_held_back(&subscriber, &mut subscription).await;

    let _server = restarted(server, || ()).await;
    // By the reader that has seen it under its old name, and by one that has not.
    let fresh = database.pool().await;
    let other = SqlSubscriber::new(fresh.clone(), by_lock_holders().group("other")).unwrap();
    let mut others = other.subscribe("t").await.unwrap();
    until_held_back(&other, &mut others).await;
    until_held_back(&subscriber, &mut subscription).await;
    execute(&fresh, "commit prepared 'early'").await;
    for mut subscription in [subscription, others] {
        for expected in ["0", "1"] {
            assert_eq!(payload(&mut subscription).await, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_refused_until_it_is_the_primary() {
    let server = started().await;
    let database = Database::on(server.url());
    let pool = database.pool().await;
    publisher(&pool).publish("t", vec![Message::new("0")]).await.unwrap();
    subscriber(&pool).initialize("t").await.unwrap();
    let running = SqlSubscriber::new(pool.clone(), by_lock_holders().group("running")).unwrap();
    let mut running = running.subscribe("t").await.unwrap();
    assert_eq!(payload(&mut running).await, "0");
    let data: String = sqlx::query_scalar("show data_directory").fetch_one(&pool).await.unwrap();
    let _server = restarted(server, move || {
        std::fs::write(PathBuf::from(data).join("standby.signal"), "").unwrap();
    })
    .await;

    let pool = database.pool().await;
    let error = subscriber(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("primary"), "{error}");
    let error = publisher(&pool).publish("t", vec![Message::new("1")]).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable());

    execute(&pool, "select pg_promote()").await;
    publisher(&pool).publish("t", vec![Message::new("1")]).await.unwrap();
    let mut subscription = subscriber(&pool).subscribe("t").await.unwrap();
    for expected in ["0", "1"] {
        assert_eq!(payload(&mut subscription).await, expected);
    }
    // One that was there before has gone on by itself; its ack may have been lost with the server.
    let mut next = payload(&mut running).await;
    if next == "0" {
        next = payload(&mut running).await;
    }
    assert_eq!(next, "1");
}

/// As behind an address that is moved from server to server.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whose_connections_come_to_a_standby_reads_nothing_there() {
    let server = Arc::new(started().await);
    let database = Database::on(server.url());
    let (writing, reading) = (database.pool().await, database.pool().await);
    publisher(&writing).publish("t", vec![Message::new("0")]).await.unwrap();
    // It is not to meet the standby with a renewal or an ack, which fail there anyhow.
    let config = by_lock_holders().lease(Duration::from_secs(3_600));
    let subscriber = SqlSubscriber::new(reading.clone(), config).unwrap();
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    within("a delivery", subscription.next()).await.unwrap().unwrap().ack_confirmed().await.unwrap();

    let standby = tokio::task::spawn_blocking({
        let server = server.clone();
        move || server.standby()
    })
    .await
    .expect("it starts");
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&writing).await.unwrap();
    reading.set_connect_options(standby.url().parse::<PgConnectOptions>().unwrap().database(&name));
    let mut late = writing.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut late).publish("t", vec![Message::new("1")]).await.unwrap();
    publisher(&writing).publish("t", vec![Message::new("2")]).await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *late).await.unwrap();
    let others = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid not in ({pid}, pg_backend_pid())"
    );
    execute(&writing, &others).await;
    within("a refusal", async {
        loop {
            let next = subscription.next().await.expect("the stream goes on");
            if next.expect_err("nothing is delivered").to_string().contains("connect to the primary") {
                return;
            }
        }
    })
    .await;

    // The address is moved back.
    reading.set_connect_options(database.options.clone());
    tokio::task::spawn_blocking(move || standby.kill()).await.expect("it ends");
    late.commit().await.unwrap();
    for expected in ["1", "2"] {
        assert_eq!(payload(&mut subscription).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_restored_on_a_younger_server_is_refused_and_the_remedy_works() {
    let source = tokio::task::spawn_blocking(Database::default).await.unwrap();
    let pool = source.pool().await;
    // A new server has given out fewer transaction ids than this one has then.
    execute(&pool, "do 'begin for n in 1..3000 loop perform pg_current_xact_id(); commit; end loop; end'")
        .await;
    for n in 0..3 {
        publisher(&pool).publish("t", vec![Message::new(n.to_string())]).await.unwrap();
    }
    let by_snapshot = SqlSubscriberConfig::default().commit_order(CommitOrder::Snapshot);
    let reading = |pool: &PgPool| SqlSubscriber::new(pool.clone(), by_snapshot.clone()).unwrap();
    let mut subscription = reading(&pool).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
    subscription.close().await.unwrap();

    let server = started().await;
    let database = Database::on(server.url());
    dump_and_restore(&source, &database).await;
    let pool = database.pool().await;
    let error = reading(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    let text = error.to_string();
    let (_, remedy) = text.split_once("run: ").expect("a remedy");
    execute(&pool, remedy).await;
    publisher(&pool).publish("t", vec![Message::new("3")]).await.unwrap();
    let mut subscription = reading(&pool).subscribe("t").await.unwrap();
    for expected in ["1", "2", "3"] {
        assert_eq!(payload(&mut subscription).await, expected);
    }
}

/// As people do it, with `pg_dump` and `psql`.
async fn dump_and_restore(from: &Database, to: &Database) {
    let url = |database: &Database| {
        // What is after the question mark is for sqlx alone.
        let url = database.options.to_url_lossy();
        url.as_str().split('?').next().unwrap_or_default().to_owned()
    };
    let (from, to) = (url(from), url(to));
    let restored = tokio::task::spawn_blocking(move || {
        let start = |command: &mut Command| {
            command
                .spawn()
                .unwrap_or_else(|error| panic!("{command:?}: {error}; it comes with postgresql-client"))
        };
        let mut dump = start(Command::new("pg_dump").arg(from).stdout(Stdio::piped()));
        let dumped = dump.stdout.take().expect("a pipe");
        let args = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"];
        let mut restore = start(Command::new("psql").args(args).arg(to).stdin(dumped).stdout(Stdio::null()));
        dump.wait().is_ok_and(|status| status.success())
            && restore.wait().is_ok_and(|status| status.success())
    });
    assert!(restored.await.expect("no panic"), "see what they have said above");
}

async fn started() -> PrivateServer {
    tokio::task::spawn_blocking(|| PrivateServer::start(Service::POSTGRES)).await.expect("it starts")
}

/// Kills a server and starts it again, with something in between.
async fn restarted(server: PrivateServer, meanwhile: impl FnOnce() + Send + 'static) -> PrivateServer {
    let restarted = tokio::task::spawn_blocking(move || {
        server.kill();
        meanwhile();
        server.start_again();
        server
    });
    restarted.await.expect("the server comes back")
}

fn publisher(pool: &PgPool) -> SqlPublisher<Postgres> {
    SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap()
}

fn subscriber(pool: &PgPool) -> SqlSubscriber<Postgres> {
    SqlSubscriber::new(pool.clone(), by_lock_holders()).unwrap()
}

fn by_lock_holders() -> SqlSubscriberConfig {
    SqlSubscriberConfig::default().commit_order(CommitOrder::LockHolders)
}

async fn execute(pool: &PgPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
}

/// Waits until a reader says that the prepared transaction holds it back, and has delivered nothing.
async fn until_held_back(subscriber: &SqlSubscriber<Postgres>, subscription: &mut Subscription) {
    within("the gauge", async {
        while !subscriber.held_back().iter().any(|held| held.holder.contains("\"early\"")) {
            let next = subscription.next().now_or_never();
            assert!(next.is_none_or(|next| next.unwrap().is_err()));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Acks the next message, whatever errors come before it.
async fn payload(subscription: &mut Subscription) -> String {
    within("a delivery", async {
        loop {
            if let Ok(delivery) = subscription.next().await.expect("the stream goes on") {
                let payload = String::from_utf8(delivery.payload().to_vec()).unwrap();
                delivery.ack();
                return payload;
            }
        }
    })
    .await
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(watermill_testkit::patience(), future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
