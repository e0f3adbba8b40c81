//! The rights that the README names are enough: accounts that have only those publish, read, work, ask and delete, in tables
//! that somebody else has made.

#![cfg(any(feature = "postgres", feature = "mysql"))]

#[cfg(feature = "mysql")]
#[path = "mysql_database/mod.rs"]
mod mysql_database;
#[cfg(feature = "postgres")]
#[path = "postgres_database/mod.rs"]
mod postgres_database;

use std::time::Duration;

use futures::StreamExt;
use sqlx::Pool;
use watermill_core::{Delivery, Message, Publisher, Subscriber, Subscription, delivery::Outcome};
use watermill_sql::{
    Layout, SqlDatabase, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig,
    SqlRetention, SqlRetentionConfig, SqlStatus, SqlSubscriber, SqlSubscriberConfig,
};

/// Pools of accounts by what they may do.
struct Accounts<D: SqlDatabase> {
    owner: Pool<D>,
    publisher: Pool<D>,
    reader: Pool<D>,
    worker: Pool<D>,
    status: Pool<D>,
    retention: Pool<D>,
}

fn publishing(layout: Layout) -> SqlPublisherConfig {
    SqlPublisherConfig::default().layout(layout)
}

fn reading() -> SqlSubscriberConfig {
    SqlSubscriberConfig::default().group("g").dead_letter_topic("log_dead")
}

fn working() -> SqlQueueSubscriberConfig {
    SqlQueueSubscriberConfig::default().dead_letter_topic("queue_dead")
}

/// Makes the tables, as a migration does.
async fn migrate<D: SqlDatabase>(owner: &Pool<D>) {
    SqlSubscriber::new(owner.clone(), reading()).unwrap().initialize("log").await.unwrap();
    SqlQueueSubscriber::new(owner.clone(), working()).unwrap().initialize("queue").await.unwrap();
}

async fn next(subscription: &mut Subscription) -> Delivery {
    let next = tokio::time::timeout(watermill_testkit::patience(), subscription.next());
    next.await.expect("a delivery comes").unwrap().unwrap()
}

