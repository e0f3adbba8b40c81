//! Whether an account may do what reading a topic takes.

use sqlx::AssertSqlSafe;
use watermill_core::{
    backend::{Failure, Trouble},
    error::{SubscribeError, chain},
};

use super::pool::{SqlPool, on};
use crate::{
    Layout, SqlDatabase,
    error::classify,
    topic::{LEASES, Tables},
};

/// A table that reading takes, and what is done with it there.
struct Needed {
    table: String,
    quoted: String,
    /// A column of it, to name one.
    column: &'static str,
    verbs: &'static [Verb],
}

#[derive(Clone, Copy)]
enum Verb {
    Select,
    Insert,
    Update,
    Delete,
}

impl SqlPool {
    /// Reaches the database and says what is missing for a subscriber to `topic` that moves dead letters to
    /// `dead_letter_topic`: tables, where `create_tables` is off, and privileges, each in a sentence. Nothing is created or
    /// changed: statements are tried that find no row.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] where the database cannot be reached, or a topic is no name for a table.
    pub async fn missing(
        &self,
        topic: &str,
        layout: Layout,
        dead_letter_topic: &str,
        create_tables: bool,
    ) -> Result<Vec<String>, SubscribeError> {
        let failed = |failure: Failure| failure.subscribing(topic);
        on!(self, pool => {
            let needed = needed(pool, topic, layout, dead_letter_topic).map_err(failed)?;
            let mut missing = Vec::new();
            for needed in needed {
                let columns = columns(pool, &needed.table).await.map_err(failed)?;
                if columns.is_empty() {
                    if !create_tables {
                        missing.push(format!("the table {:?} is missing, and may not be made", needed.table));
                    }
                    continue;
                }
                for verb in needed.verbs {
                    let statement = AssertSqlSafe(needed.statement(*verb, quote(pool)));
                    if let Err(error) = sqlx::query(statement).execute(pool).await {
                        let failure = classify_of(pool, error);
                        let error = failure.subscribing(topic);
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
    fn statement(&self, verb: Verb, quote: char) -> String {
        let (table, column) = (&self.quoted, format!("{quote}{}{quote}", self.column));
        match verb {
            Verb::Select => format!("select {column} from {table} where 1 = 0"),
            Verb::Insert => {
                format!("insert into {table} ({column}) select {column} from {table} where 1 = 0")
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

fn needed<D: SqlDatabase>(
    _pool: &sqlx::Pool<D>,
    topic: &str,
    layout: Layout,
    dead_letter_topic: &str,
) -> Result<Vec<Needed>, Failure> {
    let tables = |topic| Tables::new::<D>(topic).map_err(|why| Failure::because(Trouble::Topic, why));
    let (own, dead) = (tables(topic)?, tables(dead_letter_topic)?);
    let all = &[Verb::Select, Verb::Insert, Verb::Update, Verb::Delete][..];
    let mut needed = vec![Needed {
        table: own.messages_name(),
        quoted: own.messages(),
        column: "uuid",
        verbs: match layout {
            Layout::Log => &[Verb::Select],
            Layout::Queue => &[Verb::Select, Verb::Update, Verb::Delete],
        },
    }];
    if layout == Layout::Log {
        let offsets = Needed {
            table: own.offsets_name(),
            quoted: own.offsets(),
            column: "consumer_group",
            verbs: &[Verb::Select, Verb::Insert, Verb::Update],
        };
        let leases = Needed {
            table: LEASES.to_owned(),
            quoted: LEASES.to_owned(),
            column: "consumer_group",
            verbs: all,
        };
        needed.extend([offsets, leases]);
    }
    needed.push(Needed {
        table: dead.messages_name(),
        quoted: dead.messages(),
        column: "uuid",
        verbs: &[Verb::Select, Verb::Insert],
    });
    Ok(needed)
}

async fn columns<D: SqlDatabase>(pool: &sqlx::Pool<D>, table: &str) -> Result<Vec<String>, Failure> {
    let mut connection = pool.acquire().await.map_err(classify::<D>)?;
    D::columns(&mut connection, table).await.map_err(classify::<D>)
}

fn quote<D: SqlDatabase>(_pool: &sqlx::Pool<D>) -> char {
    D::QUOTE
}

fn classify_of<D: SqlDatabase>(_pool: &sqlx::Pool<D>, error: sqlx::Error) -> Failure {
    classify::<D>(error)
}
