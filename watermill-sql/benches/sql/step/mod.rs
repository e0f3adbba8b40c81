//! One atomic step, beside the same written by hand: begin, mark, effect, output, commit. And where the ack joins the step,
//! begin, effect, output, position, commit, for what is read from a log of the same database.

mod joined;
mod way;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;
use sqlx::{AssertSqlSafe, MySql, Pool, Postgres, Sqlite};
use tokio::time::Instant;
use watermill_core::Message;
use watermill_sql::{SqlInbox, SqlInboxConfig, SqlPublisher, SqlPublisherConfig};
use watermill_testkit::{Figure, Figures, Limit, unique, workload};

use self::way::Way;
use crate::{
    Options,
    database::Bench,
    rounds::{Contender, in_turn},
};

const ROUNDS: usize = 9;
/// Over how many steps round trips are counted.
const COUNTED: usize = 200;

/// What is written by hand beside the output.
#[async_trait]
pub(crate) trait Step: Bench {
    /// A transaction that writes.
    const BEGIN: &str;

    /// Marks a message; whether it is new.
    async fn write_mark(connection: &mut Self::Connection, id: &str) -> sqlx::Result<bool>;

    /// What a handler does.
    async fn effect(connection: &mut Self::Connection, id: &str) -> sqlx::Result<()>;

    async fn make_tables(pool: &Pool<Self>) -> sqlx::Result<()>;

    async fn connect(url: &str) -> sqlx::Result<Pool<Self>>;
}

macro_rules! step {
    ($database:ty, $begin:literal, $mark:literal, $effect:literal) => {
        #[async_trait]
        impl Step for $database {
            const BEGIN: &str = $begin;

            async fn write_mark(connection: &mut Self::Connection, id: &str) -> sqlx::Result<bool> {
                let marked = sqlx::query($mark).bind("bill").bind(id).execute(connection).await?;
                Ok(marked.rows_affected() > 0)
            }

            async fn effect(connection: &mut Self::Connection, id: &str) -> sqlx::Result<()> {
                sqlx::query($effect).bind(id).execute(connection).await.map(drop)
            }

            async fn make_tables(pool: &Pool<Self>) -> sqlx::Result<()> {
                for table in [
                    "create table marks (consumer varchar(255) not null, id varchar(255) not null,
                                         primary key (consumer, id))",
                    "create table effects (id varchar(64) not null)",
                ] {
                    sqlx::raw_sql(table).execute(pool).await?;
                }
                Ok(())
            }

            async fn connect(url: &str) -> sqlx::Result<Pool<Self>> {
                Pool::connect(url).await
            }
        }
    };
}

step!(
    Postgres,
    "begin",
    "insert into marks values ($1, $2) on conflict do nothing",
    "insert into effects values ($1)"
);
step!(MySql, "start transaction", "insert ignore into marks values (?, ?)", "insert into effects values (?)");
step!(
    Sqlite,
    "begin immediate",
    "insert into marks values (?, ?) on conflict do nothing",
    "insert into effects values (?)"
);

/// A run of so many steps, which says how long it took.
type Run = Box<dyn Fn() -> BoxFuture<'static, Duration>>;

