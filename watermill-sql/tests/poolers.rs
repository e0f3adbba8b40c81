//! Poolers between an application and PostgreSQL: a PgBouncer that does not keep prepared statements, and one that does
//! where its release can.

#![cfg(feature = "postgres")]

#[path = "postgres_database/mod.rs"]
mod postgres_database;

use std::time::Duration;

use futures::StreamExt;
use postgres_database::Database;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, PgPool, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
};
use watermill_core::{
    Message, Publisher, Subscriber, Subscription,
    error::SubscribeErrorKind,
    fenced::{FencedPublisher, Outgoing},
    subscription::Health,
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
    everything_works(Service::PGBOUNCER_SESSION).await;
    who_is_idle_is_woken(Service::PGBOUNCER_SESSION).await;
}

/// A pooler of an older release takes no setting for that, and is refused like one that has it off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_transaction_mode_everything_works_where_prepared_statements_are_kept_and_nothing_elsewhere() {
    let pooler = Service::PGBOUNCER_PREPARED;
    if keeps_statements(pooler).await {
        everything_works(pooler).await;
        who_is_idle_is_woken(pooler).await;
        many_clients_share_its_connections(pooler).await;
        return;
    }
    let database = Database::default();
    let pool = pool_by(pooler, &database, 4).await;
    let error = publisher(&pool, Layout::Log).publish("t", vec![Message::new("1")]).await.unwrap_err();
    names_the_remedy(&error);
}

async fn keeps_statements(pooler: Service) -> bool {
    let options: PgConnectOptions = pooler.url().parse().unwrap();
    let mut console = options.database("pgbouncer").connect().await.unwrap();
    let settings = sqlx::raw_sql("show config").fetch_all(&mut console).await.unwrap();
    let is_it = |row: &PgRow| row.get::<&str, _>("key") == "max_prepared_statements";
    settings.iter().any(|row| is_it(row) && row.get::<&str, _>("value") != "0")
}

/// Each message by another client, whose statements are prepared over whatever connection there is.
async fn many_clients_share_its_connections(pooler: Service) {
    let database = Database::default();
    let clients = (0..30).map(|n| {
        let database = &database;
        async move {
            let pool = pool_by(pooler, database, 2).await;
            for round in 0..10 {
                let topic = format!("t{}", (n + round) % 5);
                let messages = vec![Message::new(format!("\"{topic}\"")); 3];
                publisher(&pool, Layout::Log).publish(&topic, messages).await.unwrap();
            }
            pool.close().await;
        }
    });
    within("every client", futures::future::join_all(clients)).await;
    let direct = database.pool().await;
    for topic in 0..5 {
        assert_eq!(count(&direct, &format!("watermill_t{topic}")).await, 180);
        let strange = format!("watermill_t{topic} where payload::text <> '\"t{topic}\"'");
        assert_eq!(count(&direct, &strange).await, 0, "messages of other topics");
    }
}

/// Nobody looks by itself, and whoever writes knows of no reader: the watch tells, through the pooler.
async fn who_is_idle_is_woken(pooler: Service) {
    const NEVER: Duration = Duration::from_secs(24 * 3_600);
    let database = Database::default();
    let (direct, pool) = (database.pool().await, pool_by(pooler, &database, 4).await);
    let log = SqlSubscriberConfig::default().poll_interval_min(NEVER).poll_interval_max(NEVER);
    let log = SqlSubscriber::new(pool.clone(), log).unwrap();
    let queue = SqlQueueSubscriberConfig::default().poll_interval_min(NEVER).poll_interval_max(NEVER);
    let queue = SqlQueueSubscriber::new(pool.clone(), queue).unwrap();
    let mut subscriptions = [log.subscribe("log").await.unwrap(), queue.subscribe("queue").await.unwrap()];
    for n in 0..3 {
        for topic in ["log", "queue"] {
            let row = format!("insert into watermill_{topic} (payload, metadata) values ('{n}', '{{}}')");
            sqlx::raw_sql(AssertSqlSafe(row)).execute(&direct).await.unwrap();
        }
        for subscription in &mut subscriptions {
            assert_eq!(payload(subscription).await, n.to_string());
            assert_eq!(subscription.status().health, Health::Healthy);
        }
    }
}

async fn everything_works(pooler: Service) {
    let database = Database::default();
    let pool = pool_by(pooler, &database, 4).await;
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

    let keyed = |n: usize| Message::new(n.to_string()).with_key(format!("key {}", n % 3));
    publisher(&pool, Layout::Queue).publish("keyed", (0..9).map(keyed).collect()).await.unwrap();
    let workers = SqlQueueSubscriberConfig::default().ordered_by_key(true);
    let workers = SqlQueueSubscriber::new(pool.clone(), workers).unwrap();
    let mut working = [workers.subscribe("keyed").await.unwrap(), workers.subscribe("keyed").await.unwrap()];
    let [one, other] = &mut working;
    let (mut came, mut done) = (vec![Vec::new(); 3], 0);
    while done < 9 {
        let delivery = within("a delivery", futures::future::select(one.next(), other.next())).await;
        let delivery = delivery.factor_first().0.unwrap().unwrap();
        let n: usize = std::str::from_utf8(delivery.payload()).unwrap().parse().unwrap();
        came[n % 3].push(n);
        done += 1;
        within("the ack", delivery.ack_confirmed()).await.unwrap();
    }
    assert_eq!(came, [[0, 3, 6], [1, 4, 7], [2, 5, 8]]);

    let fenced = SqlFencedPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    let mut term = fenced.begin("relay").await.unwrap();
    let batch = Outgoing { topic: "other".to_owned(), messages: vec![Message::new("6")] };
    term.commit(vec![batch], "one".into()).await.unwrap();
    assert_eq!(fenced.begin("relay").await.unwrap().checkpoint().map(|it| &it[..]), Some(&b"one"[..]));

    let status = SqlStatus::new(pool.clone());
    let group = status.log("log").await.unwrap().groups.remove(0);
    assert_eq!((group.position, group.backlog.rows), (3, 1_296));
    assert!(group.owner.is_some());
    assert_eq!(status.peek("dead", 0, 10).await.unwrap().len(), 1);
    let retention = SqlRetentionConfig::default().keep_for(Duration::ZERO);
    assert_eq!(SqlRetention::new(pool.clone(), retention).unwrap().run_once("log").await.unwrap().deleted, 3);

    // Who stands by over the same pooler leaves an owner alone that lives, and takes over when it has given up.
    let other = pool_by(pooler, &database, 4).await;
    let mut standby = SqlSubscriber::new(other, config).unwrap().subscribe("log").await.unwrap();
    let early = tokio::time::timeout(2 * lease, standby.next()).await;
    assert!(early.is_err(), "{early:?}");
    subscription.close().await.unwrap();
    assert_eq!(payload(&mut standby).await, "4");
}
