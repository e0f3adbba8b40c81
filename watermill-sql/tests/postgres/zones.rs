//! Databases whose time zone is not UTC. Go's sessions have the database's, ours have UTC.

use std::time::SystemTime;

use watermill_sql::{SqlRetention, SqlRetentionConfig};

use super::*;

async fn in_tokyo(database: &Database) -> PgPool {
    let pool = database.pool().await;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&pool).await.unwrap();
    execute(&pool, &format!("alter database {name} set timezone = 'Asia/Tokyo'")).await;
    pool
}

/// What Go's session does, so long ago.
async fn go_publishes(pool: &PgPool, id: &str, ago: &str) {
    execute(
        pool,
        &format!(
            "set timezone = 'Asia/Tokyo';
             insert into watermill_t (uuid, payload, metadata, transaction_id, created_at)
             values ('{id}', '{{}}', '{{}}', pg_current_xact_id(), localtimestamp - interval '{ago}');
             set timezone = 'UTC'"
        ),
    )
    .await;
}

#[tokio::test]
async fn when_a_message_was_published_does_not_depend_on_whose_session_wrote_it() {
    let database = Database::default();
    let pool = in_tokyo(&database).await;
    for (made_by_go, order) in
        [(true, CommitOrder::Auto), (false, CommitOrder::LockHolders), (false, CommitOrder::Snapshot)]
    {
        execute(&pool, "drop table if exists watermill_t, watermill_offsets_t, _watermill_leases").await;
        if made_by_go {
            create_go_tables(&pool, "t", "json").await;
        }
        publisher(&pool).publish("t", numbered(0..1)).await.unwrap();
        go_publishes(&pool, "go", "1 second").await;
        let mut subscription = subscriber_with(&pool, by(order)).subscribe("t").await.unwrap();
        for _ in 0..2 {
            let delivery = next(&mut subscription).await;
            let published_at = delivery.info().published_at().unwrap();
            let now = SystemTime::now();
            let off = now.duration_since(published_at).unwrap_or_else(|error| error.duration());
            assert!(off < Duration::from_secs(600), "{}: {off:?}", delivery.id());
            delivery.ack();
        }
        subscription.close().await.unwrap();
    }
}

#[tokio::test]
async fn retention_knows_the_age_of_what_go_wrote() {
    let database = Database::default();
    let pool = in_tokyo(&database).await;
    publisher(&pool).publish("t", numbered(0..1)).await.unwrap();
    go_publishes(&pool, "young", "30 minutes").await;
    go_publishes(&pool, "old", "90 minutes").await;
    let hour = SqlRetentionConfig::default().keep_for(Duration::from_secs(3_600)).without_groups(true);
    let report = SqlRetention::new(pool.clone(), hour).unwrap().run_once("t").await.unwrap();
    assert_eq!(report.deleted, 1, "{report:?}");
    let left: Vec<String> =
        sqlx::query_scalar(r#"select uuid from watermill_t where uuid in ('young', 'old')"#)
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(left, ["young"]);
}
