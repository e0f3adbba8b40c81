//! Creating the tables on demand, and refusing tables that are not ours.

mod dialect;
mod queue;

pub(crate) use dialect::SchemaDialect;
pub(crate) use queue::{change_queue, ensure_queue};

use crate::{
    Layout, PayloadColumn,
    error::{Failure, Trouble, classify},
    inbox::InboxDialect,
    schedules::ScheduleDialect,
    shards::ShardsDialect,
    topic::{CHECKPOINTS, INBOX, LEASES, SCHEDULES, SHARDS, Tables},
};

const MESSAGES_COLUMNS: &[&str] = &["offset", "uuid", "created_at", "payload", "metadata"];
const OFFSETS_COLUMNS: &[&str] = &["consumer_group", "offset_acked"];
const LEASES_COLUMNS: &[&str] = &["topic", "consumer_group", "owner", "token", "expires_at_ms", "progress"];
const SCHEDULES_COLUMNS: &[&str] = &["name", "plan", "next_ms", "fired"];
const INBOX_COLUMNS: &[&str] = &["consumer", "topic", "message_id", "handled_at_ms"];
const CHECKPOINTS_COLUMNS: &[&str] = &["name", "owner", "checkpoint"];

const SHARDS_COLUMNS: &[&str] = &["topic", "consumer_group", "plan"];

/// The column that only a queue has.
const ACKED: &str = "acked";
/// The column for due times, which Go's queues lack until they are worked on here.
pub(crate) const DUE: &str = "due_ms";
/// The column that only a queue has which is in order by key.
pub(crate) const HOLDS_KEY: &str = "holds_key";
/// Go's column for due times, on MySQL.
const GO_DUE: &str = "delayed_until";

/// What was found out about a messages table.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Whether it has our column for due times. Where it has none, a row's metadata says when it is due.
    pub(crate) due: bool,
    /// Whether it has Go's.
    #[cfg_attr(not(feature = "mysql"), expect(dead_code, reason = "Go has that column on MySQL only"))]
    pub(crate) go_due: bool,
    /// Whether it is a queue in order by key.
    ordered: bool,
}

impl Found {
    /// What is assumed of a queue that was not looked at: that it is as we make them.
    pub(crate) const OURS: Self = Self { due: true, go_due: true, ordered: false };
    /// Nothing is to be written about due times.
    pub(crate) const NO_DUE: Self = Self { due: false, go_due: false, ordered: false };
}

/// Sees to the messages table of a topic. Any number of processes may do so at once.
pub(crate) async fn ensure_messages<D: SchemaDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    layout: Layout,
    payload: Option<PayloadColumn>,
    create: bool,
) -> Result<Found, Failure> {
    let name = tables.messages_name();
    let columns = D::columns(connection, &name).await.map_err(classify::<D>)?;
    let has = |column: &str| columns.iter().any(|name| name == column);
    if check(&name, &columns, MESSAGES_COLUMNS)? {
        let why = match layout {
            Layout::Log if has(ACKED) => "is a queue: use Layout::Queue and SqlQueueSubscriber",
            Layout::Queue if !has(ACKED) => "is a log: use Layout::Log and SqlSubscriber",
            _ => return Ok(Found { due: has(DUE), go_due: has(GO_DUE), ordered: has(HOLDS_KEY) }),
        };
        return Err(Failure::because(Trouble::Topic, format!("the table {name:?} {why}")));
    }
    may_create(&name, create)?;
    let payload = payload.unwrap_or(D::PAYLOAD_COLUMN);
    match layout {
        Layout::Log => D::create_messages(connection, tables, payload).await,
        Layout::Queue => D::create_queue(connection, tables, payload).await,
    }
    .map_err(classify::<D>)?;
    Ok(Found::OURS)
}

/// Sees to everything that reading a log needs.
pub(crate) async fn ensure_log<D: SchemaDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    payload: Option<PayloadColumn>,
    create: bool,
) -> Result<(), Failure> {
    if tables.mapping().is_none() {
        ensure_messages::<D>(connection, tables, Layout::Log, payload, create).await?;
    }
    if !is_there::<D>(connection, &tables.offsets_name(), OFFSETS_COLUMNS).await? {
        may_create(&tables.offsets_name(), create)?;
        D::create_offsets(connection, tables).await.map_err(classify::<D>)?;
    }
    ensure_leases::<D>(connection, create).await
}

