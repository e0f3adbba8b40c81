//! What one would write by hand with sqlx and rdkafka: fetches, publishes, waits, moves its position.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::future::join_all;
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use serde::Deserialize;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row as _, postgres::PgRow};
use tokio::time::Instant;
use watermill_core::metadata_keys::MESSAGE_UUID;
use watermill_testkit::unique;

/// The same table as ours.
pub(crate) struct ByHand {
    pub(crate) pool: PgPool,
    pub(crate) brokers: String,
    pub(crate) topic: String,
}

/// An envelope, as it stands in the table.
#[derive(Deserialize)]
struct Envelope {
    destination_topic: String,
    uuid: String,
    payload: String,
    metadata: BTreeMap<String, String>,
}

/// The key stands in the metadata of the row.
#[derive(Deserialize)]
struct Outer {
    #[serde(rename = "_watermill_key")]
    key: Option<String>,
}

impl ByHand {
    /// Relays so many in batches: all of a batch are on their way at once, and the next is fetched when all are accepted
    /// and the position is moved.
    pub(crate) async fn drain(&self, count: usize, batch: usize) -> Duration {
        let producer = self.producer("1");
        let mut connection = self.pool.acquire().await.expect("a connection");
        let group = self.begin(&mut connection).await;
        let started = Instant::now();
        let (mut position, mut done) = (0, 0);
        while done < count {
            let rows = self.fetch(&mut connection, position, batch).await;
            (position, done) = (position_of(&rows[rows.len() - 1]), done + rows.len());
            join_all(rows.iter().map(|row| publish(&producer, row))).await;
            self.advance(&mut connection, &group, position).await;
        }
        started.elapsed()
    }

    /// Relays so many one by one, each recorded before the next: the relay that is written first.
    pub(crate) async fn one_by_one(&self, count: usize) -> Duration {
        let producer = self.producer("0");
        let mut connection = self.pool.acquire().await.expect("a connection");
        let group = self.begin(&mut connection).await;
        let started = Instant::now();
        let (mut position, mut done) = (0, 0);
        while done < count {
            let rows = self.fetch(&mut connection, position, count - done).await;
            for row in &rows {
                (position, done) = (position_of(row), done + 1);
                publish(&producer, row).await;
                self.advance(&mut connection, &group, position).await;
            }
        }
        started.elapsed()
    }

    fn producer(&self, linger_ms: &str) -> FutureProducer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("enable.idempotence", "true")
            .set("linger.ms", linger_ms)
            .create()
            .expect("a producer")
    }

    /// A group at the begin.
    async fn begin(&self, connection: &mut PgConnection) -> String {
        let group = unique("by-hand");
        let text = format!(r#"insert into "watermill_offsets_{}" values ($1, 0, '0'::xid8)"#, self.topic);
        let begun = sqlx::query(AssertSqlSafe(text)).bind(&group).execute(connection).await;
        begun.expect("a new group");
        group
    }

    async fn fetch(&self, connection: &mut PgConnection, after: i64, limit: usize) -> Vec<PgRow> {
        let text: Arc<str> = format!(
            r#"select "offset", payload::text, metadata::text from "watermill_{}"
               where "offset" > $1 order by "offset" limit $2"#,
            self.topic
        )
        .into();
        let limit = i64::try_from(limit).expect("a small number");
        let rows = sqlx::query(AssertSqlSafe(text)).bind(after).bind(limit).fetch_all(connection).await;
        rows.expect("a topic of ours")
    }

    async fn advance(&self, connection: &mut PgConnection, group: &str, position: i64) {
        let text = format!(
            r#"update "watermill_offsets_{}" set offset_acked = $1 where consumer_group = $2"#,
            self.topic
        );
        let moved = sqlx::query(AssertSqlSafe(text)).bind(position).bind(group).execute(connection).await;
        moved.expect("a group of ours");
    }
}

fn position_of(row: &PgRow) -> i64 {
    row.get(0)
}

/// Queues what is in an envelope when it is called, and waits until it is accepted.
fn publish(producer: &FutureProducer, row: &PgRow) -> impl Future<Output = ()> {
    let envelope: Envelope = serde_json::from_str(row.get(1)).expect("an envelope");
    let outer: Outer = serde_json::from_str(row.get(2)).expect("metadata");
    let payload = BASE64_STANDARD.decode(&envelope.payload).expect("base64");
    let mut headers = OwnedHeaders::new_with_capacity(envelope.metadata.len() + 1)
        .insert(Header { key: MESSAGE_UUID, value: Some(&envelope.uuid) });
    for (key, value) in &envelope.metadata {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let mut record =
        FutureRecord::<[u8], [u8]>::to(&envelope.destination_topic).payload(&payload).headers(headers);
    record.key = outer.key.as_ref().map(String::as_bytes);
    let report = producer.send_result(record).map_err(|(error, _)| error).expect("there is room");
    async {
        report.await.expect("the producer lives").map_err(|(error, _)| error).expect("it is accepted");
    }
}
