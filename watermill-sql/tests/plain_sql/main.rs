//! What plain SQL publishes is received, without a line of ours on the writing side. The statements are
//! those of the README.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use futures::StreamExt;
use sqlx::Pool;
use watermill_core::{Delivery, Subscriber, Subscription};
use watermill_sql::{
    SqlDatabase, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlSubscriber, SqlSubscriberConfig,
};

/// The statements of the README that publish, for a database, whose name their introduction has.
fn statements(database: &str) -> &'static str {
    example("# Publishing with plain SQL", database)
}

/// Those that make the tables of a log.
fn tables(database: &str) -> &'static str {
    example("# Tables", database)
}

fn example(section: &str, database: &str) -> &'static str {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once(section).expect("the section");
    let (_, rest) =
        section.split_once(&format!("n {database}:\n\n```sql\n")).expect("the database's example");
    rest.split_once("```").expect("its end").0
}

async fn subscribe<D: SqlDatabase>(pool: &Pool<D>, config: SqlSubscriberConfig, topic: &str) -> Subscription {
    SqlSubscriber::new(pool.clone(), config).unwrap().subscribe(topic).await.unwrap()
}

async fn work_on<D: SqlDatabase>(pool: &Pool<D>, topic: &str) -> Subscription {
    let worker = SqlQueueSubscriber::new(pool.clone(), SqlQueueSubscriberConfig::default()).unwrap();
    worker.subscribe(topic).await.unwrap()
}

/// Checks the two messages of the README.
async fn receive_both(subscription: &mut Subscription) {
    let first = next(subscription).await;
    assert_eq!((first.id().as_str(), &first.payload()[..]), ("0192f3c7", &br#"{"order": 7}"#[..]));
    let metadata: Vec<_> = first.metadata().iter().collect();
    assert_eq!(metadata, [("source", "shell")]);
    assert!(first.info().published_at().is_some());
    first.ack();

    let second = next(subscription).await;
    assert_eq!(second.payload(), r#"{"order": 8}"#);
    assert!(second.metadata().is_empty());
    assert!(second.id().as_str().len() >= 32, "an id of its own: {}", second.id());
    second.ack_confirmed().await.unwrap();
}

async fn next(subscription: &mut Subscription) -> Delivery {
    within("a delivery", subscription.next()).await.expect("the stream goes on").unwrap()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(watermill_testkit::patience(), future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Gives statements to a program on its standard input.
#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn run(program: &str, package: &str, args: &[String], statements: &str) {
    use std::process::Stdio;

    use tokio::io::AsyncWriteExt;

    let mut child = tokio::process::Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; it comes with the package {package}"));
    let mut input = child.stdin.take().unwrap();
    input.write_all(statements.as_bytes()).await.unwrap();
    drop(input);
    let status = within(program, child.wait()).await.unwrap();
    assert!(status.success(), "{program}: {status}");
}
