//! What a queue needs beside its messages: columns and indexes for claims, and for order by key. To add them to a queue that is
//! full takes longer than anything else that is done to a table.

use super::{Found, SchemaDialect, ensure_messages};
use crate::{
    Layout, PayloadColumn,
    error::{Failure, Trouble, classify},
    topic::Tables,
};

/// What the table of a queue lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lacks {
    claims: bool,
    order: bool,
}

impl Lacks {
    pub(crate) fn anything(self) -> bool {
        self.claims || self.order
    }
}

/// Sees to the messages table of a queue, which may be in order by key, and says what it lacks. Refuses what may not be
/// changed.
pub(crate) async fn ensure_queue<D: SchemaDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    payload: Option<PayloadColumn>,
    ordered: bool,
    create: bool,
) -> Result<Lacks, Failure> {
    let found = ensure_messages::<D>(connection, tables, Layout::Queue, payload, create).await?;
    let lacks = lacks(tables, found, ordered)?;
    let refused = |why| Err(Failure::because(Trouble::Refused, why));
    match (lacks, create) {
        (Lacks { claims: true, .. }, false) => refused(lacks_claims(tables)),
        (Lacks { order: true, .. }, false) => refused(lacks_order::<D>(tables)),
        _ => Ok(lacks),
    }
}

/// Gives a queue what it lacks. It takes as long as the table is large.
pub(crate) async fn change_queue<D: SchemaDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    lacks: Lacks,
) -> Result<(), Failure> {
    tracing::info!(
        table = tables.messages_name(),
        ?lacks,
        "changing the table, which takes as long as it is large"
    );
    if lacks.claims {
        allowed::<D>(D::adopt_queue(connection, tables).await, || lacks_claims(tables))?;
    }
    if lacks.order {
        allowed::<D>(D::add_order(connection, tables).await, || lacks_order::<D>(tables))?;
    }
    tracing::info!(table = tables.messages_name(), "the table is changed");
    Ok(())
}

fn lacks(tables: &Tables, found: Found, ordered: bool) -> Result<Lacks, Failure> {
    if found.ordered && !ordered {
        let why =
            "is in order by key: set ordered_by_key, or drop its column holds_key once nobody works on it";
        return Err(Failure::because(
            Trouble::Topic,
            format!("the table {:?} {why}", tables.messages_name()),
        ));
    }
    Ok(Lacks { claims: !found.due, order: ordered && !found.ordered })
}

fn lacks_claims(tables: &Tables) -> String {
    format!(
        "the table {:?} was made by Go and lacks the columns that claims need: let an account that may \
         alter it subscribe once, with initialize_schema",
        tables.messages_name()
    )
}

fn lacks_order<D: SchemaDialect>(tables: &Tables) -> String {
    format!(
        "the table {:?} is a queue without order: let an account that may alter it subscribe once, with \
         initialize_schema, or run: {}",
        tables.messages_name(),
        D::order_queue(tables).join("; ").split_whitespace().collect::<Vec<_>>().join(" ")
    )
}

fn allowed<D: SchemaDialect>(changed: sqlx::Result<()>, why: impl FnOnce() -> String) -> Result<(), Failure> {
    changed.map_err(|error| match classify::<D>(error) {
        failure if failure.trouble() == Trouble::Refused => failure.explained(why()),
        failure => failure,
    })
}
