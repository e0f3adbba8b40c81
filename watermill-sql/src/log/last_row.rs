//! The row that a group has read last, by which one knows a table whose offsets begin anew.
//!
//! `truncate ... restart identity`, a table that was dropped and made again, a counter that was set back: once
//! new rows have passed the group's position again, no counter tells, and those below it would never be
//! delivered. So the lease's row keeps which row is at the position, and whoever finds another one in its place
//! refuses to go on. A row that is gone proves nothing; then the counter decides.

use super::{
    SqlSubscriberConfig,
    dialect::{Cursor as _, LastRow, LogDialect, Place},
    lease::Lease,
};
use crate::{
    error::{Failure, Trouble, classify},
    topic::{LEASES, Tables},
};

/// What was found out.
pub(crate) enum Checked {
    /// Nothing new.
    Same,
    /// What is to be noted now.
    Note(Option<LastRow>),
}

/// Refuses a table whose offsets have begun anew, with the remedy.
pub(crate) async fn check<D: LogDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
    cursor: &D::Cursor,
) -> Result<Checked, Failure> {
    if !cursor.is_by_offset() {
        return Ok(Checked::Same);
    }
    let place = D::place(connection, tables, config.group_name()).await.map_err(classify::<D>)?;
    let Some(Place { position, known, there }) = place else { return Ok(Checked::Same) };
    // Whoever sets a group back wants other rows.
    if let (Some(known), Some(there)) = (known.as_ref().filter(|known| known.offset <= position), there)
        && there != known.row
    {
        return Err(Failure::because(
            Trouble::Refused,
            format!(
                "the table's offsets have begun anew: another row is at offset {} than the one that was read, and \
                 what is below {position} would not be delivered; {}",
                known.offset,
                to_the_beginning::<D>(tables, config.group_name()),
            ),
        ));
    }
    let newest = D::last_row(connection, tables, position).await.map_err(classify::<D>)?;
    if position > 0 && newest.as_ref().is_none_or(|newest| newest.offset < position) {
        D::open_cursor(connection, tables, config).await?;
    }
    Ok(if newest == known { Checked::Same } else { Checked::Note(newest) })
}

/// Checks, and notes the row that was read last.
pub(crate) async fn check_and_note<D: LogDialect>(
    connection: &mut D::Connection,
    config: &SqlSubscriberConfig,
    cursor: &D::Cursor,
    lease: &Lease,
) -> Result<(), Failure> {
    match check::<D>(connection, &lease.tables, config, cursor).await? {
        Checked::Same => Ok(()),
        Checked::Note(row) => D::note_last_row(connection, lease, row.as_ref()).await.map_err(classify::<D>),
    }
}

/// How a group is read from its beginning: a fragment with the statements.
pub(crate) fn to_the_beginning<D: LogDialect>(tables: &Tables, group: &str) -> String {
    let group = D::literal(group);
    format!(
        "to read it from its beginning: update {} set {} where consumer_group = {group}; \
         update {LEASES} set progress = '', read_offset = null, read_row = null \
         where topic = {} and consumer_group = {group}",
        tables.offsets(),
        D::BEGINNING,
        D::literal(tables.topic()),
    )
}