pub(crate) async fn measure<D: Step>(options: &Options, figures: &mut Figures) {
    let name = format!("step/{}", D::LABEL);
    if options.wants(&name) {
        let database = D::database();
        let pool = D::pool(&database, 4).await;
        let count = options.size(3_000, 300);
        let (inbox, topic) = prepared(&pool).await;
        let (ours, raw) = (with_inbox(inbox, &topic, count), by_hand(&pool, &topic, count));
        let figure = rates(&name, count, ours, raw).await;
        figures.push(figure.limit(Limit::AtLeast(0.9)));
        let (ours, raw) = joined::runs(&pool, &topic, count).await;
        let figure = rates(&format!("{name}/joined"), count, ours, raw).await;
        figures.push(figure.limit(Limit::AtLeast(0.9)));
        pool.close().await;
    }
    let name = format!("step/{}/round-trips", D::LABEL);
    if options.wants(&name) && D::url(&D::database()).contains('@') {
        let database = D::database();
        let way = Way::to_server_of(&D::url(&database)).await;
        let pool = D::connect(way.url()).await.expect("it answers");
        let (inbox, topic) = prepared(&pool).await;
        let (ours, raw) = (with_inbox(inbox, &topic, COUNTED), by_hand(&pool, &topic, COUNTED));
        round_trips(&name, &way, [ours, raw], figures).await;
        let (ours, raw) = joined::runs(&pool, &topic, COUNTED).await;
        round_trips(&format!("{name}/joined"), &way, [ours, raw], figures).await;
        pool.close().await;
    }
}

async fn rates(name: &str, count: usize, ours: Run, raw: Run) -> Figure {
    let raw_name = format!("{name}/raw");
    let contenders = vec![Contender::new(name, ours), Contender::new(&raw_name, raw)];
    let results = in_turn(ROUNDS, count, contenders).await;
    let figure = Figure::new(name, results.middle(name), "steps per second");
    figure.baseline(results.middle(&raw_name))
}

/// Counts what a client sends before it waits, on the way to the server.
async fn round_trips(name: &str, way: &Way, runs: [Run; 2], figures: &mut Figures) {
    let mut each = Vec::new();
    for run in runs {
        // Statements are prepared the first time.
        run().await;
        let before = way.sent();
        run().await;
        each.push((way.sent() - before) as f64 / COUNTED as f64);
    }
    let figure = Figure::new(name, each[0], "round trips per step").baseline(each[1]);
    figures.push(figure.limit(Limit::AtMost(each[1])));
}

async fn prepared<D: Step>(pool: &Pool<D>) -> (SqlInbox<D>, Arc<str>) {
    D::make_tables(pool).await.expect("an empty database");
    let topic: Arc<str> = unique("step").into();
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).expect("it is valid");
    publisher.initialize(&topic).await.expect("an empty database");
    let inbox = SqlInbox::new(pool.clone(), SqlInboxConfig::default().consumer("bill")).expect("it is valid");
    (inbox, topic)
}

fn with_inbox<D: Step>(inbox: SqlInbox<D>, topic: &Arc<str>, count: usize) -> Run {
    let topic = topic.clone();
    Box::new(move || {
        let (inbox, topic) = (inbox.clone(), topic.clone());
        Box::pin(async move {
            let messages = messages(count);
            let started = Instant::now();
            for message in messages {
                let done = inbox
                    .once(&message, async |mut tx| {
                        D::effect(&mut tx, message.id().as_str()).await?;
                        tx.publish(&topic, message.clone()).await?;
                        Ok(())
                    })
                    .await;
                assert_eq!(done.expect("the database takes them"), Some(()));
            }
            started.elapsed()
        })
    })
}

fn by_hand<D: Step>(pool: &Pool<D>, topic: &str, count: usize) -> Run {
    let (pool, insert) = (pool.clone(), D::insert_text(topic, 1));
    Box::new(move || {
        let (pool, insert) = (pool.clone(), insert.clone());
        Box::pin(async move {
            let messages = messages(count);
            let started = Instant::now();
            for message in messages {
                let done = async {
                    let mut tx = pool.begin_with(AssertSqlSafe(D::BEGIN)).await?;
                    assert!(D::write_mark(&mut tx, message.id().as_str()).await?);
                    D::effect(&mut tx, message.id().as_str()).await?;
                    D::write_rows(&mut tx, &insert, std::slice::from_ref(&message)).await?;
                    tx.commit().await
                };
                done.await.expect("the database takes them");
            }
            started.elapsed()
        })
    })
}

fn messages(count: usize) -> Vec<Message> {
    workload::calls(count, 1).flatten().collect()
}
