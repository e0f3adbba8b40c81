//! How fast workers empty a queue on PostgreSQL that has many rows waiting, beside loops that were written
//! by hand, and whether more workers are faster.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, future::join_all};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row as _};
use tokio::time::Instant;
use watermill_core::{Publisher, Subscriber, Window};
use watermill_sql::{Layout, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig};
use watermill_testkit::{Figure, Figures, Limit, unique, workload};

use crate::{
    Options,
    database::Bench,
    raw::{self, Depth},
    rounds::{Contender, in_turn},
};

const ROUNDS: usize = 3;
const WORKERS: usize = 8;
/// Rows of a claim, here and by hand.
const BATCH: usize = 100;
/// Milliseconds since the Unix epoch.
const NOW_MS: &str = "(extract(epoch from statement_timestamp()) * 1000)::bigint";

pub(crate) async fn measure(options: &Options, figures: &mut Figures) {
    if !options.wants("queue/postgres/8-workers") && !options.wants("queue/postgres/scaling") {
        return;
    }
    let database = Postgres::database();
    let pool = Postgres::pool(&database, 20).await;
    let waiting = options.size(1_000_000, 100_000);
    // Of those waiting, half are taken in all rounds together.
    let each = options.size(40_000, 4_000);
    let topic = filled(&pool, waiting).await;
    beside_raw(&pool, &topic, each, figures).await;
    scaling(&pool, &topic, each, figures).await;
    pool.close().await;
}

