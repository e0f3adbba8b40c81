//! Whether an account may do what reading a topic takes.

use sqlx::AssertSqlSafe;
use watermill_core::{
    backend::{Failure, Trouble},
    error::{SubscribeError, chain},
};

use super::pool::{SqlPool, on};
use crate::{
    AfterAck, Layout, SqlDatabase, SqlSource,
    error::classify,
    topic::{LEASES, SHARDS, Tables},
};

/// A table that reading takes, and what is done with it there.
struct Needed {
    table: String,
    quoted: String,
    /// A column of it, to name one.
    column: String,
    verbs: Vec<Verb>,
    /// Whether it is made where it is missing.
    is_ours: bool,
}

/// What a subscriber is to do, for [`SqlPool::missing`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SqlNeeds {
    /// What is subscribed to.
    pub topic: String,
    /// Whether that is a log or a queue.
    pub layout: Layout,
    /// Where rejected messages go.
    pub dead_letter_topic: String,
    /// Whether missing tables are made.
    pub create_tables: bool,
    /// Somebody's table that has the messages.
    pub source: Option<SqlSource>,
    /// Whether it is read in shards.
    pub shards: bool,
}

impl SqlNeeds {
    /// Those of a subscriber to `topic` that moves dead letters to `dead_letter_topic`, and makes no table.
    pub fn new(topic: impl Into<String>, layout: Layout, dead_letter_topic: impl Into<String>) -> Self {
        let (topic, dead_letter_topic) = (topic.into(), dead_letter_topic.into());
        Self { topic, layout, dead_letter_topic, create_tables: false, source: None, shards: false }
    }

    /// Sets [`create_tables`](Self::create_tables).
    #[must_use]
    pub fn create_tables(mut self, create_tables: bool) -> Self {
        self.create_tables = create_tables;
        self
    }

    /// Sets [`source`](Self::source).
    #[must_use]
    pub fn source(mut self, source: impl Into<Option<SqlSource>>) -> Self {
        self.source = source.into();
        self
    }

    /// Sets [`shards`](Self::shards).
    #[must_use]
    pub fn shards(mut self, shards: bool) -> Self {
        self.shards = shards;
        self
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Select,
    Insert,
    Update,
    Delete,
}

impl SqlPool {
    /// Reaches the database and says what is missing for a subscriber: tables, where none may be made, and privileges, each
    /// in a sentence. Nothing is created or changed: statements are tried that find no row.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] where the database cannot be reached, or a topic is no name for a table.
    pub async fn missing(&self, needs: &SqlNeeds) -> Result<Vec<String>, SubscribeError> {
        let failed = |failure: Failure| failure.subscribing(&needs.topic);
        on!(self, pool => {
            let mut missing = Vec::new();
            for needed in needed(pool, needs).map_err(failed)? {
                let there = match needs.source.as_ref().filter(|_| !needed.is_ours) {
                    Some(source) => source_is_there(pool, source).await.map_err(failed)?,
                    None => is_there(pool, &needed.table).await.map_err(failed)?,
                };
                if !there {
                    if !needed.is_ours {
                        missing.push(format!("the table {:?} is missing", needed.table));
                    } else if !needs.create_tables {
                        missing.push(format!("the table {:?} is missing, and may not be made", needed.table));
                    }
                    continue;
                }
                let columns = writable_columns(pool, &needed.table).await.map_err(failed)?;
                for verb in &needed.verbs {
                    let statement = AssertSqlSafe(needed.statement(*verb, &columns, quote(pool)));
                    if let Err(error) = sqlx::query(statement).execute(pool).await {
                        let failure = classify_of(pool, error);
                        let error = failure.subscribing(&needs.topic);
                        missing.push(format!("{} the table {:?}: {}", verb.phrase(), needed.table, chain(&error)));
                    }
                }
            }
            Ok(missing)
        })
    }
}

impl Needed {
    /// One that finds no row.
    fn statement(&self, verb: Verb, columns: &[String], quote: char) -> String {
        let (table, column) = (&self.quoted, format!("{quote}{}{quote}", self.column));
        match verb {
            Verb::Select => format!("select {column} from {table} where 1 = 0"),
            // Of all columns that may be named: MySQL asks for those without a default before it finds that there is no row.
            Verb::Insert => {
                let columns: Vec<_> = columns.iter().map(|name| format!("{quote}{name}{quote}")).collect();
                let columns = columns.join(", ");
                format!("insert into {table} ({columns}) select {columns} from {table} where 1 = 0")
            }
            Verb::Update => format!("update {table} set {column} = {column} where 1 = 0"),
            Verb::Delete => format!("delete from {table} where 1 = 0"),
        }
    }
}

impl Verb {
    fn phrase(self) -> &'static str {
        match self {
            Self::Select => "this account may not select from",
            Self::Insert => "this account may not insert into",
            Self::Update => "this account may not update",
            Self::Delete => "this account may not delete from",
        }
    }
}