/// Sees to the table of leases, and that it has the columns of this release.
async fn ensure_leases<D: SchemaDialect>(
    connection: &mut D::Connection,
    create: bool,
) -> Result<(), Failure> {
    let present = D::columns(connection, LEASES).await.map_err(classify::<D>)?;
    if !check(LEASES, &present, LEASES_COLUMNS)? {
        may_create(LEASES, create)?;
        return D::create_leases(connection).await.map_err(classify::<D>);
    }
    let lacks = |present: &[String], name: &str| !present.iter().any(|column| column == name);
    let added: Vec<_> = D::LEASES_COLUMNS_ADDED.iter().filter(|(name, _)| lacks(&present, name)).collect();
    let statements: Vec<String> = added
        .iter()
        .map(|(name, definition)| format!("alter table {LEASES} add column {name} {definition}"))
        .collect();
    let why = format!(
        "the table {LEASES:?} is of an earlier release: let an account that may alter it subscribe once, with \
         initialize_schema, or run: {}",
        statements.join("; ")
    );
    if !create && !statements.is_empty() {
        return Err(Failure::because(Trouble::Refused, why));
    }
    for ((name, _), statement) in added.iter().zip(statements) {
        let altered = D::alter(connection, statement).await;
        // Of several that do so at once one succeeds, and the others find the column there.
        if let Err(error) = altered {
            let present = D::columns(connection, LEASES).await.map_err(classify::<D>)?;
            if lacks(&present, name) {
                return Err(match classify::<D>(error) {
                    failure if failure.is_passing() => failure,
                    failure => failure.explained(why),
                });
            }
        }
    }
    Ok(())
}

/// Sees to the table of checkpoints.
pub(crate) async fn ensure_checkpoints<D: SchemaDialect>(
    connection: &mut D::Connection,
    create: bool,
) -> Result<(), Failure> {
    if is_there::<D>(connection, CHECKPOINTS, CHECKPOINTS_COLUMNS).await? {
        return Ok(());
    }
    may_create(CHECKPOINTS, create)?;
    D::create_checkpoints(connection).await.map_err(classify::<D>)
}

/// Sees to the table of the plans of shards.
pub(crate) async fn ensure_shards<D: SchemaDialect + ShardsDialect>(
    connection: &mut D::Connection,
    create: bool,
) -> Result<(), Failure> {
    if has_shards::<D>(connection).await? {
        return Ok(());
    }
    may_create(SHARDS, create)?;
    D::create_shards(connection).await.map_err(classify::<D>)
}

/// Whether any group was ever read in shards.
pub(crate) async fn has_shards<D: SchemaDialect>(connection: &mut D::Connection) -> Result<bool, Failure> {
    is_there::<D>(connection, SHARDS, SHARDS_COLUMNS).await
}

/// Sees to the table of messages that were handled.
pub(crate) async fn ensure_inbox<D: InboxDialect>(
    connection: &mut D::Connection,
    create: bool,
) -> Result<(), Failure> {
    if is_there::<D>(connection, INBOX, INBOX_COLUMNS).await? {
        return Ok(());
    }
    may_create(INBOX, create)?;
    D::create_inbox(connection).await.map_err(classify::<D>)
}

/// The table of schedules is there, and as it should be.
pub(crate) async fn ensure_schedules<D: ScheduleDialect>(
    connection: &mut D::Connection,
    create: bool,
) -> Result<(), Failure> {
    if is_there::<D>(connection, SCHEDULES, SCHEDULES_COLUMNS).await? {
        return Ok(());
    }
    may_create(SCHEDULES, create)?;
    D::create_schedules(connection).await.map_err(classify::<D>)
}

/// What a topic's table is, if it has one.
pub(crate) async fn layout_of<D: SchemaDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
) -> Result<Option<Layout>, Failure> {
    let name = tables.messages_name();
    let columns = D::columns(connection, &name).await.map_err(classify::<D>)?;
    let layout = if columns.iter().any(|column| column == ACKED) { Layout::Queue } else { Layout::Log };
    Ok(check(&name, &columns, MESSAGES_COLUMNS)?.then_some(layout))
}

/// Whether a log has ever been read.
pub(crate) async fn has_offsets<D: SchemaDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
) -> Result<bool, Failure> {
    is_there::<D>(connection, &tables.offsets_name(), OFFSETS_COLUMNS).await
}

/// Whether a table exists that has these columns. One that exists without them is somebody else's: an error.
pub(crate) async fn is_there<D: SchemaDialect>(
    connection: &mut D::Connection,
    table: &str,
    needed: &[&str],
) -> Result<bool, Failure> {
    let columns = D::columns(connection, table).await.map_err(classify::<D>)?;
    check(table, &columns, needed)
}

/// Whether a table exists. One that exists without our columns is somebody else's: an error.
fn check(table: &str, columns: &[String], needed: &[&str]) -> Result<bool, Failure> {
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

/// Refuses to create a table unless that is asked for.
pub(crate) fn may_create(table: &str, create: bool) -> Result<(), Failure> {
    if create {
        return Ok(());
    }
    Err(Failure::because(
        Trouble::Topic,
        format!("the table {table:?} does not exist: create it, or turn initialize_schema on"),
    ))
}
