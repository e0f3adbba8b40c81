//! When schedules fire, and how often.

use std::time::Duration;

use futures::future::join_all;
use sqlx::Pool;
use watermill_core::{Message, Router, router::Phase};
use watermill_forwarder::ForwarderPublisher;
use watermill_sql::{
    Missed, Schedule, ScheduleErrorKind, SqlDatabase, SqlPublisher, SqlPublisherConfig, SqlSchedules,
};
use watermill_testkit::patience;

use crate::databases::TestDatabase;

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MS: i64 = 3_600_000;

fn hourly() -> Schedule {
    Schedule::every("report", HOUR, "reports")
}

fn schedules<D: SqlDatabase>(pool: &Pool<D>, schedule: Schedule) -> SqlSchedules<D> {
    SqlSchedules::new(pool.clone(), [schedule]).unwrap()
}

/// As if the schedule had been due so long ago.
async fn due_ago<S: TestDatabase>(pool: &Pool<S::Database>, ms: i64) {
    let now = "select next_ms from _watermill_schedules where name = 'report'";
    let next = S::number(pool, now).await;
    // It was added just now, and is due in an hour.
    let due = next - HOUR_MS - ms;
    let mut transaction = pool.begin().await.unwrap();
    S::execute_in(&mut transaction, &format!("update _watermill_schedules set next_ms = {due}")).await;
    transaction.commit().await.unwrap();
}

async fn published<S: TestDatabase>(pool: &Pool<S::Database>) -> i64 {
    S::number(pool, "select count(*) from watermill_reports").await
}

pub(crate) async fn a_schedule_fires_when_it_is_due_and_not_before<S: TestDatabase>() {
    let server = S::default();
    let pool = server.connect().await;
    let schedules = schedules(&pool, hourly());
    let report = schedules.fire_due().await.unwrap();
    assert_eq!(report.published, 0);
    let next_in = report.next_in.unwrap();
    assert!(next_in <= HOUR && next_in > HOUR - Duration::from_secs(60), "{next_in:?}");

    due_ago::<S>(&pool, 10).await;
    assert_eq!(schedules.fire_due().await.unwrap().published, 1);
    assert_eq!(schedules.fire_due().await.unwrap().published, 0, "it is due in an hour again");
    assert_eq!(published::<S>(&pool).await, 1);
    assert_eq!(S::number(&pool, "select fired from _watermill_schedules").await, 1);
}

pub(crate) async fn of_many_processes_one_fires_each_time<S: TestDatabase>() {
    let server = S::default();
    let pool = server.connect().await;
    let processes: Vec<_> = (0..4).map(|_| schedules(&pool, hourly())).collect();
    for process in &processes {
        process.fire_due().await.unwrap();
    }
    for round in 1..=10 {
        let due = "update _watermill_schedules set next_ms = next_ms - 3600000";
        S::execute(&pool, due).await;
        // Who is in another's way may have to look again.
        let looked = join_all(processes.iter().map(SqlSchedules::fire_due)).await;
        let mut fired: usize = looked.iter().flatten().map(|report| report.published).sum();
        while fired == 0 {
            fired = processes[0].fire_due().await.map_or(0, |report| report.published);
        }
        assert_eq!(fired, 1, "in round {round}: {looked:?}");
        assert_eq!(published::<S>(&pool).await, round);
    }
}

pub(crate) async fn what_cannot_be_published_leaves_the_schedule_due<S: TestDatabase>() {
    let server = S::default();
    let pool = server.connect().await;
    let bad =
        hourly().message(|_| Message::with_id("an id that is much longer than the column for ids", "{}"));
    let bad = schedules(&pool, bad);
    bad.fire_due().await.unwrap();
    due_ago::<S>(&pool, 10).await;
    let error = bad.fire_due().await.unwrap_err();
    assert_eq!((error.kind(), error.schedule()), (ScheduleErrorKind::Publish, Some("report")), "{error}");
    assert_eq!(S::number(&pool, "select fired from _watermill_schedules").await, 0, "nothing was moved on");

    assert_eq!(schedules(&pool, hourly()).fire_due().await.unwrap().published, 1);
    assert_eq!(published::<S>(&pool).await, 1);
}

