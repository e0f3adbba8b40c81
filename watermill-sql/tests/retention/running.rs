//! How it runs, and when it does not.

use watermill_core::{Handler, Router, router::RunErrorKind};
use watermill_sql::RetentionErrorKind;

use super::*;
use crate::server::age;

pub(crate) async fn many_rows_are_deleted_batch_by_batch<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publish::<S>(&pool, 0..50).await;
    read::<S>(&pool, "g", "t", 50).await;
    age::<S>(&pool, "length(cast(payload as char(2))) = 1 or cast(payload as char(2)) < '35'").await;
    let old = S::number(&pool, "select count(*) from watermill_t where length(cast(payload as char(2))) = 1")
        .await
        + S::number(
            &pool,
            "select count(*) from watermill_t where length(cast(payload as char(2))) = 2 \
                            and cast(payload as char(2)) < '35'",
        )
        .await;
    assert_eq!(old, 35);
    assert_eq!(run::<S>(&pool, by_the_day().batch_size(4), "t").await.deleted, 35);
    assert_eq!(S::number(&pool, "select count(*) from watermill_t").await, 15);
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) async fn a_row_that_somebody_has_locked_is_left_for_the_next_run<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publish::<S>(&pool, 0..3).await;
    read::<S>(&pool, "g", "t", 3).await;
    age::<S>(&pool, "1 = 1").await;
    let mut transaction = pool.begin().await.unwrap();
    let lock = "select uuid from watermill_t where cast(payload as char(1)) = '1' for update";
    S::execute_in(&mut transaction, lock).await;
    let deleted = within("a run that waits for nobody", run::<S>(&pool, by_the_day(), "t")).await.deleted;
    assert!(deleted < 3, "{deleted}");
    transaction.rollback().await.unwrap();
    assert_eq!(deleted + run::<S>(&pool, by_the_day(), "t").await.deleted, 3);
}

pub(crate) async fn a_topic_without_a_table_has_nothing_to_delete<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    assert_eq!(run::<S>(&pool, by_the_day(), "t").await, RetentionReport::default());
    // Creating it would fail if it were there.
    S::execute(&pool, "create table watermill_t (id int)").await;
}

pub(crate) async fn a_table_that_is_not_ours_is_refused<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    S::execute(&pool, "create table watermill_t (id int)").await;
    let retention = SqlRetention::new(pool, by_the_day()).unwrap();
    let error = retention.run_once("t").await.unwrap_err();
    assert_eq!((error.kind(), error.topic(), error.is_retryable()), (RetentionErrorKind::Topic, "t", false));
    assert!(error.to_string().contains("not one of Watermill's"), "{error}");
    let error = retention.run_once("no spaces").await.unwrap_err();
    assert_eq!(error.kind(), RetentionErrorKind::Topic, "{error}");
}

pub(crate) async fn a_router_runs_it_until_it_stops<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publish::<S>(&pool, 0..10).await;
    age::<S>(&pool, "1 = 1").await;
    let config = by_the_day().topics(["missing", "t"]).interval(Duration::from_millis(5));
    let handler = Handler::new("count", async || {}).from(subscriber::<S>(&pool, "g"), "t");
    let router = Router::new().plugin(SqlRetention::new(pool.clone(), config).unwrap()).add(handler);
    let control = router.control();
    let running = tokio::spawn(router.run());
    within("the rows to be read and deleted", async {
        while S::number(&pool, "select count(*) from watermill_t").await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    control.stop();
    within("the router's end", running).await.unwrap().unwrap();
    within("the connections, all of which are free", pool.close()).await;
}

pub(crate) async fn a_router_does_not_start_with_a_retention_of_nothing<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let retention = SqlRetention::new(pool, by_the_day()).unwrap();
    let handler = Handler::new("count", async || {}).from(subscriber::<S>(&server.connect().await, "g"), "t");
    let error = Router::new().plugin(retention).add(handler).run().await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Plugin, "{error}");
}
