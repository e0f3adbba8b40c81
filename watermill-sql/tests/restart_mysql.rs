//! A server that crashes and comes back, with the test of the conformance suite for that, and servers whose
//! settings are for one test alone. In a binary of its own, because each of these tests starts a server.

#![cfg(feature = "mysql")]

mod mysql_database;

use std::sync::Arc;

use async_trait::async_trait;
use mysql_database::Database;
use sqlx::{AssertSqlSafe, MySqlPool};
use watermill_core::{
    Message, Publisher, Subscriber,
    error::{PublishErrorKind, SubscribeErrorKind},
};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::{Backend, Connection, Lack, PrivateServer, Service, suite};

/// A server for this test alone.
struct Restartable {
    database: Database,
    server: Arc<PrivateServer>,
}

#[async_trait]
impl Backend for Restartable {
    async fn connect(&self) -> Connection {
        let pool = self.database.pool().await;
        let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default());
        let subscriber = SqlSubscriber::new(pool, SqlSubscriberConfig::default());
        Connection::new(publisher.expect("a valid config"), subscriber.expect("a valid config"))
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::PublishOrder, Lack::BinaryPayloads, Lack::DeadLetters]
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
async fn a_restart_of_the_server_loses_nothing() {
    let server = PrivateServer::start(Service::MYSQL);
    let database = Database::on(server.url());
    let backend = Restartable { database, server: Arc::new(server) };
    suite::delivery::a_restart_of_the_server_loses_nothing(Arc::new(backend)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_where_no_gap_can_be_decided_are_refused_with_the_remedy() {
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
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_become_a_replica_is_unavailable_to_publishers_and_refused_to_subscribers() {
    let server = PrivateServer::start(Service::MYSQL);
    let database = Database::on(server.url());
    let pool = database.pool().await;
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

async fn execute(pool: &MySqlPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap();
}
