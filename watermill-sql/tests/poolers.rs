//! Poolers between an application and PostgreSQL. The one that is there to be tested is a PgBouncer that does not keep
//! prepared statements.

#![cfg(feature = "postgres")]

#[path = "postgres_database/mod.rs"]
mod postgres_database;

use std::time::Duration;

use futures::StreamExt;
use postgres_database::Database;
use sqlx::{
    AssertSqlSafe, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use watermill_core::{
    Message, Publisher, Subscriber, Subscription, error::SubscribeErrorKind, fenced::FencedPublisher,
};
use watermill_sql::{
    Layout, SqlFencedPublisher, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber,
    SqlQueueSubscriberConfig, SqlRetention, SqlRetentionConfig, SqlStatus, SqlSubscriber,
    SqlSubscriberConfig,
};
use watermill_testkit::Service;

/// A pool of connections to a database by way of a pooler.
async fn pool_by(pooler: Service, database: &Database, connections: u32) -> PgPool {
    let pooler: PgConnectOptions = pooler.url().parse().unwrap();
    let options = pooler.database(database.options.get_database().unwrap());
    PgPoolOptions::new().max_connections(connections).connect_with(options).await.unwrap()
}

fn publisher(pool: &PgPool, layout: Layout) -> SqlPublisher<sqlx::Postgres> {
    SqlPublisher::new(pool.clone(), SqlPublisherConfig::default().layout(layout)).unwrap()
}

async fn count(pool: &PgPool, what: &str) -> i64 {
    let count = format!("select count(*) from {what}");
    sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(pool).await.unwrap()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(watermill_testkit::patience(), future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

async fn payload(subscription: &mut Subscription) -> String {
    let delivery = within("a delivery", subscription.next()).await.unwrap().unwrap();
    let payload = String::from_utf8(delivery.payload().to_vec()).unwrap();
    within("the ack", delivery.ack_confirmed()).await.unwrap();
    payload
}

#[track_caller]
fn names_the_remedy(error: &dyn std::error::Error) {
    let text = std::iter::successors(Some(error), |error| error.source()).map(|error| format!("{error}; "));
    let text: String = text.collect();
    assert!(text.contains("max_prepared_statements") && text.contains("session"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_transaction_mode_without_prepared_statements_everything_is_refused_with_the_remedy() {
    let database = Database::default();
    let pool = pool_by(Service::PGBOUNCER, &database, 4).await;
    for layout in [Layout::Log, Layout::Queue] {
        let publisher = publisher(&pool, layout);
        for _ in 0..20 {
            let error = publisher.publish("t", vec![Message::new("1")]).await.unwrap_err();
            assert!(!error.is_retryable(), "{error}");
            names_the_remedy(&error);
        }
        names_the_remedy(&publisher.initialize("t").await.unwrap_err());
    }
    let reader = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).unwrap();
    let worker = SqlQueueSubscriber::new(pool.clone(), SqlQueueSubscriberConfig::default()).unwrap();
    let status = SqlStatus::new(pool.clone());
    let errors = [
        reader.subscribe("t").await.map(drop),
        reader.initialize("t").await,
        worker.subscribe("t").await.map(drop),
        worker.initialize("t").await,
        status.log("t").await.map(drop),
        status.queue("t", None).await.map(drop),
        status.peek("t", 0, 1).await.map(drop),
    ];
    for error in errors.map(Result::unwrap_err) {
        assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
        names_the_remedy(&error);
    }
    let fenced = SqlFencedPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    names_the_remedy(&fenced.begin("relay").await.map(drop).unwrap_err());
    let retention = SqlRetention::new(pool.clone(), SqlRetentionConfig::default()).unwrap();
    names_the_remedy(&retention.run_once("t").await.unwrap_err());
    let tables = "pg_class where relname like '%watermill%'";
    assert_eq!(count(&database.pool().await, tables).await, 0, "nothing was made");
}

/// Without a cache of statements sqlx names them all the same, and forgets the names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_turn_the_cache_of_statements_off_does_not_help_and_is_refused_too() {
    let database = Database::default();
    let pool = pool_by(Service::PGBOUNCER, &database, 4).await;
    let options = (*pool.connect_options()).clone().statement_cache_capacity(0);
    let pool = PgPoolOptions::new().connect_with(options).await.unwrap();
    let error = publisher(&pool, Layout::Log).publish("t", vec![Message::new("1")]).await.unwrap_err();
    names_the_remedy(&error);
}

/// Over a transaction of the caller's nothing is looked at beforehand. What was accepted is where it belongs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_transaction_mode_nothing_is_published_to_the_topic_of_another_statement() {
    const TOPICS: usize = 8;
    let database = Database::default();
    let direct = database.pool().await;
    for topic in 0..TOPICS {
        publisher(&direct, Layout::Log).initialize(&format!("t{topic}")).await.unwrap();
    }
    let publishing = (0..TOPICS).map(|n| {
        let database = &database;
        async move {
            let pool = pool_by(Service::PGBOUNCER, database, 1).await;
            let topic = format!("t{n}");
            let (mut accepted, mut refused) = (0, 0);
            for _ in 0..40 {
                let Ok(mut transaction) = pool.begin().await else { continue };
                // Others have a connection of the server's meanwhile, and leave their statements there.
                tokio::time::sleep(Duration::from_millis(2)).await;
                let message = Message::new(format!("\"{topic}\""));
                let published =
                    SqlPublisher::in_transaction(&mut transaction).publish(&topic, vec![message]).await;
                match published {
                    Ok(()) => accepted += i64::from(transaction.commit().await.is_ok()),
                    Err(error) => {
                        names_the_remedy(&error);
                        refused += 1;
                    }
                }
            }
            (accepted, refused)
        }
    });
    let mut refused_in_all = 0;
    for (topic, (accepted, refused)) in futures::future::join_all(publishing).await.into_iter().enumerate() {
        let strange = format!("watermill_t{topic} where payload::text <> '\"t{topic}\"'");
        assert_eq!(count(&direct, &strange).await, 0, "messages of other topics");
        assert_eq!(count(&direct, &format!("watermill_t{topic}")).await, accepted, "what was accepted");
        refused_in_all += refused;
    }
    assert!(refused_in_all > 0, "prepared statements have survived");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_session_mode_everything_works() {
    let database = Database::default();
    let pool = pool_by(Service::PGBOUNCER_SESSION, &database, 4).await;
    let lease = Duration::from_secs(2);
    let config = SqlSubscriberConfig::default().lease(lease).dead_letter_topic("dead");
    let reader = SqlSubscriber::new(pool.clone(), config.clone()).unwrap();
    let log = publisher(&pool, Layout::Log);
    log.publish("log", vec![Message::new("1"), Message::new("2")]).await.unwrap();
    let mut subscription = reader.subscribe("log").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "1");
    within("a delivery", subscription.next()).await.unwrap().unwrap().reject("no");
    log.publish("log", (3..1_300).map(|n| Message::new(n.to_string())).collect()).await.unwrap();
    assert_eq!(payload(&mut subscription).await, "3");
    let mut transaction = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut transaction).publish("other", vec![Message::new("4")]).await.unwrap();
    transaction.commit().await.unwrap();

    publisher(&pool, Layout::Queue).publish("queue", vec![Message::new("5")]).await.unwrap();
    let worker = SqlQueueSubscriber::new(pool.clone(), SqlQueueSubscriberConfig::default()).unwrap();
    let mut working = worker.subscribe("queue").await.unwrap();
    assert_eq!(payload(&mut working).await, "5");

    let status = SqlStatus::new(pool.clone());
    let group = status.log("log").await.unwrap().groups.remove(0);
    assert_eq!((group.position, group.backlog.rows), (3, 1_296));
    assert!(group.owner.is_some());
    assert_eq!(status.peek("dead", 0, 10).await.unwrap().len(), 1);
    let retention = SqlRetentionConfig::default().keep_for(Duration::ZERO);
    assert_eq!(SqlRetention::new(pool.clone(), retention).unwrap().run_once("log").await.unwrap().deleted, 3);

    // Who stands by over the same pooler leaves an owner alone that lives, and takes over when it has given up.
    let other = pool_by(Service::PGBOUNCER_SESSION, &database, 4).await;
    let mut standby = SqlSubscriber::new(other, config).unwrap().subscribe("log").await.unwrap();
    let early = tokio::time::timeout(2 * lease, standby.next()).await;
    assert!(early.is_err(), "{early:?}");
    subscription.close().await.unwrap();
    assert_eq!(payload(&mut standby).await, "4");
}
