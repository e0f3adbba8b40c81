//! Those who rent rooms and seats: here in the same process, elsewhere services of their own.

use sqlx::Sqlite;
use watermill_core::{Json, error::BoxError};
use watermill_sql::Tx;

use crate::{
    saga::About,
    trip::{Command, Event, Part},
};

/// Nobody flies to Atlantis, and whoever is asked about Nowhere books it and does not answer.
pub(crate) async fn book(
    mut tx: Tx<Sqlite>,
    Json(About { trip, what }): Json<About<Command>>,
) -> Result<Option<Json<About<Event>>>, BoxError> {
    let answer = match what {
        Command::Book(part @ Part::Flight) if trip == "Atlantis" => Event::Refused(part),
        Command::Book(part) => {
            // What was cancelled before it was booked stays so.
            store(&mut tx, &trip, part, "booked", "nothing").await?;
            if trip == "Nowhere" {
                return Ok(None);
            }
            Event::Booked(part)
        }
        Command::Cancel(part) => {
            store(&mut tx, &trip, part, "cancelled", "update set state = excluded.state").await?;
            Event::Cancelled(part)
        }
    };
    Ok(Some(Json(About { trip, what: answer })))
}

async fn store(
    tx: &mut Tx<Sqlite>,
    trip: &str,
    part: Part,
    state: &'static str,
    on_conflict: &'static str,
) -> Result<(), BoxError> {
    let insert =
        format!("insert into bookings values ($1, $2, $3) on conflict (trip, part) do {on_conflict}");
    let insert = sqlx::query(sqlx::AssertSqlSafe(insert));
    insert.bind(trip).bind(serde_json::to_string(&part)?).bind(state).execute(&mut **tx).await?;
    Ok(())
}
