//! A table that is not Watermill's.

use sqlx::AssertSqlSafe;
use watermill_sql::SqlPool;

use crate::support::{Place, text, wait_until};

/// Debezium's columns, with one that counts up.
const DEBEZIUM: &str = r#"
[admin]
listen = "127.0.0.1:0"
[log]
format = "json"
[relay.shop]
topic = "shop_outbox"
dead_letter_topic = "shop_dead"
[relay.shop.source]
url = "sqlite:outbox.db"
lease = "3s"
[relay.shop.source.table]
preset = "debezium"
offset = "seq"
after_ack = "delete"
[relay.shop.destination]
url = "sqlite:events.db"
create_topics = true
payload = "bytes"
"#;

async fn execute(pool: &SqlPool, statement: &str) {
    let SqlPool::Sqlite(pool) = pool else { unreachable!("the source is a SQLite") };
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap();
}

#[tokio::test]
async fn debeziums_outbox_is_relayed_by_its_columns_and_its_rows_deleted() {
    let place = Place::with(DEBEZIUM).await;
    execute(
        &place.outbox,
        "create table outbox (seq integer primary key autoincrement, id text not null unique,
            aggregatetype text not null, aggregateid text not null, type text not null, payload text)",
    )
    .await;
    let checked = place.verb(&["check", "--connect"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let daemon = place.start();
    for number in 0..20 {
        execute(
            &place.outbox,
            &format!(
                "insert into outbox (id, aggregatetype, aggregateid, type, payload)
                 values ('id-{number}', 'order', 'customer-{}', 'OrderPlaced', '{{\"n\":{number}}}')",
                number % 3
            ),
        )
        .await;
    }
    place.await_arrived("outbox.event.order", 20).await;
    let arrived = place.arrived("outbox.event.order").await;
    let first = &arrived[0].message;
    assert_eq!((first.id().as_str(), first.key().unwrap()), ("id-0", &"customer-0".into()));
    assert_eq!(first.metadata().get("type"), Some("OrderPlaced"));
    assert_eq!(text(arrived[19].message.payload()), r#"{"n":19}"#);
    let SqlPool::Sqlite(pool) = &place.outbox else { unreachable!("the source is a SQLite") };
    wait_until("the rows to be deleted", async || {
        let left: i64 = sqlx::query_scalar("select count(*) from outbox").fetch_one(pool).await.unwrap();
        left == 0
    })
    .await;
    let told = place.verb(&["status", "--json", "--set", "admin.listen=127.0.0.1:1"]);
    let status: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(status["relays"][0]["holds"]["backlog"], serde_json::Value::Null, "{status:#}");
    let redriven = place.verb(&["dead-letters", "redrive", "--all"]);
    assert_eq!(redriven.status.code(), Some(1));
    assert!(text(&redriven.stderr).contains("a table of yours"), "{}", text(&redriven.stderr));
    daemon.stop().await;
}

#[tokio::test]
async fn what_a_table_lacks_is_said_with_the_option() {
    let wrong = DEBEZIUM
        .replace("preset = \"debezium\"", "metadata.kind = \"kind\"")
        .replace("after_ack = \"delete\"", "after_ack = \"mark\"");
    let place = Place::with(&wrong).await;
    let checked = place.verb(&["check"]);
    assert_eq!(checked.status.code(), Some(3));
    let said = text(&checked.stderr);
    for problem in
        ["relay.shop.source.table.name: it is missing", "relay.shop.destination_from: it is missing"]
    {
        assert!(said.contains(problem), "{problem}\n{said}");
    }

    let place = Place::with(DEBEZIUM).await;
    let checked = place.verb(&["check", "--connect"]);
    assert_eq!(checked.status.code(), Some(4));
    assert!(
        text(&checked.stderr).contains("source: the table \"outbox\" is missing"),
        "{}",
        text(&checked.stderr)
    );
}
