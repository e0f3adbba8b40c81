//! Relays as people write them by hand, each a process of its own, so that one sees what the same faults do to them.
//!
//! They are not straw men: they publish pipelined and in order, wait for every acknowledgement before they note
//! anything, set aside what the broker refuses, and try again what failed otherwise.

mod id_cursor;
mod skip_locked;

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{FutureProducer, FutureRecord},
};
use serde::{Deserialize, Serialize};
use sqlx::{MySql, Postgres};
use tokio::time::sleep;

use crate::{Result, database::Database, options::Design, options::name};

/// The variable that says that this process is such a relay, and what it is to do.
pub(crate) const BY_HAND: &str = "WATERMILL_CHAOS_RELAY";
/// Rows of one batch.
const BATCH: usize = 100;
/// The wait after a batch that was empty, and after an error.
const IDLE: Duration = Duration::from_millis(20);
const AFTER_ERROR: Duration = Duration::from_millis(500);

/// What it is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) design: String,
    pub(crate) database: String,
    pub(crate) brokers: String,
    pub(crate) topic: String,
}

/// Relays until it is killed.
pub(crate) async fn relay(task: &str) -> Result {
    let task: Task = serde_json::from_str(task)?;
    if task.database.starts_with("postgres") {
        relay_from::<Postgres>(&task).await
    } else {
        relay_from::<MySql>(&task).await
    }
}

async fn relay_from<D: Database>(task: &Task) -> Result {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &task.brokers)
        // With idempotence, a message that the broker refuses ends the producer for good; so the order is kept without it.
        .set("max.in.flight.requests.per.connection", "1")
        .set("linger.ms", "1")
        .set("reconnect.backoff.max.ms", "500")
        .create()?;
    let destination = Destination { producer, topic: task.topic.clone() };
    loop {
        let done = match D::connect(&task.database).await {
            Err(error) => Err(error.into()),
            Ok(connection) if task.design == name(Design::SkipLocked) => {
                skip_locked::relay::<D>(connection, &destination).await
            }
            Ok(connection) => id_cursor::relay::<D>(connection, &destination).await,
        };
        if let Err(error) = done {
            eprintln!("{error}");
        }
        sleep(AFTER_ERROR).await;
    }
}

struct Destination {
    producer: FutureProducer,
    topic: String,
}

/// What became of a row.
#[derive(Clone, Copy, PartialEq)]
enum Published {
    Accepted,
    /// The broker does not take this message.
    Refused,
    Failed,
}

impl Destination {
    /// Sends all rows one behind the other, and waits for every answer.
    async fn publish(&self, rows: &[(i64, String, String)]) -> Vec<Published> {
        let mut sent = Vec::with_capacity(rows.len());
        for (_, key, payload) in rows {
            sent.push(self.producer.send_result(FutureRecord::to(&self.topic).key(key).payload(payload)));
        }
        let mut published = Vec::with_capacity(sent.len());
        for one in sent {
            let answer = match one {
                Ok(answer) => answer.await.map(|answer| answer.map_err(|(error, _)| error)),
                Err((error, _)) => Ok(Err(error)),
            };
            published.push(match answer {
                Ok(Ok(_)) => Published::Accepted,
                Ok(Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge))) => {
                    Published::Refused
                }
                _ => Published::Failed,
            });
        }
        published
    }
}

fn ids<'a>(
    rows: &'a [(i64, String, String)],
    published: &'a [Published],
    what: Published,
) -> impl Iterator<Item = String> + 'a {
    rows.iter().zip(published).filter(move |(_, one)| **one == what).map(|((id, ..), _)| id.to_string())
}
