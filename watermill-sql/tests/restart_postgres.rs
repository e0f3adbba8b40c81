//! A server that crashes and comes back, with the test of the conformance suite for that. In a binary of
//! its own, because each test of that suite would start a server.

#![cfg(feature = "postgres")]

mod postgres_database;

use std::sync::Arc;

use async_trait::async_trait;
use postgres_database::Database;
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
    let server = PrivateServer::start(Service::POSTGRES);
    let database = Database::on(server.url());
    let backend = Restartable { database, server: Arc::new(server) };
    suite::delivery::a_restart_of_the_server_loses_nothing(Arc::new(backend)).await;
}
