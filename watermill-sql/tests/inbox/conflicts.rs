//! Deadlocks and serializations that fail.

use std::time::Duration;

use tokio::sync::Barrier;
use watermill_core::{Backoff, error::find};
use watermill_sql::{InboxError, Isolation};

use super::*;

/// Reads a number, waits until others have read it, too, and writes it one higher: what is lost without isolation.
pub(crate) async fn steps_in_the_way_of_each_other_are_run_again_and_lose_no_update<S: Server>() {
    const STEPS: usize = 4;
    let server = S::default();
    let pool = prepared(&server).await;
    S::execute(&pool, "create table total (n bigint)").await;
    S::execute(&pool, "insert into total values (0)").await;
    let config = SqlInboxConfig::default()
        .consumer("billing")
        .isolation(Isolation::Serializable)
        .runs(100)
        .backoff(Backoff::exponential(Duration::from_millis(5)).max(Duration::from_millis(50)));
    let (inbox, runs) = (inbox::<S>(&pool, config), Count::default());
    let have_read = Arc::new(Barrier::new(if S::MANY_WRITERS { STEPS } else { 1 }));
    let steps = (0..STEPS).map(|n| {
        let (inbox, have_read, runs, first) = (&inbox, &have_read, &runs, Count::default());
        async move {
            inbox
                .once(&message(&n.to_string()), async |mut tx| {
                    runs.up();
                    let total = S::read(&mut tx, "select n from total").await?;
                    if first.up() == 1 {
                        have_read.wait().await;
                    }
                    S::write(&mut tx, &format!("update total set n = {}", total + 1)).await?;
                    tx.publish("invoices", invoice("x")?).await?;
                    Ok(())
                })
                .await
        }
    });
    let done = tokio::time::timeout(watermill_testkit::patience(), futures::future::join_all(steps)).await;
    for done in done.expect("they end") {
        assert_eq!(done.unwrap(), Some(()));
    }
    assert_eq!(S::number(&pool, "select n from total").await, STEPS as i64);
    assert_eq!((invoices::<S>(&pool).await, marks::<S>(&pool).await), (STEPS as i64, STEPS as i64));
    assert_eq!(runs.get() > STEPS, S::MANY_WRITERS, "{} runs", runs.get());
}

/// Two that lock two rows in opposite orders, in the same order each time: one is the victim, and is run again.
pub(crate) async fn a_step_is_run_as_often_as_the_bound_says<S: Server>() {
    if !S::MANY_WRITERS {
        return assert_one_writer_waits::<S>().await;
    }
    let server = S::default();
    let pool = prepared(&server).await;
    S::execute(&pool, "create table rows_to_lock (id bigint primary key, n bigint)").await;
    S::execute(&pool, "insert into rows_to_lock values (1, 0), (2, 0)").await;
    let config = SqlInboxConfig::default().consumer("billing").runs(1);
    let (inbox, meet) = (inbox::<S>(&pool, config), Barrier::new(2));
    let lock = |id: &'static str, first: i64, second: i64| {
        let (inbox, meet) = (&inbox, &meet);
        async move {
            inbox
                .once(&message(id), async |mut tx| {
                    S::write(&mut tx, &format!("update rows_to_lock set n = n + 1 where id = {first}"))
                        .await?;
                    meet.wait().await;
                    S::write(&mut tx, &format!("update rows_to_lock set n = n + 1 where id = {second}"))
                        .await?;
                    Ok(())
                })
                .await
        }
    };
    let (one, other) = tokio::join!(lock("a", 1, 2), lock("b", 2, 1));
    let failed = [one, other].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(failed.len(), 1, "{failed:?}");
    // With one run, the database's own error is the handler's.
    assert!(find::<sqlx::Error>(&*failed[0]).is_some() && find::<InboxError>(&*failed[0]).is_none());
    assert_eq!(S::number(&pool, "select count(*) from rows_to_lock where n = 1").await, 2);
}

/// Where there is one writer, the other waits before it begins.
async fn assert_one_writer_waits<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default().consumer("billing").runs(1));
    let steps = (0..8).map(|n| {
        let inbox = &inbox;
        async move {
            inbox
                .once(&message(&n.to_string()), async |mut tx| {
                    S::write(&mut tx, "insert into effects values ('x')").await?;
                    tokio::task::yield_now().await;
                    Ok(())
                })
                .await
        }
    });
    assert!(futures::future::join_all(steps).await.into_iter().all(|done| done.unwrap() == Some(())));
    assert_eq!(effects::<S>(&pool).await, 8);
}
