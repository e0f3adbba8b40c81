//! [`SourceDialect`]: everything about tables that are not ours that differs between databases.

use async_trait::async_trait;

use super::{Mapping, SqlSource};
use crate::{error::Failure, schema::SchemaDialect, stored::Row, topic::Tables};

/// What a column holds, as far as it matters how it is read and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes that may be no text.
    Bytes,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// A date or a time.
    Time,
    /// Anything that the database makes text of.
    Text,
}

/// A column of somebody's table.
#[derive(Clone, Debug)]
pub struct SourceColumn {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// As the database writes it in a cast.
    pub(crate) type_name: String,
    /// How many characters or bytes it holds at most, where that is bounded and known.
    pub(crate) length_max: Option<u64>,
}

/// A row that was read by its id.
#[derive(Debug)]
pub struct SourceRow {
    pub(crate) id: String,
    pub(crate) row: Row,
}

/// Rows that are done with.
#[derive(Clone, Copy, Debug)]
pub enum Passed<'a> {
    /// By their offsets.
    Offsets(&'a [i64]),
    /// By their ids.
    Ids(&'a [String]),
}

/// The statements of one database for tables that are not ours.
#[async_trait]
pub trait SourceDialect: SchemaDialect {
    /// The columns of a table; none when there is no such table.
    async fn source_columns(
        connection: &mut Self::Connection,
        source: &SqlSource,
    ) -> sqlx::Result<Vec<SourceColumn>>;

    /// An expression of the bytes of a column: its own, or its text.
    fn bytes_of(column: &SourceColumn, quoted: &str) -> String;

    /// An expression of the text of an id.
    fn text_of(column: &SourceColumn, quoted: &str) -> String;

    /// An expression of how many bytes of a column become a part of a message, nearly; zero of SQL's null.
    fn size_of(column: &SourceColumn, quoted: &str) -> String;

    /// An expression of the moment of a column, in milliseconds since the epoch; `None` where it holds none.
    fn ms_of(column: &SourceColumn, quoted: &str) -> Option<String>;

    /// No moment, as the same type.
    const NO_MS: &str;

    /// How long an id may be that a claim holds, in characters, where that is bounded. Of bytes it holds two digits each.
    const ID_CHARS_MAX: Option<u64> = None;

    /// What a column is set to as a mark.
    fn mark_of(kind: Kind) -> &'static str;

    /// Creates our table of the claims of a queue, unless it is there: a queue whose messages have the ids of rows,
    /// each once, and nothing else.
    async fn create_claims(connection: &mut Self::Connection, tables: &Tables) -> sqlx::Result<()>;

    /// The ids of rows that are not claimed or done, in the order of the queue.
    async fn unclaimed(
        connection: &mut Self::Connection,
        tables: &Tables,
        mapping: &Mapping,
        limit: usize,
    ) -> sqlx::Result<Vec<String>>;

    /// Puts ids into our table of claims, but for those that are there.
    async fn add_claims(
        connection: &mut Self::Connection,
        tables: &Tables,
        ids: &[String],
    ) -> sqlx::Result<()>;

    /// Reads rows by their ids, with zero for their offsets; those that are gone, or marked, are left out.
    async fn rows_by_id(
        connection: &mut Self::Connection,
        mapping: &Mapping,
        ids: &[String],
    ) -> sqlx::Result<Vec<SourceRow>>;

    /// Which of these rows are there and not marked, and their sizes.
    async fn sizes_by_id(
        connection: &mut Self::Connection,
        mapping: &Mapping,
        ids: &[String],
    ) -> sqlx::Result<Vec<(String, i64)>>;

    /// Which of these rows are still there and not marked.
    async fn ids_there(
        connection: &mut Self::Connection,
        mapping: &Mapping,
        ids: &[String],
    ) -> sqlx::Result<Vec<String>>;

    /// Deletes or marks rows.
    async fn pass(
        connection: &mut Self::Connection,
        mapping: &Mapping,
        passed: Passed<'_>,
    ) -> sqlx::Result<()>;

    /// Deletes up to so many claims of rows that are done and gone.
    async fn forget_claims(
        connection: &mut Self::Connection,
        tables: &Tables,
        mapping: &Mapping,
        limit: usize,
    ) -> sqlx::Result<()>;

    /// Refuses a column that does not give the order of a log.
    async fn check_order(connection: &mut Self::Connection, mapping: &Mapping) -> Result<(), Failure>;
}
