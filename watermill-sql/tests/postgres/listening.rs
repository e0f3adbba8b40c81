//! Wake-ups by notifications.

use sqlx::postgres::PgPoolOptions;

use super::*;

/// One that reads when it begins and then only when it is woken.
fn sleeper(group: &str) -> SqlSubscriberConfig {
    let never = Duration::from_secs(3_600);
    SqlSubscriberConfig::default().group(group).poll_interval_min(never).poll_interval_max(never)
}

/// The connections that listen in this database.
async fn ears(pool: &PgPool) -> Vec<i32> {
    sqlx::query_scalar(
        "select pid from pg_stat_activity
         where datname = current_database() and query ilike 'listen%' order by pid",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

async fn until_ears_are(pool: &PgPool, wanted: impl Fn(&[i32]) -> bool) -> Vec<i32> {
    within("another number of connections that listen", async {
        loop {
            let ears = ears(pool).await;
            if wanted(&ears) {
                return ears;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test]
async fn what_another_process_publishes_is_heard() {
    let database = Database::default();
    let pool = database.pool().await;
    let mut subscription = subscriber_with(&pool, sleeper("g")).subscribe("heard").await.unwrap();
    until_ears_are(&pool, |ears| ears.len() == 1).await;
    // As a publisher elsewhere does it: here nobody calls the readers of this process.
    for n in 0..3 {
        let insert = format!("insert into watermill_heard (payload, metadata) values ('{n}', '{{}}')");
        execute(&pool, &format!("begin; {insert}; select pg_notify('watermill', 'heard'); commit")).await;
        assert_eq!(payload(&mut subscription).await, n.to_string());
    }
}

#[tokio::test]
async fn the_publisher_notifies_with_the_commit() {
    let database = Database::default();
    let pool = database.pool().await;
    let mut listener = sqlx::postgres::PgListener::connect_with(&pool).await.unwrap();
    listener.listen("watermill").await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    SqlPublisher::in_transaction(&mut transaction).publish("told", numbered(0..1)).await.unwrap();
    assert!(listener.next_buffered().is_none());
    transaction.commit().await.unwrap();
    let notification = within("a notification", listener.recv()).await.unwrap();
    assert_eq!((notification.channel(), notification.payload()), ("watermill", "told"));
}

#[tokio::test]
async fn a_new_connection_wakes_readers_of_what_was_missed() {
    let database = Database::default();
    let pool = database.pool().await;
    let mut subscription = subscriber_with(&pool, sleeper("g")).subscribe("missed").await.unwrap();
    let first = until_ears_are(&pool, |ears| ears.len() == 1).await;
    publisher(&pool).publish("missed", numbered(0..1)).await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
    // Nobody is told of this row.
    execute(&pool, "insert into watermill_missed (payload, metadata) values ('1', '{}')").await;
    execute(&pool, &format!("select pg_terminate_backend({})", first[0])).await;
    assert_eq!(payload(&mut subscription).await, "1");
    until_ears_are(&pool, |ears| ears.len() == 1 && ears != first).await;
}

#[tokio::test]
async fn one_connection_listens_while_there_are_subscriptions_of_any_group() {
    let database = Database::default();
    let pool = database.pool().await;
    let subscriber = subscriber_with(&pool, sleeper("one"));
    let other = subscriber.in_group("two").unwrap();
    assert!(ears(&pool).await.is_empty());
    let one = subscriber.subscribe("shared").await.unwrap();
    let ear = until_ears_are(&pool, |ears| !ears.is_empty()).await;
    let mut two = other.subscribe("shared").await.unwrap();
    one.close().await.unwrap();
    // It still hears, and it is the same.
    execute(
        &pool,
        "insert into watermill_shared (payload, metadata) values ('1', '{}');
         select pg_notify('watermill', 'shared')",
    )
    .await;
    assert_eq!(payload(&mut two).await, "1");
    assert_eq!(ears(&pool).await, ear);
    two.close().await.unwrap();
    until_ears_are(&pool, <[i32]>::is_empty).await;
    // The next subscription begins anew.
    let _three = other.subscribe("shared").await.unwrap();
    until_ears_are(&pool, |ears| ears.len() == 1).await;
}

#[tokio::test]
async fn nobody_listens_where_it_is_turned_off() {
    let database = Database::default();
    let pool = database.pool().await;
    let config = SqlSubscriberConfig::default().listen(false);
    let mut subscription = subscriber_with(&pool, config).subscribe("off").await.unwrap();
    execute(&pool, "insert into watermill_off (payload, metadata) values ('1', '{}')").await;
    assert_eq!(payload(&mut subscription).await, "1");
    assert!(ears(&pool).await.is_empty());
}

#[tokio::test]
async fn a_pooler_that_swallows_notifications_is_warned_of_and_polling_goes_on() {
    let (database, elsewhere) = (Database::default(), Database::default());
    let pool = PgPoolOptions::new().max_connections(1).connect_with(database.options.clone()).await.unwrap();
    // The pool has its only connection, and who makes a new one hears nothing of what is sent by it.
    pool.set_connect_options(elsewhere.options.clone());
    let mut log = LogLines::of_this_thread("watermill_sql");
    let mut subscription = subscriber(&pool).subscribe("swallowed").await.unwrap();
    within("a pooler", log.next_about(Level::WARN, "a pooler")).await;
    execute(&pool, "insert into watermill_swallowed (payload, metadata) values ('1', '{}')").await;
    assert_eq!(payload(&mut subscription).await, "1");
}

#[tokio::test]
async fn an_outage_is_warned_of_once_however_many_attempts_fail() {
    let (database, elsewhere) = (Database::default(), Database::default());
    let pool = PgPoolOptions::new().max_connections(1).connect_with(database.options.clone()).await.unwrap();
    let outside = elsewhere.pool().await;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&pool).await.unwrap();
    let retry = watermill_core::Backoff::constant(Duration::from_millis(1));
    let mut subscription =
        subscriber_with(&pool, sleeper("g").retry(retry)).subscribe("outage").await.unwrap();
    let first = until_ears_are(&pool, |ears| ears.len() == 1).await;

    let mut log = LogLines::of_this_thread("watermill_sql");
    execute(&outside, &format!("alter database {name} allow_connections false")).await;
    execute(&pool, &format!("select pg_terminate_backend({})", first[0])).await;
    for level in [Level::WARN, Level::DEBUG, Level::DEBUG, Level::DEBUG] {
        within("not listening", log.next_about(level, "not listening")).await;
    }
    execute(&pool, "insert into watermill_outage (payload, metadata) values ('1', '{}')").await;
    execute(&outside, &format!("alter database {name} allow_connections true")).await;
    assert_eq!(payload(&mut subscription).await, "1");
    // Of what else was said about it, nothing was a warning.
    let said = log.take(Level::INFO);
    assert!(!said.iter().any(|line| line.text.contains("not listening")), "{said:?}");
}
