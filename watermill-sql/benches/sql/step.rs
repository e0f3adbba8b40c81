//! One atomic step, beside the same written by hand: begin, mark, effect, output, commit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use sqlx::{AssertSqlSafe, MySql, Pool, Postgres, Sqlite};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use watermill_core::Message;
use watermill_sql::{SqlInbox, SqlInboxConfig, SqlPublisher, SqlPublisherConfig};
use watermill_testkit::{Figure, Figures, Limit, unique, workload};

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

pub(crate) async fn measure<D: Step>(options: &Options, figures: &mut Figures) {
    let name = format!("step/{}", D::LABEL);
    if options.wants(&name) {
        rates::<D>(&name, options.size(3_000, 300), figures).await;
    }
    let name = format!("step/{}/round-trips", D::LABEL);
    if options.wants(&name) && D::url(&D::database()).contains('@') {
        round_trips::<D>(&name, figures).await;
    }
}

async fn rates<D: Step>(name: &str, count: usize, figures: &mut Figures) {
    let database = D::database();
    let pool = D::pool(&database, 4).await;
    let (inbox, topic) = prepared(&pool).await;
    let raw_name = format!("{name}/raw");
    let contenders = vec![
        Contender::new(name, with_inbox(inbox, &topic, count)),
        Contender::new(&raw_name, by_hand(&pool, &topic, count)),
    ];
    let results = in_turn(ROUNDS, count, contenders).await;
    let figure = Figure::new(name, results.middle(name), "steps per second");
    figures.push(figure.baseline(results.middle(&raw_name)).limit(Limit::AtLeast(0.9)));
    pool.close().await;
}

/// Counts what a client sends before it waits, on the way to the server.
async fn round_trips<D: Step>(name: &str, figures: &mut Figures) {
    let database = D::database();
    let url = D::url(&database);
    let (before, rest) = url.split_once('@').expect("it names a user");
    let (server, behind) = rest.split_once('/').expect("it names a database");
    let way = Way::to(server.to_owned()).await;
    let pool = D::connect(&format!("{before}@127.0.0.1:{}/{behind}", way.port)).await.expect("it answers");
    let (inbox, topic) = prepared(&pool).await;
    let mut each = Vec::new();
    let runs: [Box<dyn Fn() -> BoxFuture<'static, Duration>>; 2] =
        [Box::new(with_inbox(inbox, &topic, COUNTED)), Box::new(by_hand(&pool, &topic, COUNTED))];
    for run in runs {
        // Statements are prepared the first time.
        run().await;
        let before = way.sent.load(Ordering::Relaxed);
        run().await;
        each.push((way.sent.load(Ordering::Relaxed) - before) as f64 / COUNTED as f64);
    }
    let figure = Figure::new(name, each[0], "round trips per step").baseline(each[1]);
    figures.push(figure.limit(Limit::AtMost(each[1])));
    pool.close().await;
}

async fn prepared<D: Step>(pool: &Pool<D>) -> (SqlInbox<D>, Arc<str>) {
    D::make_tables(pool).await.expect("an empty database");
    let topic: Arc<str> = unique("step").into();
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).expect("it is valid");
    publisher.initialize(&topic).await.expect("an empty database");
    let inbox = SqlInbox::new(pool.clone(), SqlInboxConfig::default().consumer("bill")).expect("it is valid");
    (inbox, topic)
}

fn with_inbox<D: Step>(
    inbox: SqlInbox<D>,
    topic: &Arc<str>,
    count: usize,
) -> impl Fn() -> BoxFuture<'static, Duration> + 'static {
    let topic = topic.clone();
    move || {
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
    }
}

fn by_hand<D: Step>(
    pool: &Pool<D>,
    topic: &str,
    count: usize,
) -> impl Fn() -> BoxFuture<'static, Duration> + 'static {
    let (pool, insert) = (pool.clone(), D::insert_text(topic, 1));
    move || {
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
    }
}

fn messages(count: usize) -> Vec<Message> {
    workload::calls(count, 1).flatten().collect()
}

/// The way to a server, on which it is counted how often a client sends.
struct Way {
    port: u16,
    sent: Arc<AtomicUsize>,
    _accepting: AbortOnDropHandle<()>,
}

impl Way {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it has one").port();
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let upstream = TcpStream::connect(&server).await.expect("the server answers");
                tokio::spawn(forward(client, upstream, counter.clone()));
            }
        });
        Self { port, sent, _accepting: AbortOnDropHandle::new(accepting) }
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, sent: Arc<AtomicUsize>) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let done = tokio::select! {
            read = client.read(&mut asked) => {
                sent.fetch_add(1, Ordering::Relaxed);
                match read { Ok(count @ 1..) => server.write_all(&asked[..count]).await, _ => return }
            }
            read = server.read(&mut answered) => {
                match read { Ok(count @ 1..) => client.write_all(&answered[..count]).await, _ => return }
            }
        };
        if done.is_err() {
            return;
        }
    }
}
