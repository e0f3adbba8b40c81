//! [`Server`]: what the tests need to know of a database.

use watermill_sql::SqlSubscriberConfig;

use crate::databases::TestDatabase;

/// A database of its own for one test.
pub(crate) trait Server: TestDatabase {
    /// Empties the log `t` so that its offsets begin with 1 again.
    const BEGIN_ANEW: &str;
    /// Whether transactions may commit in another order than they draw their offsets.
    const MANY_WRITERS: bool;
    /// Whether it can be seen that the connection of who owns a lease is gone.
    const SEES_CONNECTIONS: bool;

    /// Has the table `{dead}` refuse texts with a NUL in its metadata, and in its payload where that is text.
    const HOLDS_LESS: &str;

    /// The ways in which a log is read.
    fn ways() -> Vec<SqlSubscriberConfig> {
        vec![SqlSubscriberConfig::default()]
    }
}

#[cfg(feature = "sqlite")]
impl Server for crate::databases::File {
    const BEGIN_ANEW: &str =
        "delete from watermill_t; delete from sqlite_sequence where name = 'watermill_t'";
    const MANY_WRITERS: bool = false;
    const SEES_CONNECTIONS: bool = false;
    /// Too large is what it can be told to be.
    const HOLDS_LESS: &str = "create trigger {dead}_less before insert on {dead}
        when instr(new.metadata, 'u0000') begin select zeroblob(2000000000); end";
}

#[cfg(feature = "postgres")]
impl Server for crate::databases::postgres_database::Database {
    const BEGIN_ANEW: &str = "truncate watermill_t restart identity";
    const MANY_WRITERS: bool = true;
    const SEES_CONNECTIONS: bool = true;
    const HOLDS_LESS: &str = "alter table {dead} alter metadata type jsonb using metadata::jsonb, alter payload type jsonb using payload::jsonb";

    fn ways() -> Vec<SqlSubscriberConfig> {
        use watermill_sql::CommitOrder;

        [CommitOrder::LockHolders, CommitOrder::Snapshot]
            .map(|order| SqlSubscriberConfig::default().commit_order(order))
            .to_vec()
    }
}

#[cfg(feature = "mysql")]
impl Server for crate::databases::mysql_database::Database {
    const BEGIN_ANEW: &str = "truncate table watermill_t";
    const MANY_WRITERS: bool = true;
    const SEES_CONNECTIONS: bool = true;
    const HOLDS_LESS: &str = "alter table {dead} add check (metadata not like '%u0000%' and payload is null)";
}
