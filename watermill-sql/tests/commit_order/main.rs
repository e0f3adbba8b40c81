//! The proof that readers lose nothing to transactions that commit in another order than they drew
//! their offsets: writers do their worst, and what was delivered is compared with the table.
//!
//! The control shows that the writers are bad enough: they make a reader that asks for offsets above
//! its last one lose rows.

#![cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
#[path = "../postgres_database/mod.rs"]
mod postgres_database;
mod reader;
mod server;
#[cfg(feature = "sqlite")]
mod sqlite;
mod verdict;
mod writer;

use std::sync::Arc;

use futures::future::join_all;
use watermill_core::{Message, PublisherExt};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSource, SqlSubscriber, SqlSubscriberConfig};

use crate::{reader::MARKER, server::Server, verdict::Verdict};

/// The topic of every test; each has a database of its own.
const TOPIC: &str = "chaos";

/// How many writers, and how many transactions each tries.
struct Load {
    writers: u32,
    transactions: u32,
    seed: u64,
}

/// How long a write transaction stays open that has nothing to do with the topic.
#[derive(Clone, Copy, PartialEq)]
enum Foreign {
    /// Until the writers have ended: where it holds readers back, they wait for that.
    DuringTheWriting,
    /// Until everything was delivered: nobody waits for it.
    AllAlong,
}

/// The same table, read as one that is somebody else's.
async fn prove_of_a_source<S: Server>(server: S, load: Load, foreign: Foreign) {
    const SOMEBODYS: &str = "somebodys";
    let source = SqlSource::table(format!("watermill_{TOPIC}"))
        .topic(SOMEBODYS)
        .id("uuid")
        .offset("offset")
        .metadata_json("metadata");
    prove_on(server, load, (SOMEBODYS, SqlSubscriberConfig::default().source(source)), foreign).await;
}

async fn prove<S: Server>(server: S, load: Load, config: SqlSubscriberConfig, foreign: Foreign) {
    prove_on(server, load, (TOPIC, config), foreign).await;
}

/// Reads with two groups, one of which is handed from subscription to subscription, while writers write.
async fn prove_on<S: Server>(
    server: S,
    load: Load,
    (topic, config): (&'static str, SqlSubscriberConfig),
    foreign: Foreign,
) {
    let server = Arc::new(server);
    let publisher = set_up(&*server).await;
    let mut open = server.begin_elsewhere().await;

    let subscriber =
        |group: &str| SqlSubscriber::new(server.reading_pool().clone(), config.clone().group(group)).unwrap();
    let steady = tokio::spawn(reader::steady(subscriber("steady"), topic));
    let handed_over = tokio::spawn(reader::handed_over(subscriber("handed_over"), topic, load.seed));

    write(&server, &load).await;
    if foreign == Foreign::DuringTheWriting {
        drop(open.take());
    }
    let (writer, number) = MARKER;
    publisher.publish_one(TOPIC, Message::new(format!("[{writer},{number}]"))).await.unwrap();
    let (steady, handed_over) = (steady.await.unwrap(), handed_over.await.unwrap());
    drop(open);

    let table = server.rows_after(0).await.unwrap();
    assert!(table.len() as u32 > load.writers * load.transactions / 2, "only {} rows", table.len());
    for (reader, delivered) in [("steady", steady), ("handed over", handed_over)] {
        assert_eq!(Verdict::of(&table, &delivered), Verdict::default(), "the reader that is {reader}");
    }
}

/// How many rows a reader misses that asks for offsets above its last one.
async fn missing_above_last<S: Server>(server: S, load: Load) -> usize {
    let server = Arc::new(server);
    set_up(&*server).await;
    let (end, ended) = tokio::sync::oneshot::channel();
    let reader = tokio::spawn(reader::above_last(server.clone(), ended));
    write(&server, &load).await;
    end.send(()).unwrap();
    let read = reader.await.unwrap();
    let verdict = Verdict::of(&server.rows_after(0).await.unwrap(), &read);
    assert_eq!(verdict, Verdict { missing: verdict.missing.clone(), ..Verdict::default() });
    verdict.missing.len()
}

async fn set_up<S: Server>(server: &S) -> SqlPublisher<S::Database> {
    let pool = server.reading_pool().clone();
    let publisher = SqlPublisher::new(pool, SqlPublisherConfig::default()).unwrap();
    publisher.initialize(TOPIC).await.unwrap();
    server.prepare().await.unwrap();
    publisher
}

async fn write<S: Server>(server: &Arc<S>, load: &Load) {
    let disturbance = tokio::spawn({
        let server = server.clone();
        async move { server.disturb().await }
    });
    let writers = (0..load.writers)
        .map(|writer| tokio::spawn(writer::write(server.clone(), writer, load.transactions, load.seed)));
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    disturbance.abort();
}
