//! Refusing at the start what no rule can decide, with the remedy.

use sqlx::{AssertSqlSafe, MySqlConnection, Row as _};

use crate::{
    SqlSubscriberConfig,
    error::{Failure, Trouble, classify},
    log::to_the_beginning,
    topic::Tables,
};

/// Why a replica will not do.
pub(super) const READ_ONLY: &str = "the server is read-only: a replica shows neither writers nor takes acks or claims; \
                         connect to the primary";

/// Checks the server, the table, and the group's place in it.
pub(super) async fn check(
    connection: &mut MySqlConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> Result<Facts, Failure> {
    let facts = facts(connection, tables).await.map_err(classify::<sqlx::MySql>)?;
    facts.check().map_err(|why| Failure::because(Trouble::Refused, why))?;
    let namesake = namesake(connection, tables, config).await.map_err(classify::<sqlx::MySql>)?;
    if let Some(namesake) = namesake {
        return Err(Failure::because(Trouble::Refused, shares_a_position(tables, config, &namesake)));
    }
    let (position, next) = progress(connection, tables, config).await.map_err(classify::<sqlx::MySql>)?;
    if position < next {
        return Ok(facts);
    }
    Err(Failure::because(
        Trouble::Refused,
        format!(
            "the group is at offset {position}, but the table draws {next} next, so that nothing published next \
             would be delivered: alter table {} auto_increment = {}, or, {}",
            tables.messages(),
            position.saturating_add(1),
            to_the_beginning::<sqlx::MySql>(tables, config.group_name()),
        ),
    ))
}

/// Another group whose position this one would share: a table that Go made tells groups apart as the database
/// tells texts apart, mostly without regard to case.
async fn namesake(
    connection: &mut MySqlConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> sqlx::Result<Option<String>> {
    let named: Option<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select consumer_group from {} where consumer_group = ?",
        tables.offsets()
    )))
    .bind(config.group_name())
    .fetch_optional(connection)
    .await?;
    Ok(named.filter(|named| named != config.group_name()))
}

fn shares_a_position(tables: &Tables, config: &SqlSubscriberConfig, namesake: &str) -> String {
    let (offsets, group) = (tables.offsets(), config.group_name());
    let remedy = match namesake.trim_end() == group.trim_end() {
        true => "give it a name that does not end with spaces".to_owned(),
        false => format!(
            "alter table {offsets} modify consumer_group varchar(255) character set utf8mb4 collate utf8mb4_bin \
             not null"
        ),
    };
    format!(
        "the offsets table does not tell the groups {group:?} and {namesake:?} apart, so that they would share a \
         position and both lose messages: {remedy}"
    )
}

/// Refuses servers that cannot be written to.
pub(super) async fn check_server(connection: &mut MySqlConnection) -> Result<(), Failure> {
    match is_read_only(connection).await.map_err(classify::<sqlx::MySql>)? {
        false => Ok(()),
        true => Err(Failure::because(Trouble::Refused, READ_ONLY)),
    }
}

pub(super) async fn is_read_only(connection: &mut MySqlConnection) -> sqlx::Result<bool> {
    let settings = "select cast(@@global.read_only or @@global.innodb_read_only as signed)";
    Ok(sqlx::query_scalar::<_, i64>(settings).fetch_one(connection).await? != 0)
}

/// Refuses servers that cannot be written to, and tables without transactions.
pub(super) async fn check_writable(connection: &mut MySqlConnection, tables: &Tables) -> Result<(), Failure> {
    let facts = facts(connection, tables).await.map_err(classify::<sqlx::MySql>)?;
    facts.check_writable().map_err(|why| Failure::because(Trouble::Refused, why))
}

/// What decides whether this server can be read from, and how.
pub(super) struct Facts {
    pub(super) is_mariadb: bool,
    increment: i64,
    is_read_only: bool,
    engine: Option<String>,
    /// Whether the account sees the statements of others.
    pub(super) sees_others: bool,
    /// Whether the server tells who has which table open.
    pub(super) tells_locks: bool,
}

