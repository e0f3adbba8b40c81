//! Creating the tables on demand, and refusing tables that are not ours.

use crate::{
    PayloadColumn,
    dialect::Dialect,
    error::{Failure, Trouble},
    lease::LEASES,
    topic::Tables,
};

const MESSAGES_COLUMNS: &[&str] = &["offset", "uuid", "created_at", "payload", "metadata"];
const OFFSETS_COLUMNS: &[&str] = &["consumer_group", "offset_acked"];
const LEASES_COLUMNS: &[&str] = &["topic", "consumer_group", "owner", "token", "expires_at_ms", "progress"];

/// Sees to the messages table of a topic. Any number of processes may do so at once.
pub(crate) async fn ensure_messages<D: Dialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    payload: Option<PayloadColumn>,
    create: bool,
) -> Result<(), Failure> {
    let name = tables.messages_name();
    if is_there::<D>(connection, name, MESSAGES_COLUMNS).await? {
        return Ok(());
    }
    may_create(name, create)?;
    D::create_messages(connection, tables, payload.unwrap_or(D::PAYLOAD_COLUMN))
        .await
        .map_err(Failure::of::<D>)
}

/// Sees to everything that reading a topic needs.
pub(crate) async fn ensure_all<D: Dialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    payload: Option<PayloadColumn>,
    create: bool,
) -> Result<(), Failure> {
    ensure_messages::<D>(connection, tables, payload, create).await?;
    if !is_there::<D>(connection, tables.offsets_name(), OFFSETS_COLUMNS).await? {
        may_create(tables.offsets_name(), create)?;
        D::create_offsets(connection, tables).await.map_err(Failure::of::<D>)?;
    }
    if !is_there::<D>(connection, LEASES, LEASES_COLUMNS).await? {
        may_create(LEASES, create)?;
        D::create_leases(connection).await.map_err(Failure::of::<D>)?;
    }
    Ok(())
}

/// Whether a table exists. One that exists without our columns is somebody else's: an error.
async fn is_there<D: Dialect>(
    connection: &mut D::Connection,
    table: &str,
    needed: &[&str],
) -> Result<bool, Failure> {
    let columns = D::columns(connection, table).await.map_err(Failure::of::<D>)?;
    let missing: Vec<_> =
        needed.iter().copied().filter(|name| !columns.iter().any(|column| column == name)).collect();
    if columns.is_empty() || missing.is_empty() {
        return Ok(!columns.is_empty());
    }
    Err(Failure::because(
        Trouble::Topic,
        format!("the table {table:?} is not one of Watermill's: it has no column {}", missing.join(", ")),
    ))
}

fn may_create(table: &str, create: bool) -> Result<(), Failure> {
    if create {
        return Ok(());
    }
    Err(Failure::because(
        Trouble::Topic,
        format!("the table {table:?} does not exist: create it, or turn initialize_schema on"),
    ))
}
