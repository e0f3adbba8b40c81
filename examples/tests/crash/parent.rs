//! Kills children at each step, in turn, and looks at what is there in the end.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use sqlx::{MySql, Pool, Postgres, Sqlite};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};
use watermill_core::{Message, Publisher};
use watermill_kafka::{CreateTopics, KafkaPublisher, KafkaPublisherConfig};
use watermill_sql::{Layout, SqlInbox, SqlInboxConfig, SqlPublisher, SqlPublisherConfig};
use watermill_testkit::{Service, patience, unique};

use crate::{
    Result,
    child::{Plan, Source, Steps},
    database::{Database, Store, TABLES},
    proxy::{Proxy, Stop},
    report::Outcome,
};

/// Where a child is killed: at a step that it announces, or that its way to the server does.
#[derive(Clone, Copy)]
enum Killed {
    Announced(&'static str),
    OnTheWay(&'static str, Stop),
}

const SERVER_STEPS: &[Killed] = &[
    Killed::OnTheWay("begun, unanswered", Stop::Unanswered("insert into _watermill_inbox")),
    Killed::Announced("marked"),
    Killed::Announced("first statement"),
    Killed::Announced("second statement"),
    Killed::Announced("published"),
    Killed::OnTheWay("commit, unsent", Stop::Unsent("commit")),
    Killed::OnTheWay("commit, unanswered", Stop::Unanswered("commit")),
    Killed::Announced("committed"),
];

/// Without a mark. An ack is behind what is published, and before the commit.
const JOINED_STEPS: &[Killed] = SERVER_STEPS.split_at(1).1;

const FILE_STEPS: &[Killed] = &[
    Killed::Announced("marked"),
    Killed::Announced("first statement"),
    Killed::Announced("second statement"),
    Killed::Announced("published"),
    Killed::Announced("commit begun"),
    Killed::Announced("committed"),
];

const NAIVE_STEPS: &[Killed] = &[Killed::Announced("second statement"), Killed::Announced("published")];

pub(crate) async fn torment(
    database: Database,
    source: Source,
    kills: usize,
    naive: bool,
) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let url = database.create(folder.path()).await?;
    match database {
        Database::Postgres => torment_on::<Postgres>(database, source, &url, kills, naive).await,
        Database::MySql => torment_on::<MySql>(database, source, &url, kills, naive).await,
        Database::Sqlite => torment_on::<Sqlite>(database, source, &url, kills, naive).await,
    }
}

async fn torment_on<D: Store>(
    database: Database,
    source: Source,
    url: &str,
    kills: usize,
    naive: bool,
) -> Result<Outcome> {
    // More than are handled while children die, each of which handles three at the most.
    let messages = 4 * kills;
    let topic = unique("orders");
    let pool = prepare::<D>(url, source, &topic, messages).await?;
    let proxy = match database {
        Database::Sqlite => None,
        _ => Some(Proxy::to(address(url)).await?),
    };
    let through = match &proxy {
        Some(proxy) => url.replace(&address(url), &format!("127.0.0.1:{}", proxy.port)),
        None => url.to_owned(),
    };
    let steps = match (naive, source, &proxy) {
        (true, ..) => NAIVE_STEPS,
        (_, _, None) => FILE_STEPS,
        (_, Source::Kafka, _) => SERVER_STEPS,
        (_, Source::Log | Source::Queue, _) => JOINED_STEPS,
    };
    let plan = |stop_at: &str, passes| Plan {
        database: through.clone(),
        source,
        brokers: Service::KAFKA.url(),
        topic: topic.clone(),
        stop_at: stop_at.to_owned(),
        passes,
        naive,
    };
    let mut killed = BTreeMap::new();
    for kill in 0..kills {
        let (step, passes) = (steps[kill % steps.len()], kill / steps.len() % 3);
        let name = match (step, &proxy) {
            (Killed::OnTheWay(name, stop), Some(proxy)) => {
                proxy.plan(Some((stop, passes))).await;
                let mut child = start(plan("", 0))?;
                within(name, proxy.stopped()).await;
                child.kill().await?;
                name
            }
            (Killed::Announced(name) | Killed::OnTheWay(name, _), _) => {
                let mut child = start(plan(name, passes))?;
                within(name, announced(&mut child)).await;
                child.kill().await?;
                name
            }
        };
        *killed.entry(name).or_default() += 1;
    }
    // One that nobody kills handles the rest.
    let mut child = start(plan("", 0))?;
    let all = i64::try_from(messages)?;
    within("the rest", async {
        while D::number(&pool, "select count(distinct uuid) from watermill_invoices").await.unwrap_or(0) < all
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    child.kill().await?;
    Ok(Outcome {
        database: database.name(),
        kills: killed,
        messages: all,
        effects: D::number(&pool, "select count(*) from effects").await?,
        distinct_effects: D::number(&pool, "select count(distinct id) from effects").await?,
        total: D::number(&pool, "select n from total").await?,
        outputs: D::number(&pool, "select count(*) from watermill_invoices").await?,
        distinct_outputs: D::number(&pool, "select count(distinct uuid) from watermill_invoices").await?,
    })
}

/// Makes the tables and publishes what is to be handled.
async fn prepare<D: Store>(url: &str, source: Source, topic: &str, messages: usize) -> Result<Pool<D>> {
    let nowhere = Plan {
        database: String::new(),
        source,
        brokers: String::new(),
        topic: String::new(),
        stop_at: String::new(),
        passes: 0,
        naive: false,
    };
    let pool = D::pool(url, &Steps::new(nowhere)).await?;
    let mut connection = pool.acquire().await?;
    for table in [TABLES, "create table marks (id varchar(64) not null)", "create table total (n bigint)"] {
        D::write(&mut connection, table).await?;
    }
    D::write(&mut connection, "insert into total values (0)").await?;
    drop(connection);
    SqlPublisher::new(pool.clone(), SqlPublisherConfig::default())?.initialize("invoices").await?;
    // So that no child makes the table of marks.
    SqlInbox::new(pool.clone(), SqlInboxConfig::default())?.forget_old().await?;
    let orders = (0..messages).map(|n| Message::with_id(format!("order-{n}"), "{}")).collect();
    let layout = match source {
        Source::Kafka => {
            let config =
                KafkaPublisherConfig::new(Service::KAFKA.url()).create_topics(CreateTopics::new(1, 1));
            let kafka = KafkaPublisher::new(config)?;
            kafka.publish(topic, orders).await?;
            kafka.close().await?;
            return Ok(pool);
        }
        Source::Log => Layout::Log,
        Source::Queue => Layout::Queue,
    };
    let config = SqlPublisherConfig::default().layout(layout);
    SqlPublisher::new(pool.clone(), config)?.publish(topic, orders).await?;
    Ok(pool)
}

fn start(plan: Plan) -> Result<Child> {
    let (name, value) = plan.into_env();
    let mut command = Command::new(std::env::current_exe()?);
    Ok(command.env(name, value).stdout(Stdio::piped()).kill_on_drop(true).spawn()?)
}

/// Waits until a child says where it has stopped.
async fn announced(child: &mut Child) {
    let out = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(out).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.starts_with("at ") {
            return;
        }
    }
    panic!("the child has ended by itself");
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(patience() * 2, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Host and port.
fn address(url: &str) -> String {
    let (_, rest) = url.split_once("://").expect("a URL");
    let (authority, _) = rest.split_once('/').expect("it names a database");
    authority.rsplit('@').next().unwrap_or(authority).to_owned()
}
