//! The time zone of `created_at`, which has none.

use std::sync::LazyLock;

/// The zone of a session that asks for none, as Go's and those of plain SQL do: that of the role or the database,
/// or else the server's. Ours asks for UTC, as all of sqlx's do, and then the server does not tell what it would have
/// been; the zone of its log, which an installation sets to the same, is there for all to see.
///
/// To find it takes longer than to insert a row. So a session remembers it, in a setting of its own: like Go's sessions,
/// which have the zone that was the database's when they began.
const ZONE: &str = "(select coalesce(
    nullif(current_setting('watermill.zone', true), ''),
    set_config('watermill.zone', coalesce(
        (select split_part(setting, '=', 2) from pg_db_role_setting s cross join unnest(s.setconfig) setting
         where lower(split_part(setting, '=', 1)) = 'timezone'
           and s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
           and s.setrole in (0, (select oid from pg_roles where rolname = session_user))
         order by s.setrole <> 0 desc, s.setdatabase <> 0 desc limit 1),
        current_setting('log_timezone')), false)))";

/// Now, as that column has it.
pub(super) static NOW: LazyLock<String> = LazyLock::new(|| format!("current_timestamp at time zone {ZONE}"));

/// The moment of that column. The zone is looked up once a statement, if at all.
pub(super) static CREATED_AT: LazyLock<String> = LazyLock::new(|| moment_of("created_at"));

/// The moment of a column without a zone.
pub(super) fn moment_of(column: &str) -> String {
    format!("({column}::timestamp at time zone {ZONE})")
}
