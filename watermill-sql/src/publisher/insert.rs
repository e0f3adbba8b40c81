//! [`Batch`]: the rows of one call, and inserting them whole or not at all.

use sqlx::Connection as _;
use watermill_core::{
    Message,
    backend::refuse_delays,
    error::{PublishError, PublishErrorKind},
};

use super::{InsertDialect, SqlPublisherConfig};
use crate::{
    Layout,
    error::{Trouble, classify},
    marshaler::Record,
    schema::{self, Found},
    topic::Tables,
};

/// The rows of one call, checked before anything is sent.
pub(crate) struct Batch {
    pub(crate) tables: Tables,
    pub(crate) records: Vec<Record>,
}

impl Batch {
    pub(crate) fn new<D: InsertDialect>(
        topic: &str,
        messages: Vec<Message>,
        config: &SqlPublisherConfig,
    ) -> Result<Self, PublishError> {
        let payload = config.payload_column.unwrap_or(D::PAYLOAD_COLUMN);
        let tables = Tables::new::<D>(topic)
            .map_err(|why| PublishError::new(PublishErrorKind::Topic, topic).because(why))?;
        if config.layout == Layout::Log {
            refuse_delays(topic, &messages)?;
        }
        let records = messages
            .into_iter()
            .map(|message| Record::encode(message, payload, config.layout))
            .collect::<Result<Vec<_>, _>>()
            .and_then(check_due::<D>)
            .map_err(|why| PublishError::new(PublishErrorKind::Message, topic).because(why))?;
        Ok(Self { tables, records })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn is_one_statement<D: InsertDialect>(&self) -> bool {
        let mut rest = &self.records[..];
        first_chunk::<D>(&mut rest);
        rest.is_empty()
    }
}

fn check_due<D: InsertDialect>(records: Vec<Record>) -> Result<Vec<Record>, String> {
    match records.iter().find(|record| record.due_ms > Some(D::DUE_MS_MAX)) {
        Some(record) => Err(format!(
            "message {:?} is due later than its column can hold: use a shorter delay",
            record.uuid
        )),
        None => Ok(records),
    }
}

/// Inserts a whole call or nothing of it, and creates the table only when the database has missed it:
/// where it exists, a publish costs no other statement. Returns what is known about the table.
pub(crate) async fn insert<D: InsertDialect>(
    connection: &mut D::Connection,
    batch: &Batch,
    config: &SqlPublisherConfig,
    create: bool,
    found: Option<Found>,
) -> Result<Found, PublishError> {
    let Batch { tables, records } = batch;
    let found = found.unwrap_or(Found::OURS);
    let failure = match insert_chunks::<D>(connection, tables, records, config, found).await {
        Ok(()) => return Ok(found),
        Err(error) => classify::<D>(error),
    };
    let inserted = if failure.trouble() == Trouble::Mismatch {
        // The table is missing, or not ours, which this says; or it exists by now, or cannot hold delays.
        match schema::ensure_messages::<D>(connection, tables, config.layout, config.payload_column, create)
            .await
        {
            Ok(found) => insert_chunks::<D>(connection, tables, records, config, found)
                .await
                .map(|()| found)
                .map_err(classify::<D>),
            Err(failure) => Err(failure),
        }
    } else {
        Err(failure)
    };
    inserted.map_err(|failure| failure.publishing(tables.topic()))
}

/// One statement is atomic by itself; several become a transaction, or a savepoint of the caller's.
/// `found` says of a queue which columns it has for due times.
pub(crate) async fn insert_chunks<D: InsertDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    records: &[Record],
    config: &SqlPublisherConfig,
    found: Found,
) -> sqlx::Result<()> {
    let mut rest = records;
    let first = first_chunk::<D>(&mut rest);
    if rest.is_empty() {
        return insert_chunk::<D>(connection, tables, first, config, found).await;
    }
    let mut transaction = connection.begin().await?;
    insert_chunk::<D>(&mut transaction, tables, first, config, found).await?;
    while !rest.is_empty() {
        let chunk = first_chunk::<D>(&mut rest);
        insert_chunk::<D>(&mut transaction, tables, chunk, config, found).await?;
    }
    transaction.commit().await
}

async fn insert_chunk<D: InsertDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    records: &[Record],
    config: &SqlPublisherConfig,
    found: Found,
) -> sqlx::Result<()> {
    match config.layout {
        Layout::Log => D::insert(connection, tables, records, config).await,
        Layout::Queue => {
            // Those columns are named only where they are needed.
            let is_delayed = records.iter().any(|record| record.due_ms.is_some());
            let found = if is_delayed { found } else { Found::NO_DUE };
            D::enqueue(connection, tables, records, config, found).await
        }
    }
}

/// Takes as many records as one statement holds, and at least one.
fn first_chunk<'r, D: InsertDialect>(records: &mut &'r [Record]) -> &'r [Record] {
    let mut bytes = 0;
    let fits = |record: &&Record| {
        bytes += record.payload.len() + record.metadata.len();
        bytes <= D::INSERT_BYTES_MAX
    };
    let count = records.iter().take(D::INSERT_ROWS_MAX).take_while(fits).count().max(1);
    let (chunk, rest) = records.split_at(count.min(records.len()));
    *records = rest;
    chunk
}
