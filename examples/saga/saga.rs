//! The step: an event becomes a new state and what follows from it, together or not at all.

use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqliteConnection, SqlitePool};
use watermill_core::{Json, Message, error::BoxError};
use watermill_sql::Tx;

use crate::trip::{Command, Event, PATIENCE, State};

/// What has happened to trips.
pub(crate) const TRIPS: &str = "trips";
/// What has not happened in time.
pub(crate) const TIMEOUTS: &str = "trips.timeouts";
/// What is to be booked and cancelled.
pub(crate) const BOOKINGS: &str = "bookings";

/// An event or a command, and the trip that it is about.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct About<T> {
    pub(crate) trip: String,
    pub(crate) what: T,
}

impl<T: Serialize> About<T> {
    pub(crate) fn to_message(&self) -> Result<Message, BoxError> {
        Ok(Message::json(self)?)
    }
}

/// Two steps of one trip never overlap: SQLite has one transaction that writes at a time. Elsewhere the row is selected `for
/// update`.
pub(crate) async fn step(mut tx: Tx<Sqlite>, Json(about): Json<About<Event>>) -> Result<(), BoxError> {
    let About { trip, what } = about;
    let state: String =
        sqlx::query_scalar("select state from trips where trip = $1").bind(&trip).fetch_one(&mut *tx).await?;
    let state: State = serde_json::from_str(&state)?;
    let Some((next, commands)) = state.after(what) else { return Ok(()) };
    sqlx::query("update trips set state = $1 where trip = $2")
        .bind(serde_json::to_string(&next)?)
        .bind(&trip)
        .execute(&mut *tx)
        .await?;
    for command in commands {
        tx.publish(BOOKINGS, About { trip: trip.clone(), what: command }.to_message()?).await?;
        if let Command::Book(part) = command {
            let timeout = About { trip: trip.clone(), what: Event::TimedOut(part) };
            tx.publish(TIMEOUTS, timeout.to_message()?.delay_for(PATIENCE)).await?;
        }
    }
    Ok(())
}

/// Stores a trip; false when it was there.
pub(crate) async fn insert(connection: &mut SqliteConnection, trip: &str) -> Result<bool, BoxError> {
    let state = serde_json::to_string(&State::Requested)?;
    let insert =
        sqlx::query("insert into trips values ($1, $2) on conflict do nothing").bind(trip).bind(state);
    Ok(insert.execute(connection).await?.rows_affected() > 0)
}

/// How many trips are still on their way.
pub(crate) async fn unfinished(pool: &SqlitePool) -> Result<usize, BoxError> {
    let states: Vec<String> = sqlx::query_scalar("select state from trips").fetch_all(pool).await?;
    let states: Vec<State> =
        states.iter().map(|state| serde_json::from_str(state)).collect::<Result<_, _>>()?;
    Ok(states.iter().filter(|state| !state.is_final()).count())
}

/// How each trip ended, and what is booked for it.
pub(crate) async fn print(pool: &SqlitePool) -> Result<(), BoxError> {
    let trips = "select trip, state, (select count(*) from bookings where bookings.trip = trips.trip and
                 bookings.state = 'booked') from trips order by trip";
    for (trip, state, booked) in sqlx::query_as::<_, (String, String, i64)>(trips).fetch_all(pool).await? {
        println!("{trip}: {}, {booked} bookings", state.trim_matches('"'));
    }
    Ok(())
}
