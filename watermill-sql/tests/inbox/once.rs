//! Steps without a router.

use std::time::Duration;

use super::*;

pub(crate) async fn a_step_without_a_router_runs_once<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default().consumer("billing"));
    let order = message("1");
    for expected in [Some("billed"), None] {
        let done = inbox.once(&order, async |mut tx| {
            S::write(&mut tx, "insert into effects values ('1')").await?;
            tx.publish("invoices", invoice("1")?).await?;
            tx.publish("invoices", vec![invoice("2")?, invoice("3")?]).await?;
            Ok("billed")
        });
        // As a task of its own, which asks for more.
        assert_eq!(done.await.unwrap(), expected);
    }
    assert_eq!((effects::<S>(&pool).await, invoices::<S>(&pool).await, marks::<S>(&pool).await), (1, 3, 1));
}

pub(crate) async fn a_step_that_fails_or_is_dropped_can_be_run_again<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default().consumer("billing"));
    let order = message("1");
    let failed = inbox.once(&order, async |mut tx| {
        S::write(&mut tx, "insert into effects values ('1')").await?;
        Err::<(), _>("the customer is unknown".into())
    });
    assert_eq!(failed.await.unwrap_err().to_string(), "the customer is unknown");
    let hangs = inbox.once(&order, async |mut tx| {
        S::write(&mut tx, "insert into effects values ('1')").await?;
        std::future::pending::<Result<(), BoxError>>().await
    });
    tokio::time::timeout(Duration::from_millis(300), hangs).await.expect_err("it hangs");
    assert_nothing_was_written::<S>(&pool).await;
    let done = inbox.once(&order, async |mut tx| {
        S::write(&mut tx, "insert into effects values ('1')").await?;
        Ok(())
    });
    assert_eq!(done.await.unwrap(), Some(()));
    assert_eq!((effects::<S>(&pool).await, marks::<S>(&pool).await), (1, 1));
}
