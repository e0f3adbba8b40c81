//! [`Server`]: what the tests need to know of a database.

use sqlx::Pool;

use crate::databases::TestDatabase;

/// A database of its own for one test.
pub(crate) trait Server: TestDatabase {
    /// A time two days ago, as `created_at` has it.
    const TWO_DAYS_AGO: &str;
    /// Go's tables for the topic `go`, as its documentation has them, with three old rows, of which its
    /// group `behind` has read two and its group `abreast` all.
    const GO_LOG: &str;
}

/// Makes rows old.
pub(crate) async fn age<S: Server>(pool: &Pool<S::Database>, which: &str) {
    let when = S::TWO_DAYS_AGO;
    S::execute(pool, &format!("update watermill_t set created_at = {when} where {which}")).await;
}

#[cfg(feature = "sqlite")]
impl Server for crate::databases::File {
    const TWO_DAYS_AGO: &str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-2 days')";
    const GO_LOG: &str = r#"
        create table watermill_go ("offset" integer primary key autoincrement, uuid text not null,
            created_at text not null, payload blob, metadata json not null);
        create table watermill_offsets_go (consumer_group text primary key, offset_acked integer not null,
            locked_until integer not null);
        insert into watermill_go (uuid, created_at, payload, metadata) values
            ('a', '2024-05-01T10:00:00Z', '1', '{}'), ('b', '2024-05-01T10:00:00Z', '2', '{}'),
            ('c', '2024-05-01T10:00:00Z', '3', '{}');
        insert into watermill_offsets_go values ('behind', 2, 0), ('abreast', 3, 0)"#;
}

#[cfg(feature = "postgres")]
impl Server for crate::databases::postgres_database::Database {
    const TWO_DAYS_AGO: &str = "current_timestamp - interval '2 days'";
    const GO_LOG: &str = r#"
        create table watermill_go ("offset" bigserial, uuid varchar(36) not null,
            created_at timestamp not null default current_timestamp, payload json default null,
            metadata json default null, transaction_id xid8 not null, primary key (transaction_id, "offset"));
        create table watermill_offsets_go (consumer_group varchar(255) not null, offset_acked bigint,
            last_processed_transaction_id xid8 not null, primary key (consumer_group));
        insert into watermill_go (uuid, created_at, payload, metadata, transaction_id) values
            ('a', '2024-05-01', '1', '{}', '10'), ('c', '2024-05-01', '3', '{}', '12'),
            ('b', '2024-05-01', '2', '{}', '11');
        insert into watermill_offsets_go values ('behind', 3, '11'), ('abreast', 2, '12')"#;
}

#[cfg(feature = "mysql")]
impl Server for crate::databases::mysql_database::Database {
    const TWO_DAYS_AGO: &str = "current_timestamp - interval 2 day";
    const GO_LOG: &str = "
        create table watermill_go (`offset` bigint not null auto_increment primary key,
            uuid varchar(36) not null, created_at timestamp not null default current_timestamp,
            payload json default null, metadata json default null);
        create table watermill_offsets_go (consumer_group varchar(255) not null, offset_acked bigint,
            offset_consumed bigint not null, primary key (consumer_group));
        insert into watermill_go (uuid, created_at, payload, metadata) values
            ('a', '2024-05-01', '1', '{}'), ('b', '2024-05-01', '2', '{}'), ('c', '2024-05-01', '3', '{}');
        insert into watermill_offsets_go values ('behind', 2, 3), ('abreast', 3, 3)";
}
