//! How many transactions commit that publish, while a reader in another process is woken and while it is not.

use std::{sync::Arc, time::Duration};

use sqlx::Pool;
use tokio::{task::JoinSet, time::Instant};
use watermill_core::{Message, Publisher as _};
use watermill_sql::{SqlPublisher, SqlPublisherConfig};
use watermill_testkit::{Figure, Figures, Limit, PrivateServer, unique, workload};

use super::{
    other_process::Reader,
    server::{self, Durable},
};
use crate::Options;

/// What is left to writers, at least.
const LIMIT: Limit = Limit::AtLeast(0.95);

/// Many short rounds in turn, so that what else the machine does hits all alike.
const ROUND: Duration = Duration::from_millis(1_500);

/// Returns the rate of those that are waked for.
pub(crate) async fn compare<D: Durable>(
    server: &PrivateServer,
    name: &str,
    writers: usize,
    options: &Options,
    figures: &mut Figures,
) -> f64 {
    let (_database, pool, url) = server::database::<D>(server, writers as u32 + 2).await;
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..options.size(11, 3) {
        // Whoever goes first finds another table than whoever goes last.
        for way in (0..3).map(|way| (way + round) % 3) {
            let topic = topic(&pool).await;
            let reader = match way {
                2 => None,
                way => Some(Reader::start::<D>(&url, std::slice::from_ref(&topic), way == 0).await),
            };
            rates[way].push(commits(&pool, &topic, writers).await);
            if let Some(reader) = reader {
                reader.end().await;
            }
        }
    }
    for (way, rates) in ["woken", "polling", "no reader"].iter().zip(&rates) {
        let shown: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        eprintln!("{:<44} {}", format!("{name}/{way}"), shown.join(" "));
    }
    let [woken, polling, alone] = rates.map(workload::middle);
    figures.push(Figure::new(name, woken, "commits per second").baseline(polling).limit(LIMIT));
    figures.push(Figure::new(format!("{name}/no-reader"), alone, "commits per second").baseline(polling));
    pool.close().await;
    woken
}

/// An empty topic.
pub(crate) async fn topic<D: Durable>(pool: &Pool<D>) -> String {
    let topic = unique("waking");
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).expect("it is valid");
    publisher.initialize(&topic).await.expect("a fresh topic");
    topic
}

/// Publishes one message in a transaction, and returns when it began to commit.
pub(crate) async fn publish<D: Durable>(pool: &Pool<D>, topic: &str, number: usize) -> std::time::SystemTime {
    let mut transaction = pool.begin().await.expect("a connection");
    let messages = vec![Message::new(number.to_string())];
    let published = SqlPublisher::in_transaction(&mut transaction).publish(topic, messages).await;
    published.expect("the database takes it");
    let commits_at = std::time::SystemTime::now();
    transaction.commit().await.expect("it is committed");
    commits_at
}

async fn commits<D: Durable>(pool: &Pool<D>, topic: &str, writers: usize) -> f64 {
    let (begun, topic) = (Instant::now(), Arc::<str>::from(topic));
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        let (pool, topic) = (pool.clone(), topic.clone());
        tasks.spawn(async move {
            let mut commits = 0;
            while begun.elapsed() < ROUND {
                publish(&pool, &topic, commits).await;
                commits += 1;
            }
            commits
        });
    }
    let commits: usize = tasks.join_all().await.into_iter().sum();
    workload::per_second(commits, begun.elapsed())
}
