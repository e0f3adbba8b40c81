//! What one claim brings, on a database in memory.

use sqlx::{AssertSqlSafe, Sqlite, SqlitePool, sqlite::SqlitePoolOptions};
use watermill_core::{
    Subscription,
    backend::{Registry, SharedOptions},
};

use super::*;
use crate::{
    AfterAck, SqlSource,
    queue::OnAck,
    schema,
    source::{self, Use},
};

const KIB: usize = 1024;

/// A worker that claims when it is told to.
struct Worker {
    reader: QueueReader<Sqlite>,
    _subscription: Subscription,
}

impl Worker {
    fn new(pool: &SqlitePool, config: SqlQueueSubscriberConfig, tables: Tables) -> Self {
        let options = SharedOptions::default();
        let claims = Claims::new(config.ordered_by_key, false, config.batch_bytes);
        let shared = Arc::new(Shared::new(tables.topic(), None, claims, options));
        let mut given = None;
        let subscription = Registry::default().start("sql", shared.clone(), |_, origin| {
            given = Some(origin);
            std::future::pending()
        });
        let queue = Queue {
            tables,
            owner: "worker 30000".to_owned(),
            visibility_timeout: config.visibility_timeout,
            on_ack: OnAck::Delete,
            ordered: config.ordered_by_key,
        };
        let reader = QueueReader {
            pool: pool.clone(),
            reserve: Arc::new(Reserve::new(pool.clone())),
            fitting: AtomicUsize::new(config.batch_size),
            config,
            queue,
            dead_letters: None,
            shared,
            origin: given.expect("the task was made"),
            kept: Mutex::default(),
            watched: None,
            turns: Mutex::default(),
            end_claims_at: Mutex::new(Instant::now()),
        };
        Self { reader, _subscription: subscription.expect("it is open") }
    }

    /// The sizes of the messages of one claim.
    async fn claim(&self, limit: usize) -> Vec<usize> {
        let intake = self.reader.claim(limit, Vec::new()).await.expect("the database answers");
        intake.rows.iter().map(|row| row.row.bytes()).collect()
    }
}

async fn database() -> SqlitePool {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await;
    pool.expect("it is in memory")
}

async fn execute(pool: &SqlitePool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.expect("it is allowed");
}

#[tokio::test]
async fn a_claim_of_several_statements_brings_no_more_bytes_than_one_of_one() {
    for ordered in [false, true] {
        let pool = database().await;
        let tables = Tables::new::<Sqlite>("t").expect("a name");
        let mut connection = pool.acquire().await.expect("a connection");
        let lacks = schema::ensure_queue::<Sqlite>(&mut connection, &tables, None, ordered, true).await;
        let lacks = lacks.expect("it is made");
        schema::change_queue::<Sqlite>(&mut connection, &tables, lacks).await.expect("it is changed");
        drop(connection);
        // One that had to wait, for which there is a statement of its own, and some that had not.
        for (kib, due_ms) in [(10, 1), (95, 0), (95, 0), (95, 0)] {
            let insert = format!(
                "insert into watermill_t (payload, due_ms) values (zeroblob({}), {due_ms})",
                kib * KIB
            );
            execute(&pool, &insert).await;
        }
        let config = SqlQueueSubscriberConfig::default().ordered_by_key(ordered).batch_bytes(100 * KIB);
        let worker = Worker::new(&pool, config, tables);
        let sizes: Vec<usize> = worker.claim(10).await.into_iter().map(|size| size / KIB).collect();
        assert_eq!(sizes.len(), 2, "ordered: {ordered}, {sizes:?} KiB");
        assert!(sizes.contains(&10), "ordered: {ordered}, {sizes:?} KiB");
    }
}

#[tokio::test]
async fn a_worker_on_somebodys_table_claims_many_again_after_one_that_did_not_fit() {
    let pool = database().await;
    execute(&pool, "create table outbox (id text primary key, payload blob)").await;
    execute(&pool, &format!("insert into outbox values ('0', zeroblob({}))", 300 * KIB)).await;
    let small = "insert into outbox select printf('1%03d', value), zeroblob(10) from
                 (with recursive n(value) as (select 1 union all select value + 1 from n where value < 200)
                  select value from n)";
    execute(&pool, small).await;
    let source = SqlSource::table("outbox").after_ack(AfterAck::Delete);
    let tables = Tables::new::<Sqlite>("t").expect("a name");
    let mut connection = pool.acquire().await.expect("a connection");
    let tables = source::tables_over::<Sqlite>(&mut connection, tables, &source, Use::Queue).await;
    let tables = tables.expect("it can be worked on");
    source::ensure_claims::<Sqlite>(&mut connection, &tables, true).await.expect("it is made");
    drop(connection);
    let config = SqlQueueSubscriberConfig::default().batch_bytes(100 * KIB).source(source);
    let worker = Worker::new(&pool, config, tables);
    assert_eq!(worker.claim(50).await.len(), 1, "one row fits, however large it is");
    let mut claimed = Vec::new();
    for _ in 0..8 {
        claimed.push(worker.claim(50).await.len());
    }
    assert!(claimed.contains(&50), "{claimed:?}");
}