impl Facts {
    fn read(row: &sqlx::mysql::MySqlRow) -> sqlx::Result<Self> {
        let version: String = row.try_get(0)?;
        Ok(Self {
            is_mariadb: version.to_ascii_lowercase().contains("mariadb"),
            increment: row.try_get(1)?,
            is_read_only: row.try_get::<i64, _>(2)? != 0 || row.try_get::<i64, _>(3)? != 0,
            engine: row.try_get(4)?,
            sees_others: row.try_get::<i64, _>(5)? > 0,
            tells_locks: row.try_get::<i64, _>(6)? > 0,
        })
    }

    fn check(&self) -> Result<(), String> {
        if self.increment != 1 {
            return Err(format!(
                "auto_increment_increment is {}: with several primaries no gap can be decided; \
                 set it to 1 and write to one primary",
                self.increment
            ));
        }
        self.check_writable()
    }

    fn check_writable(&self) -> Result<(), String> {
        if self.is_read_only {
            return Err(READ_ONLY.to_owned());
        }
        match self.engine.as_deref() {
            Some(engine) if !engine.eq_ignore_ascii_case("InnoDB") => Err(format!(
                "the messages table's engine is {engine}, which has no transactions: alter it to InnoDB"
            )),
            _ => Ok(()),
        }
    }
}

async fn facts(connection: &mut MySqlConnection, tables: &Tables) -> sqlx::Result<Facts> {
    let row = sqlx::query(
        "select cast(version() as char), cast(@@global.auto_increment_increment as signed),
                cast(@@global.read_only as signed), cast(@@global.innodb_read_only as signed),
                (select cast(engine as char) from information_schema.tables
                 where table_schema = coalesce(?, database()) and table_name = ?),
                (select count(*) from information_schema.user_privileges
                 where privilege_type = 'PROCESS'
                   and grantee = concat('''', replace(current_user(), '@', '''@'''), '''')),
                (select count(*) from information_schema.plugins
                 where plugin_name = 'METADATA_LOCK_INFO' and plugin_status = 'ACTIVE')",
    )
    .bind(tables.messages_schema())
    .bind(tables.messages_name())
    .fetch_one(connection)
    .await?;
    Facts::read(&row)
}

/// Where the group is, and the offset that is drawn next. The server's other views of that are cached.
async fn progress(
    connection: &mut MySqlConnection,
    tables: &Tables,
    config: &SqlSubscriberConfig,
) -> sqlx::Result<(i64, i64)> {
    let position: Option<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select coalesce(offset_acked, 0) from {} where consumer_group = ?",
        tables.offsets()
    )))
    .bind(config.group_name())
    .fetch_optional(&mut *connection)
    .await?;
    let statement = sqlx::query(AssertSqlSafe(format!("show create table {}", tables.messages())))
        .fetch_one(connection)
        .await?;
    let next = next_offset(&String::from_utf8_lossy(statement.try_get_unchecked(1)?));
    Ok((position.unwrap_or(0), next))
}

/// Reads the counter of a table from the statement that makes it, where 1 is left out.
fn next_offset(statement: &str) -> i64 {
    let (_, counter) = statement.split_once(" AUTO_INCREMENT=").unwrap_or_default();
    let digits = counter.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_of_a_table_is_read_from_its_options() {
        let table = "CREATE TABLE `t` (\n  `offset` bigint(20) NOT NULL AUTO_INCREMENT,\n  PRIMARY KEY (`offset`)\n) \
                     ENGINE=InnoDB";
        assert_eq!(next_offset(table), 1);
        assert_eq!(next_offset(&format!("{table} AUTO_INCREMENT=71 DEFAULT CHARSET=utf8mb4")), 71);
        assert_eq!(next_offset(""), 1);
    }

    #[test]
    fn what_no_rule_can_decide_is_refused_with_the_remedy() {
        let fine = || Facts {
            is_mariadb: true,
            increment: 1,
            is_read_only: false,
            engine: Some("InnoDB".to_owned()),
            sees_others: true,
            tells_locks: false,
        };
        assert_eq!(fine().check(), Ok(()));
        for (facts, remedy) in [
            (Facts { increment: 2, ..fine() }, "set it to 1"),
            (Facts { is_read_only: true, ..fine() }, "primary"),
            (Facts { engine: Some("MyISAM".to_owned()), ..fine() }, "InnoDB"),
        ] {
            assert!(facts.check().unwrap_err().contains(remedy));
        }
    }
}
