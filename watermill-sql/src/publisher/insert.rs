//! [`Batch`]: the rows of one call, and inserting them whole or not at all.

use std::time::Duration;

use sqlx::Connection as _;
use watermill_core::{
    Message,
    backend::refuse_delays,
    error::{PublishError, PublishErrorKind},
};

use super::{
    InsertDialect, Packet, SqlPublisherConfig,
    packet::{self, Limit},
};
use crate::{
    Layout,
    connection::begin,
    error::{Failure, Trouble, classify},
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
        let tables = Tables::named::<D>(topic, config.schema_qualified)
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

    /// Whether it is surely one statement.
    pub(crate) fn is_one_statement<D: InsertDialect>(&self, packet: &Packet) -> bool {
        let mut rest = &self.records[..];
        let Some(limit) = packet.known::<D>(rest) else { return false };
        first_chunk(&mut rest, limit);
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

/// What became of an insert.
pub(crate) struct Inserted {
    /// What is known about the table.
    pub(crate) found: Found,
    /// Whether it may be part of a transaction that sqlx does not know of, or was not done for that.
    pub(crate) perhaps_inside: bool,
}

/// Over whose connection rows are inserted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Over {
    /// One of ours that is closed unless all goes well; after so much silence the server may roll back what is not
    /// committed. It is in no transaction, which is known of one that is clean.
    Ours { silence: Duration, is_clean: bool },
    /// The caller's, in a transaction or not.
    Callers,
}

/// Inserts a whole call or nothing of it, and creates the table only when the database has missed it:
/// where it exists, a publish costs no other statement.
pub(crate) async fn insert<D: InsertDialect>(
    connection: &mut D::Connection,
    over: Over,
    batch: &Batch,
    config: &SqlPublisherConfig,
    create: bool,
    (found, packet): (Option<Found>, &Packet),
) -> Result<Inserted, Failure> {
    let Batch { tables, records } = batch;
    let found = found.unwrap_or(Found::OURS);
    let failure = match insert_chunks::<D>(connection, over, tables, records, config, found, packet).await {
        Ok(perhaps_inside) => return Ok(Inserted { found, perhaps_inside }),
        Err(error) => classify::<D>(error),
    };
    if failure.trouble() == Trouble::Unavailable {
        packet.forget();
    }
    if failure.trouble() != Trouble::Mismatch {
        return Err(failure);
    }
    // In a transaction that somebody has forgotten, nothing can be made.
    if D::FORGETS_BEGIN
        && matches!(over, Over::Ours { is_clean: false, .. })
        && D::is_in_transaction(connection).await.map_err(classify::<D>)?
    {
        return Ok(Inserted { found, perhaps_inside: true });
    }
    // The table is missing, or not ours, which this says; or it exists by now, or cannot hold delays.
    let found =
        schema::ensure_messages::<D>(connection, tables, config.layout, config.payload_column, create)
            .await?;
    let inserted = insert_chunks::<D>(connection, over, tables, records, config, found, packet).await;
    let perhaps_inside = inserted.map_err(classify::<D>)?;
    Ok(Inserted { found, perhaps_inside })
}

/// One statement is atomic by itself; several become a transaction, or a savepoint of the caller's.
/// `found` says of a queue which columns it has for due times.
pub(crate) async fn insert_chunks<D: InsertDialect>(
    connection: &mut D::Connection,
    over: Over,
    tables: &Tables,
    records: &[Record],
    config: &SqlPublisherConfig,
    found: Found,
    packet: &Packet,
) -> sqlx::Result<bool> {
    let mut rest = records;
    let limit = packet.limit::<D>(connection, records).await?;
    let first = first_chunk(&mut rest, limit);
    if rest.is_empty() {
        let asks = matches!(over, Over::Ours { is_clean: false, .. });
        return insert_chunk::<D>(connection, tables, first, config, found, asks).await;
    }
    if let Over::Ours { silence, .. } = over {
        let mut transaction = begin::<D>(connection, silence).await?;
        insert_parts::<D>(&mut transaction, tables, (records, limit), config, found).await?;
        transaction.commit().await?;
        D::end(connection).await?;
    } else if connection.is_in_transaction() || !D::is_in_transaction(connection).await? {
        let mut transaction = connection.begin().await?;
        insert_parts::<D>(&mut transaction, tables, (records, limit), config, found).await?;
        transaction.commit().await?;
    } else {
        // The caller has begun one that sqlx does not know of, and would begin another one: that commits the
        // caller's, or ends with it.
        D::run_text(connection, "savepoint watermill").await?;
        let inserted = insert_parts::<D>(connection, tables, (records, limit), config, found).await;
        let end = match inserted {
            Ok(()) => "release savepoint watermill",
            Err(_) => "rollback to savepoint watermill",
        };
        let ended = D::run_text(connection, end).await;
        inserted.and(ended)?;
    }
    Ok(false)
}

/// Inserts a whole call inside the transaction that the connection is in.
pub(crate) async fn insert_all<D: InsertDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    records: &[Record],
    config: &SqlPublisherConfig,
    found: Found,
    packet: &Packet,
) -> sqlx::Result<()> {
    let limit = packet.limit::<D>(connection, records).await?;
    insert_parts::<D>(connection, tables, (records, limit), config, found).await
}

async fn insert_parts<D: InsertDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    (mut rest, limit): (&[Record], Limit),
    config: &SqlPublisherConfig,
    found: Found,
) -> sqlx::Result<()> {
    while !rest.is_empty() {
        let chunk = first_chunk(&mut rest, limit);
        insert_chunk::<D>(connection, tables, chunk, config, found, false).await?;
    }
    Ok(())
}

async fn insert_chunk<D: InsertDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    records: &[Record],
    config: &SqlPublisherConfig,
    found: Found,
    asks: bool,
) -> sqlx::Result<bool> {
    match config.layout {
        Layout::Log => D::insert(connection, tables, records, config, asks).await,
        Layout::Queue => {
            // Those columns are named only where they are needed.
            let is_delayed = records.iter().any(|record| record.due_ms.is_some());
            let found = if is_delayed { found } else { Found::NO_DUE };
            D::enqueue(connection, tables, records, config, found, asks).await
        }
    }
}

/// Takes as many records as one statement holds, and at least one.
fn first_chunk<'r>(records: &mut &'r [Record], limit: Limit) -> &'r [Record] {
    let mut bytes = 0;
    let fits = |record: &&Record| {
        bytes += packet::size(record);
        bytes <= limit.bytes
    };
    let count = records.iter().take(limit.rows).take_while(fits).count().max(1);
    let (chunk, rest) = records.split_at(count.min(records.len()));
    *records = rest;
    chunk
}