fn needed<D: SqlDatabase>(_pool: &sqlx::Pool<D>, needs: &SqlNeeds) -> Result<Vec<Needed>, Failure> {
    let tables = |topic: &str| Tables::new::<D>(topic).map_err(|why| Failure::because(Trouble::Topic, why));
    let (own, dead) = (tables(&needs.topic)?, tables(&needs.dead_letter_topic)?);
    let all = || vec![Verb::Select, Verb::Insert, Verb::Update, Verb::Delete];
    let ours = |table: String, quoted: String, column: &str, verbs: Vec<Verb>| Needed {
        table,
        quoted,
        column: column.to_owned(),
        verbs,
        is_ours: true,
    };
    let is_log = needs.layout == Layout::Log;
    let mut needed = Vec::new();
    match &needs.source {
        None if is_log => {
            needed.push(ours(own.messages_name(), own.messages(), "uuid", vec![Verb::Select]));
        }
        None => {
            let verbs = vec![Verb::Select, Verb::Update, Verb::Delete];
            needed.push(ours(own.messages_name(), own.messages(), "uuid", verbs));
        }
        Some(source) => {
            let quoted = |name: &str| format!("{quote}{name}{quote}", quote = D::QUOTE);
            let passing = match source.after_ack {
                AfterAck::Keep => None,
                AfterAck::Delete => Some(Verb::Delete),
                AfterAck::Mark { .. } => Some(Verb::Update),
            };
            let schema = source.schema.as_deref().map(|schema| format!("{}.", quoted(schema)));
            let column = match &source.after_ack {
                AfterAck::Mark { column } => column.clone(),
                _ => source.id.clone(),
            };
            needed.push(Needed {
                table: source.table.clone(),
                quoted: format!("{}{}", schema.unwrap_or_default(), quoted(&source.table)),
                column,
                verbs: [Verb::Select].into_iter().chain(passing).collect(),
                is_ours: false,
            });
        }
    }
    if is_log {
        let mut verbs = vec![Verb::Select, Verb::Insert, Verb::Update];
        verbs.extend(needs.shards.then_some(Verb::Delete));
        needed.push(ours(own.offsets_name(), own.offsets(), "consumer_group", verbs));
        needed.push(ours(LEASES.to_owned(), LEASES.to_owned(), "consumer_group", all()));
    }
    if needs.shards {
        let verbs = vec![Verb::Select, Verb::Insert, Verb::Update];
        needed.push(ours(SHARDS.to_owned(), SHARDS.to_owned(), "consumer_group", verbs));
    }
    let verbs = vec![Verb::Select, Verb::Insert];
    needed.push(ours(dead.messages_name(), dead.messages(), "uuid", verbs));
    Ok(needed)
}

async fn is_there<D: SqlDatabase>(pool: &sqlx::Pool<D>, table: &str) -> Result<bool, Failure> {
    let mut connection = pool.acquire().await.map_err(classify::<D>)?;
    Ok(!D::columns(&mut connection, table).await.map_err(classify::<D>)?.is_empty())
}

/// It may be in another schema.
async fn source_is_there<D: SqlDatabase>(pool: &sqlx::Pool<D>, source: &SqlSource) -> Result<bool, Failure> {
    let mut connection = pool.acquire().await.map_err(classify::<D>)?;
    Ok(!D::source_columns(&mut connection, source).await.map_err(classify::<D>)?.is_empty())
}

async fn writable_columns<D: SqlDatabase>(pool: &sqlx::Pool<D>, table: &str) -> Result<Vec<String>, Failure> {
    let mut connection = pool.acquire().await.map_err(classify::<D>)?;
    D::writable_columns(&mut connection, table).await.map_err(classify::<D>)
}

fn quote<D: SqlDatabase>(_pool: &sqlx::Pool<D>) -> char {
    D::QUOTE
}

fn classify_of<D: SqlDatabase>(_pool: &sqlx::Pool<D>, error: sqlx::Error) -> Failure {
    classify::<D>(error)
}
