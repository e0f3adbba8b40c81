//! [`Packet`]: how large a statement may be, where the server has a limit.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::InsertDialect;
use crate::marshaler::Record;

/// What is smaller than this, in bytes, is sent without knowing the limit: no server is known with a lower one, and its
/// own clients could not work with that.
const SMALL: usize = 16 * 1024;

/// What a row takes beside its columns, in bytes, at most: the place in the text of the statement, types and lengths.
const ROW: usize = 512;

/// The largest statement that the server takes, in bytes, once that is known. What is larger it answers by closing
/// the connection, which looks like a server that is away.
#[derive(Debug, Default)]
pub(crate) struct Packet(AtomicUsize);

/// How many rows and bytes one statement may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Packet {
    /// What an insert of these rows may have. Asks the server when they are not few and small, and remembers the
    /// answer.
    ///
    /// # Errors
    ///
    /// A row that is larger than the server takes is the message's own fault.
    pub(super) async fn limit<D: InsertDialect>(
        &self,
        connection: &mut D::Connection,
        records: &[Record],
    ) -> sqlx::Result<Limit> {
        let Some(option) = D::PACKET_LIMIT.filter(|_| !is_small(records)) else {
            return Ok(Limit::of::<D>(usize::MAX));
        };
        let packet = match self.0.load(Ordering::Relaxed) {
            0 => D::packet_max(connection).await?,
            known => known,
        };
        self.0.store(packet, Ordering::Relaxed);
        let largest = records.iter().max_by_key(|record| size(record));
        if let Some(largest) = largest.filter(|largest| size(largest) + ROW > packet) {
            return Err(sqlx::Error::InvalidArgument(format!(
                "message {:?} takes {} bytes, and the server takes {packet} at once ({option}): send less, or \
                 raise that where it can be raised",
                largest.uuid,
                size(largest) + ROW,
            )));
        }
        Ok(Limit::of::<D>(packet))
    }

    /// What an insert of these rows may have as far as that is known without asking; `None` where it is not.
    pub(super) fn known<D: InsertDialect>(&self, records: &[Record]) -> Option<Limit> {
        if D::PACKET_LIMIT.is_none() || is_small(records) {
            return Some(Limit::of::<D>(usize::MAX));
        }
        Some(self.0.load(Ordering::Relaxed)).filter(|packet| *packet > 0).map(Limit::of::<D>)
    }

    /// It may have changed: a connection has failed.
    pub(super) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Limit {
    fn of<D: InsertDialect>(packet: usize) -> Self {
        Self {
            rows: D::INSERT_ROWS_MAX.min(packet / ROW).max(1),
            bytes: D::INSERT_BYTES_MAX.min(packet - packet / 8),
        }
    }
}

fn is_small(records: &[Record]) -> bool {
    records.len() <= SMALL / ROW && records.iter().map(size).sum::<usize>() <= SMALL
}

/// What the columns of a row take.
pub(super) fn size(record: &Record) -> usize {
    record.uuid.len() + record.payload.len() + record.metadata.len()
}
