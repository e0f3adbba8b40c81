//! The watch on the server, and that writers pay nothing for it.

use sqlx::postgres::PgPoolOptions;

use super::*;

/// One that reads when it begins and then only when it is woken.
fn sleeper(group: &str) -> SqlSubscriberConfig {
    let never = Duration::from_secs(3_600);
    SqlSubscriberConfig::default().group(group).poll_interval_min(never).poll_interval_max(never)
}

/// The connections that watch in this database.
async fn watches(pool: &PgPool) -> Vec<i32> {
    sqlx::query_scalar(
        "select pid from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and query like 'select coalesce(pg_sequence_last_value%'
         order by pid",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

async fn until_watches_are(pool: &PgPool, wanted: impl Fn(&[i32]) -> bool) -> Vec<i32> {
    within("another number of connections that watch", async {
        loop {
            let watches = watches(pool).await;
            if wanted(&watches) {
                return watches;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

async fn insert(pool: &PgPool, topic: &str, n: usize) {
    execute(pool, &format!("insert into watermill_{topic} (payload, metadata) values ('{n}', '{{}}')")).await;
}

#[tokio::test]
async fn publishing_notifies_nobody_and_so_takes_no_lock_of_the_cluster() {
    let database = Database::default();
    let pool = database.pool().await;
    let mut listener = sqlx::postgres::PgListener::connect_with(&pool).await.unwrap();
    listener.listen("watermill").await.unwrap();
    publisher(&pool).publish("told", numbered(0..1)).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut transaction).publish("told", numbered(1..2)).await.unwrap();
    transaction.commit().await.unwrap();
    execute(&pool, "select pg_notify('watermill', 'the first')").await;
    let notification = within("a notification", listener.recv()).await.unwrap();
    assert_eq!(notification.payload(), "the first");
}

#[tokio::test]
async fn a_transaction_that_has_published_can_be_prepared() {
    let database = Database::default();
    let pool = database.pool().await;
    let mut subscription = subscriber_with(&pool, sleeper("g")).subscribe("prepared").await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let gid = watermill_testkit::unique("prepared");
    sqlx::raw_sql("begin").execute(&mut *connection).await.unwrap();
    SqlPublisher::<Postgres>::on_connection(&mut connection)
        .publish("prepared", numbered(0..1))
        .await
        .unwrap();
    execute_over(&mut connection, &format!("prepare transaction '{gid}'")).await;
    execute_over(&mut connection, &format!("commit prepared '{gid}'")).await;
    assert_eq!(payload(&mut subscription).await, "0");
}

async fn execute_over(connection: &mut sqlx::PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await.unwrap();
}

#[tokio::test]
async fn one_connection_watches_for_all_subscriptions_over_a_pool_and_goes_with_the_last() {
    let database = Database::default();
    let (pool, outside) = (database.pool().await, database.pool().await);
    let (one, other) =
        (subscriber_with(&pool, sleeper("one")), subscriber_with(&pool.clone(), sleeper("two")));
    assert!(watches(&outside).await.is_empty());
    let first = one.subscribe("shared").await.unwrap();
    let watch = until_watches_are(&outside, |watches| !watches.is_empty()).await;
    let mut second = other.subscribe("shared").await.unwrap();
    let mut third = other.subscribe("alone").await.unwrap();
    first.close().await.unwrap();
    // It still watches, and it is the same.
    insert(&outside, "shared", 1).await;
    insert(&outside, "alone", 2).await;
    assert_eq!(payload(&mut second).await, "1");
    assert_eq!(payload(&mut third).await, "2");
    assert_eq!(watches(&outside).await, watch);
    second.close().await.unwrap();
    third.close().await.unwrap();
    until_watches_are(&outside, <[i32]>::is_empty).await;
    // The next subscription begins anew.
    let mut next = other.subscribe("shared").await.unwrap();
    insert(&outside, "shared", 3).await;
    assert_eq!(payload(&mut next).await, "3");
}

#[tokio::test]
async fn nobody_watches_where_it_is_turned_off() {
    let database = Database::default();
    let (pool, outside) = (database.pool().await, database.pool().await);
    let config = SqlSubscriberConfig::default().watch(false);
    let mut subscription = subscriber_with(&pool, config).subscribe("off").await.unwrap();
    insert(&outside, "off", 1).await;
    assert_eq!(payload(&mut subscription).await, "1");
    assert!(watches(&outside).await.is_empty());
}

#[tokio::test]
async fn a_new_connection_wakes_readers_of_what_was_missed() {
    let database = Database::default();
    let (pool, outside) = (database.pool().await, database.pool().await);
    let mut subscription = subscriber_with(&pool, sleeper("g")).subscribe("missed").await.unwrap();
    let first = until_watches_are(&outside, |watches| watches.len() == 1).await;
    execute(&outside, &format!("select pg_terminate_backend({})", first[0])).await;
    insert(&outside, "missed", 0).await;
    assert_eq!(payload(&mut subscription).await, "0");
    until_watches_are(&outside, |watches| watches.len() == 1 && watches != first).await;
}

#[tokio::test]
async fn a_topic_in_a_schema_of_the_pools_own_is_watched() {
    let database = Database::default();
    let outside = database.pool().await;
    execute(&outside, "create schema own").await;
    let in_schema = PgPoolOptions::new().after_connect(|connection, _| {
        Box::pin(async move { sqlx::raw_sql("set search_path = own").execute(connection).await.map(drop) })
    });
    let pool = in_schema.connect_with(database.options.clone()).await.unwrap();
    let mut subscription = subscriber_with(&pool, sleeper("g")).subscribe("there").await.unwrap();
    execute(&outside, "insert into own.watermill_there (payload, metadata) values ('1', '{}')").await;
    assert_eq!(payload(&mut subscription).await, "1");
}

#[tokio::test]
async fn an_outage_is_warned_of_once_however_many_attempts_fail_and_readers_poll_meanwhile() {
    let (database, elsewhere) = (Database::default(), Database::default());
    // They have their connections, and nobody else gets one.
    let kept = |count| {
        let options = PgPoolOptions::new().max_connections(count).min_connections(count);
        options.connect_with(database.options.clone())
    };
    let (pool, inside, outside) = (kept(2).await.unwrap(), kept(1).await.unwrap(), elsewhere.pool().await);
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&inside).await.unwrap();
    let retry = watermill_core::Backoff::constant(Duration::from_millis(1));
    let config = SqlSubscriberConfig::default().group("g").retry(retry);
    let mut subscription = subscriber_with(&pool, config).subscribe("outage").await.unwrap();
    let first = until_watches_are(&inside, |watches| watches.len() == 1).await;

    let mut log = LogLines::of_this_thread("watermill_sql");
    execute(&outside, &format!("alter database {name} allow_connections false")).await;
    execute(&inside, &format!("select pg_terminate_backend({})", first[0])).await;
    for level in [Level::WARN, Level::DEBUG, Level::DEBUG, Level::DEBUG] {
        within("not watching", log.next_about(level, "not watching")).await;
    }
    insert(&inside, "outage", 1).await;
    assert_eq!(payload(&mut subscription).await, "1");
    execute(&outside, &format!("alter database {name} allow_connections true")).await;
    until_watches_are(&inside, |watches| watches.len() == 1).await;
    // Of what else was said about it, nothing was a warning.
    let said = log.take(Level::INFO);
    assert!(!said.iter().any(|line| line.text.contains("not watching")), "{said:?}");
}
