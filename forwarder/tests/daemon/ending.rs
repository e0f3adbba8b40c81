//! How verbs end, by their exit codes.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Duration,
};

use sqlx::Connection as _;
use watermill_core::{Message, Publisher};
use watermill_forwarder::DEFAULT_TOPIC;
use watermill_sql::SqlPublisherConfig;

use crate::support::{Daemon, Place, SQLITE, command, pool, text, wait_until};

#[tokio::test]
async fn a_command_line_that_is_not_understood_ends_with_2_and_what_cannot_be_done_with_1() {
    let place = Place::with(SQLITE).await;
    assert_eq!(place.verb(&["runn"]).status.code(), Some(2));
    assert_eq!(place.verb(&["shards", "0"]).status.code(), Some(2));
    let other =
        ["--set", "relay.other.source.url=sqlite:a.db", "--set", "relay.other.destination.url=sqlite:b.db"];
    let paused = place.verb(&[&["pause", "orders"][..], &other].concat());
    assert_eq!(paused.status.code(), Some(1));
    assert!(text(&paused.stderr).contains("there are several relays"), "{}", text(&paused.stderr));
    let paused = place.verb(&["pause", "orders", "--set", "admin.listen=127.0.0.1:1"]);
    assert_eq!(paused.status.code(), Some(4), "nobody is there to be told");
}

/// Holds up a call of the relay that is in progress then: whoever writes is waited for.
async fn hold_up(place: &Place, daemon: &Daemon) -> sqlx::SqliteConnection {
    place.publish("orders", ["first".to_owned()]).await;
    place.await_arrived("orders", 1).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path("events.db"));
    let mut writer = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("begin immediate").execute(&mut writer).await.unwrap();
    place.publish("orders", ["second".to_owned()]).await;
    let in_hand = "watermill_forwarder_in_hand_messages{relay=\"shop\"} 1\n";
    wait_until("it to be in hand", async || daemon.get("/metrics").await.1.contains(in_hand)).await;
    writer
}

async fn nothing_is_lost(place: &Place, mut writer: sqlx::SqliteConnection) {
    sqlx::raw_sql("rollback").execute(&mut writer).await.unwrap();
    let daemon = place.start();
    place.await_arrived("orders", 2).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_stop_that_somebody_cuts_short_ends_with_5_and_loses_nothing() {
    let place = Place::with(SQLITE).await;
    let mut daemon = place.start();
    let writer = hold_up(&place, &daemon).await;
    daemon.signal("TERM");
    daemon.logged("stopping: what is in hand is published first").await;
    daemon.signal("TERM");
    let (status, lines) = daemon.ended().await;
    assert_eq!(status.code(), Some(5), "{lines:#?}");
    nothing_is_lost(&place, writer).await;
}

#[tokio::test]
async fn a_drain_that_is_not_through_in_time_ends_with_5_and_loses_nothing() {
    let place = Place::with(SQLITE).await;
    let daemon = place.start_with(&["--set", "drain_timeout=1s"], &[]);
    let writer = hold_up(&place, &daemon).await;
    let (status, lines) = daemon.stop().await;
    assert_eq!(status.code(), Some(5), "{lines:#?}");
    nothing_is_lost(&place, writer).await;
}

#[tokio::test]
async fn a_status_that_is_watched_is_told_again_and_again_until_it_is_interrupted() {
    let place = Place::with(SQLITE).await;
    let mut watch = command();
    watch.args(["status", "--watch", "--interval", "1", "--json", "--set", "admin.listen=127.0.0.1:1"]);
    let mut watch = watch.current_dir(place.path("")).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let told = move || {
        let line = lines.next().unwrap().unwrap();
        let status: serde_json::Value = serde_json::from_str(&line).unwrap();
        (status["relays"][0]["holds"]["backlog"].as_u64(), lines)
    };
    let (backlog, mut lines) = tokio::task::spawn_blocking(told).await.unwrap();
    assert_eq!(backlog, Some(0));
    place.publish("orders", ["one".to_owned()]).await;
    let told = move || {
        let told = lines.by_ref().map_while(Result::ok);
        told.into_iter().any(|line| line.contains("\"backlog\":1,"))
    };
    assert!(tokio::task::spawn_blocking(told).await.unwrap(), "what has changed is told");
    assert!(command_kill(watch.id()), "it can be interrupted");
    let ended = tokio::task::spawn_blocking(move || watch.wait().unwrap());
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
}

fn command_kill(id: u32) -> bool {
    std::process::Command::new("kill").args(["-s", "INT", &id.to_string()]).status().unwrap().success()
}

#[tokio::test]
async fn dead_letters_go_to_the_destination_where_that_is_asked_for_and_otherwise_to_the_source() {
    let place = Place::with(SQLITE).await;
    let raw = place.outbox.publisher(SqlPublisherConfig::default()).unwrap();
    let to_destination = ["--set", "relay.shop.dead_letters=destination"];
    let daemon = place.start_with(&to_destination, &[]);
    raw.publish(DEFAULT_TOPIC, vec![Message::with_id("first", "\"no envelope\"")]).await.unwrap();
    place.await_arrived("forwarder_dead_letter", 1).await;
    daemon.stop().await;
    let in_source = async || place.outbox.peek("forwarder_dead_letter", 0, 10).await.unwrap_or_default();
    assert_eq!(in_source().await.len(), 0);

    // The destination does not take them any more.
    let events = pool(&place.path("events.db"));
    let watermill_sql::SqlPool::Sqlite(sqlite) = &events else { unreachable!("it is a SQLite") };
    let refuse = "create trigger refuse before insert on watermill_forwarder_dead_letter
        begin select raise(abort, 'refused'); end";
    sqlx::raw_sql(refuse).execute(sqlite).await.unwrap();
    let daemon = place.start_with(&to_destination, &[]);
    raw.publish(DEFAULT_TOPIC, vec![Message::with_id("second", "\"no envelope\"")]).await.unwrap();
    wait_until("the source to have it", async || {
        in_source().await.iter().any(|row| row.message.id().as_str() == "second")
    })
    .await;
    daemon.stop().await;
}
