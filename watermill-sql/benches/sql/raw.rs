//! What one would write by hand with sqlx, and no more than that.

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use async_trait::async_trait;
use sqlx::Pool;
use watermill_core::Message;
use watermill_sql::SqlDatabase;

/// How much is made of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Owned copies of its columns.
    Columns,
    /// The same with the metadata as a map, without which nobody could use them.
    Message,
}

/// The statements of one database. Their texts are made once.
#[async_trait]
pub(crate) trait Raw: SqlDatabase {
    /// A multi-row insert of `rows` rows.
    fn insert_text(topic: &str, rows: usize) -> Arc<str>;

    /// Inserts messages with that statement. Metadata are made JSON here, as by everybody who has some.
    async fn write_rows(
        connection: &mut Self::Connection,
        text: &Arc<str>,
        messages: &[Message],
    ) -> sqlx::Result<()>;

    /// Gives a group its first position.
    async fn begin_group(connection: &mut Self::Connection, topic: &str, group: &str) -> sqlx::Result<()>;

    /// The statement of [`read_rows`](Self::read_rows).
    fn read_text(topic: &str) -> Arc<str>;

    /// Reads up to `limit` rows after an offset: offset, id, payload and metadata. Returns the last offset
    /// and how many rows there were.
    async fn read_rows(
        connection: &mut Self::Connection,
        text: &Arc<str>,
        after: i64,
        limit: i64,
        depth: Depth,
    ) -> sqlx::Result<(i64, usize)>;

    /// The statement of [`move_position`](Self::move_position).
    fn advance_text(topic: &str) -> Arc<str>;

    /// Moves a group's position.
    async fn move_position(
        connection: &mut Self::Connection,
        text: &Arc<str>,
        group: &str,
        position: i64,
    ) -> sqlx::Result<()>;

    /// How many rows of a queue wait for older ones of their keys.
    async fn count_aside(pool: &Pool<Self>, topic: &str) -> sqlx::Result<usize>;

    /// Makes the server do now what it would do in the background later.
    async fn settle_down(connection: &mut Self::Connection, topic: &str) -> sqlx::Result<()>;
}

/// A message as it is read by hand: its columns as they are sent, or with the metadata as something that one
/// can look into.
pub(crate) fn use_message(uuid: String, payload: impl AsRef<[u8]>, metadata: &str, depth: Depth) {
    match depth {
        Depth::Columns => drop(black_box((uuid, payload, metadata.to_owned()))),
        Depth::Message => {
            let metadata: BTreeMap<String, String> = serde_json::from_str(metadata).expect("text to text");
            drop(black_box((uuid, payload, metadata)));
        }
    }
}

/// What rows that wait for older ones of their keys have, and no others.
pub(crate) const IS_ASIDE: &str = "due_ms > 8000000000000000000";

/// Metadata as JSON text.
pub(crate) fn metadata(message: &Message) -> String {
    serde_json::to_string(message.metadata()).expect("text is JSON")
}

/// A payload as text.
pub(crate) fn payload(message: &Message) -> &str {
    std::str::from_utf8(message.payload()).expect("the workload's bodies are text")
}
