//! Connections that are lost.

use super::*;

#[tokio::test]
async fn a_subscription_goes_on_by_itself_after_every_backend_was_killed() {
    let database = Database::default();
    let (pool, other) = (database.pool().await, database.pool().await);
    publisher(&pool).publish("t", numbered(0..3)).await.unwrap();
    let retry = watermill_core::Backoff::default();
    let config = SqlSubscriberConfig::default().retry(retry);
    let mut subscription = subscriber_with(&pool, config).subscribe("t").await.unwrap();
    assert_eq!(payload(&mut subscription).await, "0");
    for n in 1..3 {
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .execute(&other)
        .await
        .unwrap();
        publisher(&other).publish("t", numbered(10 + n..11 + n)).await.unwrap();
        let delivery = within("the next delivery", async {
            loop {
                match subscription.next().await.expect("the stream goes on") {
                    Ok(delivery) => return delivery,
                    Err(error) => assert_eq!(error.kind(), SubscribeErrorKind::Unavailable, "{error}"),
                }
            }
        })
        .await;
        assert_eq!(delivery.payload(), n.to_string().as_str());
        delivery.ack();
    }
}
