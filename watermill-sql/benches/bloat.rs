//! What a transaction that somebody leaves open costs a log and a queue on PostgreSQL: no row that was deleted
//! or replaced since it began can be cleaned away, in any table.
//!
//! ```text
//! cargo bench -p watermill-sql --all-features --bench bloat -- [--minutes=10] [--json]
//! ```
//!
//! Twenty messages a twentieth of a second go through each, as a service has it all day. At the end of each minute
//! 5,000 are written at once, and it is measured how long it takes to handle them. Two minutes pass before
//! the transaction begins and two after its end, with autovacuum as the server has it. The ratio is to the first
//! minute's rate.

use std::{pin::pin, time::Duration};

use futures::StreamExt;
use sqlx::{AssertSqlSafe, PgPool, Postgres, postgres::PgPoolOptions};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use watermill_core::{Publisher, Subscriber, Subscription, Window};
use watermill_sql::{
    Layout, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlSubscriber,
    SqlSubscriberConfig,
};
use watermill_testkit::{Figure, Figures, workload};

#[expect(dead_code, reason = "the benchmark has a pool of its own")]
#[path = "../tests/postgres_database/mod.rs"]
mod postgres_database;

const MINUTE: Duration = Duration::from_secs(60);
/// Before the transaction, and after it.
const MINUTES_BESIDE: u64 = 2;
const TICK: Duration = Duration::from_millis(50);
const EACH_TICK: usize = 20;
const AT_ONCE: usize = 5_000;

fn main() {
    let minutes = std::env::args().find_map(|arg| arg.strip_prefix("--minutes=")?.parse().ok()).unwrap_or(10);
    let mut figures = Figures::from_args();
    let database = postgres_database::Database::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let options = PgPoolOptions::new().max_connections(20);
        let pool = options.connect_with(database.options.clone()).await.expect("the server answers");
        measure(&pool, minutes, &mut figures).await;
        pool.close().await;
    });
    figures.print();
}

async fn measure(pool: &PgPool, minutes: u64, figures: &mut Figures) {
    execute(pool, "create table elsewhere (n integer)").await;
    let mut topics = [Topic::log(pool).await, Topic::queue(pool).await];
    let mut held = None;
    for minute in 1..=minutes + 2 * MINUTES_BESIDE {
        if minute == MINUTES_BESIDE + 1 {
            let mut transaction = pool.begin().await.expect("a connection");
            sqlx::query("insert into elsewhere values (1)").execute(&mut *transaction).await.expect("a row");
            held = Some(transaction);
        }
        if minute == MINUTES_BESIDE + minutes + 1 {
            held.take();
        }
        let phase = if held.is_some() { "open" } else { "none" };
        let [log, queue] = &mut topics;
        tokio::join!(log.flow(), queue.flow());
        for topic in &mut topics {
            let rate = topic.rate().await;
            let first = *topic.first_rate.get_or_insert(rate);
            let name = format!("bloat/{}/minute-{minute:02}/{phase}", topic.name);
            eprintln!("{name}: {rate:.0} messages per second, {}", topic.size(pool).await);
            figures.push(Figure::new(name, rate, "messages per second").baseline(first));
        }
    }
}

/// A topic, with who writes and who reads it.
struct Topic {
    name: &'static str,
    publisher: SqlPublisher<Postgres>,
    subscription: Subscription,
    /// Whose sizes tell.
    tables: &'static [&'static str],
    first_rate: Option<f64>,
}

impl Topic {
    async fn log(pool: &PgPool) -> Self {
        let subscriber =
            SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).expect("it is valid");
        let subscription = subscriber.subscribe("log").await.expect("a fresh topic");
        let tables = &["watermill_log", "watermill_offsets_log", "_watermill_leases"];
        Self::of("log", pool, Layout::Log, subscription, tables)
    }

    async fn queue(pool: &PgPool) -> Self {
        let config = SqlQueueSubscriberConfig::default();
        let subscriber = SqlQueueSubscriber::new(pool.clone(), config).expect("it is valid");
        let subscription = subscriber.subscribe("queue").await.expect("a fresh topic");
        Self::of("queue", pool, Layout::Queue, subscription, &["watermill_queue"])
    }

    fn of(
        name: &'static str,
        pool: &PgPool,
        layout: Layout,
        subscription: Subscription,
        tables: &'static [&'static str],
    ) -> Self {
        let config = SqlPublisherConfig::default().layout(layout);
        let publisher = SqlPublisher::new(pool.clone(), config).expect("it is valid");
        subscription.set_window(Window::unordered(100.try_into().expect("not zero")));
        Self { name, publisher, subscription, tables, first_rate: None }
    }

    async fn publish(&self, count: usize) {
        for messages in workload::calls(count, 1_000) {
            self.publisher.publish(self.name, messages).await.expect("the database takes them");
        }
    }

    /// A minute of what a service has all day.
    async fn flow(&mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut end = pin!(sleep(MINUTE));
        let (mut published, mut handled) = (0, 0);
        loop {
            tokio::select! {
                () = &mut end => break,
                _ = ticks.tick() => {
                    for messages in workload::calls(EACH_TICK, EACH_TICK) {
                        self.publisher.publish(self.name, messages).await.expect("the database takes them");
                    }
                    published += EACH_TICK;
                }
                delivery = self.subscription.next() => {
                    delivery.expect("it goes on").expect("a message").ack();
                    handled += 1;
                }
            }
        }
        self.handle(published - handled).await;
    }

    /// Handles so many, and waits until that is recorded.
    async fn handle(&mut self, count: usize) {
        for left in (0..count).rev() {
            let delivery = self.subscription.next().await.expect("it goes on").expect("a message");
            if left > 0 {
                delivery.ack();
            } else {
                delivery.ack_confirmed().await.expect("it is recorded");
            }
        }
    }

    async fn rate(&mut self) -> f64 {
        self.publish(AT_ONCE).await;
        let started = Instant::now();
        self.handle(AT_ONCE).await;
        AT_ONCE as f64 / started.elapsed().as_secs_f64()
    }

    async fn size(&self, pool: &PgPool) -> String {
        let mut sizes = Vec::new();
        for table in self.tables {
            let (kilobytes, dead): (i64, i64) = sqlx::query_as(
                "select pg_total_relation_size(relid) / 1024, n_dead_tup
                 from pg_stat_user_tables where relname = $1",
            )
            .bind(table)
            .fetch_one(pool)
            .await
            .expect("a table of ours");
            sizes.push(format!("{table} {kilobytes} kB with {dead} dead rows"));
        }
        sizes.join(", ")
    }
}

async fn execute(pool: &PgPool, statement: &'static str) {
    sqlx::query(AssertSqlSafe(statement)).execute(pool).await.expect("the server does it");
}