async fn filled(pool: &PgPool, count: usize) -> Arc<str> {
    const CALL: usize = 1_000;
    let topic: Arc<str> = unique("queue").into();
    let config = SqlPublisherConfig::default().layout(Layout::Queue);
    let publisher = SqlPublisher::new(pool.clone(), config).expect("it is valid");
    let subscriber = SqlQueueSubscriber::new(pool.clone(), SqlQueueSubscriberConfig::default());
    subscriber.expect("it is valid").initialize(&topic).await.expect("a fresh topic");
    for messages in workload::calls(count, CALL) {
        publisher.publish(&topic, messages).await.expect("the database takes them");
    }
    let text = format!(r#"vacuum analyze "watermill_{topic}""#);
    for statement in text.split(';') {
        let statement = sqlx::query(AssertSqlSafe(statement.to_owned()));
        statement.execute(pool).await.expect("a topic of ours");
    }
    topic
}

/// Eight workers of each kind.
async fn beside_raw(pool: &PgPool, topic: &Arc<str>, count: usize, figures: &mut Figures) {
    let name = |of: &str| format!("queue/postgres/8-workers/{of}");
    let (window, subscriptions) = (name("window"), name("subscriptions"));
    let (claim, delete) = (name("raw-claim-then-delete"), name("raw-delete-at-once"));
    let contenders = vec![
        Contender::new(&window, subscribed(pool, topic, 1, WORKERS, count)),
        Contender::new(&subscriptions, subscribed(pool, topic, WORKERS, 1, count)),
        Contender::new(&claim, by_hand(pool, topic, Loop::ClaimThenDelete, WORKERS, count)),
        Contender::new(&delete, by_hand(pool, topic, Loop::DeleteAtOnce, WORKERS, count)),
    ];
    let results = in_turn(ROUNDS, count, contenders).await;
    // The same work: claims that others see, held while the message is handled, and then deletes.
    for of in [&window, &subscriptions] {
        let figure =
            Figure::new(of, results.middle(of), "messages per second").baseline(results.middle(&claim));
        figures.push(figure.limit(Limit::AtLeast(0.8)));
    }
    // A worker that dies while it has these loses them, or nobody sees that it has them.
    figures.push(
        Figure::new(&delete, results.middle(&delete), "messages per second").baseline(results.middle(&claim)),
    );
}

async fn scaling(pool: &PgPool, topic: &Arc<str>, count: usize, figures: &mut Figures) {
    let workers = [1, 2, 4, WORKERS];
    let names = workers.map(|workers| format!("queue/postgres/scaling/{workers}"));
    let contenders = names
        .iter()
        .zip(workers)
        .map(|(name, workers)| Contender::new(name, working(pool, topic, workers, count / 20)));
    let results = in_turn(ROUNDS, count / 20, contenders.collect()).await;
    for (name, workers) in names.iter().zip(workers) {
        let figure = Figure::new(name, results.middle(name), "messages per second");
        let figure = figure.baseline(results.middle(&names[0]));
        // Of what so many workers could do.
        figures.push(if workers > 1 { figure.limit(Limit::AtLeast(workers as f64 * 0.7)) } else { figure });
    }
}

fn subscriber(pool: &PgPool) -> SqlQueueSubscriber<Postgres> {
    let config = SqlQueueSubscriberConfig::default().batch_size(BATCH);
    SqlQueueSubscriber::new(pool.clone(), config).expect("it is valid")
}

/// So many subscriptions with such a window take `count` messages together, ack each and do nothing else.
fn subscribed(
    pool: &PgPool,
    topic: &Arc<str>,
    subscriptions: usize,
    window: usize,
    count: usize,
) -> impl Fn() -> BoxFuture<'static, Duration> + 'static {
    let (pool, topic) = (pool.clone(), topic.clone());
    move || {
        let (subscriber, topic) = (subscriber(&pool), topic.clone());
        Box::pin(async move {
            let mut workers = Vec::new();
            for _ in 0..subscriptions {
                let subscription = subscriber.subscribe(&topic).await.expect("a topic of ours");
                subscription.set_window(Window::unordered(window.try_into().expect("at least one")));
                workers.push(subscription);
            }
            let started = Instant::now();
            let workers = workers.into_iter().map(|mut subscription| {
                tokio::spawn(async move {
                    for _ in 0..count / subscriptions {
                        subscription.next().await.expect("it goes on").expect("a message").ack();
                    }
                    subscription.close().await.expect("a clean end");
                })
            });
            join_all(workers).await.into_iter().for_each(|worker| worker.expect("no panic"));
            started.elapsed()
        })
    }
}

/// So many subscriptions, whose handler takes a millisecond.
fn working(
    pool: &PgPool,
    topic: &Arc<str>,
    workers: usize,
    count: usize,
) -> impl Fn() -> BoxFuture<'static, Duration> + 'static {
    const HANDLING: Duration = Duration::from_millis(1);
    let (pool, topic) = (pool.clone(), topic.clone());
    move || {
        let (subscriber, topic) = (subscriber(&pool), topic.clone());
        Box::pin(async move {
            let subscribed = (0..workers).map(|_| subscriber.subscribe(&topic));
            let subscriptions = join_all(subscribed).await;
            let started = Instant::now();
            let workers = subscriptions.into_iter().map(|subscription| async {
                let mut subscription = subscription.expect("a topic of ours");
                for _ in 0..count / workers {
                    let delivery = subscription.next().await.expect("it goes on").expect("a message");
                    tokio::time::sleep(HANDLING).await;
                    delivery.ack();
                }
                subscription.close().await.expect("a clean end");
            });
            join_all(workers).await;
            started.elapsed()
        })
    }
}

/// What one would write by hand.
#[derive(Clone, Copy)]
enum Loop {
    /// Marks rows as claimed for a while, and deletes them after they were handled.
    ClaimThenDelete,
    /// Deletes rows and has them.
    DeleteAtOnce,
}

/// So many connections.
fn by_hand(
    pool: &PgPool,
    topic: &Arc<str>,
    kind: Loop,
    workers: usize,
    count: usize,
) -> impl Fn() -> BoxFuture<'static, Duration> + 'static {
    let pool = pool.clone();
    let messages = format!(r#""watermill_{topic}""#);
    let columns = r#""offset", uuid, payload::text, metadata::text"#;
    let next = || {
        format!(
            r#"(select "offset" from {messages} where not acked and due_ms <= {NOW_MS}
                order by due_ms, "offset" limit $1 for update skip locked)"#
        )
    };
    let take: Arc<str> = match kind {
        Loop::ClaimThenDelete => format!(
            r#"update {messages} m set due_ms = {NOW_MS} + 30000 where "offset" = any(array{})
               returning {columns}"#,
            next()
        ),
        Loop::DeleteAtOnce => {
            format!(r#"delete from {messages} where "offset" = any(array{}) returning {columns}"#, next())
        }
    }
    .into();
    let finish: Arc<str> = format!(r#"delete from {messages} where "offset" = any($1)"#).into();
    move || {
        let (pool, take, finish) = (pool.clone(), take.clone(), finish.clone());
        Box::pin(async move {
            let started = Instant::now();
            let workers = (0..workers).map(|_| {
                let (pool, take, finish) = (pool.clone(), take.clone(), finish.clone());
                tokio::spawn(async move {
                    let mut connection = pool.acquire().await.expect("a connection");
                    let mut done = 0;
                    while done < count / workers {
                        let offsets = take_rows(&mut connection, &take).await.expect("a topic of ours");
                        done += offsets.len();
                        if matches!(kind, Loop::ClaimThenDelete) {
                            let delete = sqlx::query(AssertSqlSafe(finish.clone())).bind(offsets);
                            delete.execute(&mut *connection).await.expect("rows of ours");
                        }
                    }
                })
            });
            join_all(workers).await.into_iter().for_each(|worker| worker.expect("no panic"));
            started.elapsed()
        })
    }
}

async fn take_rows(connection: &mut PgConnection, text: &Arc<str>) -> sqlx::Result<Vec<i64>> {
    let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let rows = sqlx::query(AssertSqlSafe(text.clone())).bind(limit).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let metadata: &str = row.try_get(3)?;
            raw::use_message(row.try_get(1)?, row.try_get::<String, _>(2)?, metadata, Depth::Message);
            row.try_get(0)
        })
        .collect()
}
