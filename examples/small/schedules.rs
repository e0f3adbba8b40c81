//! Recurring schedules: two processes know them, and each time fires once.
//!
//! ```sh
//! cargo run --bin schedules
//! ```

use std::time::{Duration, SystemTime};

use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use watermill_core::{Handler, Json, Router, error::BoxError, router::Phase};
use watermill_sql::{Missed, Schedule, SqlSchedules, SqlSubscriber, SqlSubscriberConfig};

/// What a schedule publishes unless it is told otherwise.
#[derive(serde::Deserialize)]
struct Due {
    schedule: String,
    due_ms: u64,
}

async fn expire_carts(Json(due): Json<Due>) {
    let late = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis() as u64 - due.due_ms;
    println!("{}: carts expire ({})", due.schedule, if late < 5_000 { "on time" } else { "late" });
}

fn schedules(pool: &SqlitePool) -> Result<SqlSchedules<sqlx::Sqlite>, BoxError> {
    let often = Schedule::every("expire-carts", Duration::from_millis(500), "carts.expire");
    let nightly = Schedule::cron("nightly-report", "0 3 * * *", "reports.due")?
        .in_time_zone("UTC")?
        .missed(Missed::Skip { tolerance: Duration::from_secs(3_600) });
    Ok(SqlSchedules::new(pool.clone(), [often, nightly])?)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let options = SqliteConnectOptions::new().filename(folder.path().join("shop.db")).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await?;

    // The other process fires and handles nothing.
    let other = Router::new().plugin(schedules(&pool)?);
    let other_control = other.control();
    let subscriber = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default().group("shop"))?;
    let router = Router::new()
        .plugin(schedules(&pool)?)
        .add(Handler::new("expire_carts", expire_carts).from(subscriber, "carts.expire"));
    let control = router.control();
    let running = [tokio::spawn(other.run()), tokio::spawn(router.run())];
    control.reached(Phase::Running).await;
    while control.handler("expire_carts").is_some_and(|status| status.counts.acked < 3) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for control in [control, other_control] {
        control.stop();
    }
    for router in running {
        router.await??;
    }
    let (fired, published): (i64, i64) = sqlx::query_as(
        "select (select fired from _watermill_schedules where name = 'expire-carts'),
                (select count(*) from \"watermill_carts.expire\")",
    )
    .fetch_one(&pool)
    .await?;
    println!("a message each time: {}", fired == published);
    Ok(())
}