/// Everything that is done by each of them.
async fn everybody_does_its_work<D: SqlDatabase>(accounts: &Accounts<D>) {
    for (layout, topic) in [(Layout::Log, "log"), (Layout::Queue, "queue")] {
        let config = publishing(layout).initialize_schema(false);
        let publisher = SqlPublisher::new(accounts.publisher.clone(), config.clone()).unwrap();
        publisher.publish(topic, vec![Message::new("1"), Message::new("2")]).await.unwrap();
        publisher.publish(topic, vec![Message::new("3"); 1_500]).await.unwrap();
        let mut transaction = accounts.publisher.begin().await.unwrap();
        let inside = SqlPublisher::in_transaction(&mut transaction).config(config);
        inside.publish(topic, vec![Message::new("4")]).await.unwrap();
        drop(inside);
        transaction.commit().await.unwrap();
    }
    let config = reading().initialize_schema(false).lease(Duration::from_secs(1));
    let reader = SqlSubscriber::new(accounts.reader.clone(), config).unwrap();
    // A gap, which a reader on MySQL has to look at.
    let mut rolled_back = accounts.owner.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut rolled_back).publish("log", vec![Message::new("0")]).await.unwrap();
    rolled_back.rollback().await.unwrap();
    SqlPublisher::new(accounts.owner.clone(), publishing(Layout::Log))
        .unwrap()
        .publish("log", vec![Message::new("5")])
        .await
        .unwrap();
    let config = working().initialize_schema(false);
    let worker = SqlQueueSubscriber::new(accounts.worker.clone(), config).unwrap();
    for (subscriber, count) in [(&reader as &dyn Subscriber, 1_504), (&worker, 1_503)] {
        let topic = if count == 1_504 { "log" } else { "queue" };
        let mut subscription = subscriber.subscribe(topic).await.unwrap();
        next(&mut subscription).await.ack_confirmed().await.unwrap();
        let reject = Outcome::Reject { reason: "no".to_owned() };
        next(&mut subscription).await.settle_confirmed(reject).await.unwrap();
        let nack = Outcome::Nack { delay: Duration::ZERO };
        next(&mut subscription).await.settle_confirmed(nack).await.unwrap();
        for _ in 2..count {
            next(&mut subscription).await.ack();
        }
        subscription.close().await.unwrap();
    }
    let status = SqlStatus::new(accounts.status.clone());
    let log = status.log("log").await.unwrap();
    assert_eq!((log.groups.len(), log.groups[0].backlog.rows), (1, 0));
    assert_eq!(status.queue("queue", Some("queue_dead")).await.unwrap().dead.unwrap().rows, 1);
    assert_eq!(status.peek("log_dead", 0, 10).await.unwrap().len(), 1);
    let config = SqlRetentionConfig::default().keep_for(Duration::ZERO);
    let retention = SqlRetention::new(accounts.retention.clone(), config).unwrap();
    assert_eq!(retention.run_once("log").await.unwrap().deleted, 1_504);
    assert_eq!(retention.run_once("queue").await.unwrap().deleted, 0);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql() {
    use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};

    async fn with(owner: &PgPool, grants: &[&str]) -> PgPool {
        let role = watermill_testkit::unique("watermill");
        let create = format!("create role {role} login");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(owner).await.unwrap();
        for grant in grants {
            let grant = format!("grant {grant} to {role}");
            sqlx::raw_sql(AssertSqlSafe(grant)).execute(owner).await.unwrap();
        }
        let options = (*owner.connect_options()).clone().username(&role);
        PgPoolOptions::new().max_connections(3).connect_with(options).await.unwrap()
    }

    let database = postgres_database::Database::default();
    let owner = database.pool().await;
    migrate(&owner).await;
    let accounts = Accounts {
        publisher: with(
            &owner,
            &[
                "insert on watermill_log, watermill_queue",
                "usage on sequence watermill_log_offset_seq, watermill_queue_offset_seq",
            ],
        )
        .await,
        reader: with(
            &owner,
            &[
                "select on watermill_log, watermill_log_offset_seq",
                "select, insert, update on watermill_offsets_log, _watermill_leases",
                "insert on watermill_log_dead",
                "usage on sequence watermill_log_dead_offset_seq",
            ],
        )
        .await,
        worker: with(
            &owner,
            &[
                "select, update, delete on watermill_queue",
                "insert on watermill_queue_dead",
                "usage on sequence watermill_queue_dead_offset_seq",
            ],
        )
        .await,
        status: with(
            &owner,
            &["select on watermill_log, watermill_log_dead, watermill_queue, watermill_queue_dead,
               watermill_offsets_log, _watermill_leases"],
        )
        .await,
        retention: with(
            &owner,
            &["select, update, delete on watermill_log, watermill_queue", "select on watermill_offsets_log"],
        )
        .await,
        owner,
    };
    everybody_does_its_work(&accounts).await;
    for pool in
        [&accounts.publisher, &accounts.reader, &accounts.worker, &accounts.status, &accounts.retention]
    {
        pool.close().await;
        let role = pool.connect_options().get_username().to_owned();
        let drop = format!("drop owned by {role}; drop role {role}");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&accounts.owner).await.unwrap();
    }
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_and_mariadb() {
    use sqlx::{AssertSqlSafe, MySqlPool, mysql::MySqlPoolOptions};

    async fn with(owner: &MySqlPool, grants: &[&str]) -> (MySqlPool, String) {
        let account = watermill_testkit::unique("w");
        let account = account[..account.len().min(30)].to_owned();
        let create = format!("create user '{account}'@'%'");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(owner).await.unwrap();
        for grant in grants {
            let grant = format!("grant {grant} to '{account}'@'%'");
            sqlx::raw_sql(AssertSqlSafe(grant)).execute(owner).await.unwrap();
        }
        let options = (*owner.connect_options()).clone().username(&account);
        (MySqlPoolOptions::new().max_connections(3).connect_with(options).await.unwrap(), account)
    }

    let database = mysql_database::Database::default();
    let owner = database.pool().await;
    migrate(&owner).await;
    let (publisher, one) =
        with(&owner, &["select, insert on watermill_log", "select, insert on watermill_queue"]).await;
    let (reader, two) = with(
        &owner,
        &[
            "select, update on watermill_log",
            "select, insert, update on watermill_offsets_log",
            "select, insert, update on _watermill_leases",
            "select, insert on watermill_log_dead",
            "process on *.*",
        ],
    )
    .await;
    let (worker, three) = with(
        &owner,
        &["select, update, delete on watermill_queue", "select, insert on watermill_queue_dead"],
    )
    .await;
    let (status, four) = with(
        &owner,
        &[
            "select on watermill_log",
            "select on watermill_log_dead",
            "select on watermill_queue",
            "select on watermill_queue_dead",
            "select on watermill_offsets_log",
            "select on _watermill_leases",
            "process on *.*",
        ],
    )
    .await;
    let (retention, five) = with(
        &owner,
        &[
            "select, update, delete on watermill_log",
            "select, update, delete on watermill_queue",
            "select on watermill_offsets_log",
        ],
    )
    .await;
    let accounts = Accounts { owner, publisher, reader, worker, status, retention };
    everybody_does_its_work(&accounts).await;
    for account in [one, two, three, four, five] {
        let drop = format!("drop user '{account}'@'%'");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&accounts.owner).await.unwrap();
    }
}
