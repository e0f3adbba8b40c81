//! Poolers between a pool and PostgreSQL.
//!
//! One that lends another connection of the server to each transaction leaves prepared statements behind. sqlx names
//! its own by numbers, the same over each of its connections: so what is executed by name fails, or is a statement of
//! another client's, and a message is written to the topic of that. sqlx prepares a statement in one message and
//! executes it in the next, with its cache or without, so that turning the cache off does not help.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool, Postgres};
use tokio::time::timeout;

use crate::{
    connection::Pooled,
    error::{Failure, classify},
};

/// What to do about it.
pub(super) const REMEDY: &str = "a pooler that lends a connection for a transaction must keep prepared statements, as \
    PgBouncer does from 1.21 on with max_prepared_statements; or set its pool_mode to session, or connect to PostgreSQL \
    directly (without sqlx's cache of statements it is the same)";

/// sqlx asks for this when it connects. A pooler has to be told to ignore that, and with it what sqlx is told: it knows
/// no such setting and passes none on.
const IS_PASSED_ON: &str = "select current_setting('extra_float_digits') = '2'";

/// How often it is tried to be given another connection of the server's than before. Where each client has one of its
/// own, that never comes about.
const TRIES: u32 = 10;

/// How long a pooler may have none to lend.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Looks whether a pooler is there, and if so, with two connections of our own, whether prepared statements survive it.
pub(super) async fn check(pool: &PgPool) -> Result<Result<(), String>, Failure> {
    let mut pooled = Pooled::<Postgres>::clean(pool).await?;
    let is_direct = sqlx::raw_sql(IS_PASSED_ON).fetch_one(pooled.get()).await;
    let is_direct = is_direct.and_then(|row| sqlx::Row::try_get(&row, 0)).map_err(classify::<Postgres>)?;
    pooled.settled();
    drop(pooled);
    if is_direct {
        return Ok(Ok(()));
    }
    let options = pool.connect_options();
    let connected =
        tokio::try_join!(PgConnection::connect_with(&options), PgConnection::connect_with(&options));
    let (mut one, mut two) = match connected {
        Ok(connected) => connected,
        Err(error) => {
            tracing::debug!(%error, "not known whether prepared statements survive a pooler");
            return Ok(Ok(()));
        }
    };
    let mut verdict = Ok(());
    for _ in 0..TRIES {
        match change_over(&mut one, &mut two).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) if is_lost(&error) => {
                verdict = Err(format!(
                    "prepared statements do not survive what is between here and PostgreSQL: {REMEDY}"
                ));
                break;
            }
            Err(error) => return Err(classify::<Postgres>(error)),
        }
    }
    for connection in [one, two] {
        let _ = timeout(WAIT_MAX, connection.close()).await;
    }
    Ok(verdict)
}

/// Has one client execute a statement by its name over the connection of the server that another has prepared its own
/// on, and then over one where it has prepared none. False when the other one was not given that connection.
async fn change_over(one: &mut PgConnection, two: &mut PgConnection) -> sqlx::Result<bool> {
    let first = "select pg_backend_pid() + $1::int4";
    let before: i32 = sqlx::query_scalar(first).bind(0).fetch_one(&mut *one).await?;
    let _: i32 =
        sqlx::query_scalar("select $1::int4 - pg_backend_pid()").bind(0).fetch_one(&mut *two).await?;
    let taken = sqlx::raw_sql("begin; select pg_backend_pid()").fetch_all(&mut *two).await?;
    let taken: i32 = taken.first().map_or(Ok(0), |row| sqlx::Row::try_get(row, 0))?;
    let again = timeout(WAIT_MAX, sqlx::query_scalar::<_, i32>(first).bind(0).fetch_one(&mut *one)).await;
    sqlx::raw_sql("rollback").execute(two).await?;
    match again {
        Ok(again) => again.map(|now| taken == before && now != before),
        // There is no other connection of the server's to be had.
        Err(_) => Ok(false),
    }
}

/// Whether an error is that of a prepared statement that is not there, or is another one.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(is_lost_statement)
}

pub(super) fn is_lost_statement(error: &dyn sqlx::error::DatabaseError) -> bool {
    match error.code().as_deref() {
        // invalid_sql_statement_name, duplicate_prepared_statement.
        Some("26000" | "42P05") => true,
        // protocol_violation: another statement's parameters.
        Some("08P01") => error.message().starts_with("bind message"),
        _ => false,
    }
}