pub(crate) async fn one_that_panics_or_fails_keeps_no_other_from_firing<S: TestDatabase>() {
    let server = S::default();
    let pool = server.connect().await;
    let often = |name: &str| Schedule::every(name.to_owned(), Duration::from_millis(20), "reports");
    let all = SqlSchedules::new(
        pool.clone(),
        [
            often("panics").message(|_| panic!("there is no such report")),
            often("fails").message(|_| Message::with_id("x".repeat(60), "{}")),
            often("fine"),
        ],
    )
    .unwrap();
    // Their rows are made. On a slow machine some are due by now, and fail.
    let _ = all.fire_due().await;
    let router = Router::new().plugin(all);
    let control = router.control();
    let running = tokio::spawn(router.run());
    control.reached(Phase::Running).await;
    let fired = async |query| {
        while S::number(&pool, query).await < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let fine = fired("select fired from _watermill_schedules where name = 'fine'");
    tokio::time::timeout(patience(), fine).await.expect("it fires ten times");
    control.stop();
    running.await.unwrap().unwrap();
    let others = "select max(fired) from _watermill_schedules where name <> 'fine'";
    assert_eq!(S::number(&pool, others).await, 0);
}

pub(crate) async fn what_was_missed_fires_as_the_schedule_says<S: TestDatabase>() {
    let server = S::default();
    let pool = server.connect().await;
    schedules(&pool, hourly()).fire_due().await.unwrap();
    // Due at first five and a half hours ago, and then each hour.
    for (missed, fires) in [
        (Missed::Once, 1),
        (Missed::Skip { tolerance: Duration::from_secs(60) }, 0),
        (Missed::All { at_most: 100 }, 6),
        (Missed::All { at_most: 2 }, 2),
    ] {
        let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
        let first = now_ms - 5 * HOUR_MS - HOUR_MS / 2;
        S::execute(&pool, &format!("update _watermill_schedules set next_ms = {first}")).await;
        let report = schedules(&pool, hourly().missed(missed)).fire_due().await.unwrap();
        assert_eq!(report.published, fires, "{missed:?}");
        let next = S::number(&pool, "select next_ms from _watermill_schedules").await;
        assert_eq!(next, first + 6 * HOUR_MS, "the rhythm is the old one");
    }
}

pub(crate) async fn another_plan_begins_anew_and_the_old_one_is_left_alone<S: TestDatabase>() {
    let server = S::default();
    let pool = server.connect().await;
    let old = schedules(&pool, hourly());
    old.fire_due().await.unwrap();
    let new = schedules(&pool, Schedule::every("report", 2 * HOUR, "reports"));
    assert!(new.fire_due().await.unwrap().next_in.unwrap() > HOUR);
    S::execute(&pool, "update _watermill_schedules set next_ms = 1").await;
    let of_old = old.fire_due().await.unwrap();
    assert_eq!((of_old.published, of_old.next_in), (0, None), "it is not its schedule any more");
    assert_eq!(new.fire_due().await.unwrap().published, 1);

    assert!(new.remove("report").await.unwrap());
    assert!(!new.remove("report").await.unwrap());
    assert_eq!(new.fire_due().await.unwrap().next_in, None);
}

pub(crate) async fn a_router_fires_until_it_stops<S: TestDatabase>() {
    let server = S::default();
    let pool = server.connect().await;
    let ticks = schedules(&pool, Schedule::every("tick", Duration::from_millis(20), "reports"));
    ticks.fire_due().await.unwrap();
    let router = Router::new().plugin(ticks);
    let control = router.control();
    let running = tokio::spawn(router.run_until(std::future::pending::<()>()));
    control.reached(Phase::Running).await;
    let fired = async {
        let query = "select fired from _watermill_schedules";
        loop {
            if S::number(&pool, query).await >= 3 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(patience(), fired).await.expect("it fires three times");
    control.stop();
    running.await.unwrap().unwrap();
    let count = published::<S>(&pool).await;
    assert_eq!(
        count,
        S::number(&pool, "select fired from _watermill_schedules").await,
        "a message each time"
    );
}

pub(crate) async fn messages_go_through_an_outbox_where_that_is_wanted<S: TestDatabase>() {
    let server = S::default();
    let pool = server.connect().await;
    let schedules =
        schedules(&pool, hourly()).publish_through(|tables| Box::new(ForwarderPublisher::new(tables)));
    schedules.fire_due().await.unwrap();
    due_ago::<S>(&pool, 10).await;
    // A transaction cannot make a table on every database.
    let outbox = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    outbox.initialize("forwarder_topic").await.unwrap();
    assert_eq!(schedules.fire_due().await.unwrap().published, 1);
    assert_eq!(S::number(&pool, "select count(*) from watermill_forwarder_topic").await, 1);
}
