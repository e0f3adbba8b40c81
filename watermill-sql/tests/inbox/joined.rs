//! Acks that are part of the transaction: of a queue in the same database.

use std::time::Duration;

use futures::StreamExt;
use watermill_core::{Backoff, FailurePolicy, Handler, MessageId, Publisher, Subscriber, delivery::Outcome};
use watermill_sql::{
    Layout, SqlPublisher, SqlPublisherConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig, Tx,
};
use watermill_testkit::ScriptedSubscriber;

use super::*;

async fn publish<S: Server>(pool: &Pool<S::Database>, ids: &[&str]) {
    let config = SqlPublisherConfig::default().layout(Layout::Queue);
    let publisher = SqlPublisher::new(pool.clone(), config).unwrap();
    publisher.publish("orders", ids.iter().map(|id| message(id)).collect()).await.unwrap();
}

fn worker<S: Server>(pool: &Pool<S::Database>) -> SqlQueueSubscriber<S::Database> {
    SqlQueueSubscriber::new(pool.clone(), SqlQueueSubscriberConfig::default()).unwrap()
}

async fn orders<S: Server>(pool: &Pool<S::Database>) -> i64 {
    S::number(pool, "select count(*) from watermill_orders").await
}

pub(crate) async fn an_ack_is_part_of_the_transaction_and_leaves_no_mark<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    publish::<S>(&pool, &["1", "2", "3"]).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default().joins_ack(true));
    let tries = Count::default();
    // The first try of all fails, behind its statement.
    let bill = move |mut tx: Tx<S::Database>, id: MessageId| {
        let number = tries.up();
        async move {
            S::write(&mut tx, &format!("insert into effects values ('{id}')")).await?;
            if number == 1 { Err::<Message, BoxError>("not yet".into()) } else { invoice(id.as_str()) }
        }
    };
    let handler = Handler::new("bill", bill)
        .from(worker::<S>(&pool), "orders")
        .to_topic("invoices")
        .layer(inbox.layer())
        .on_failure(FailurePolicy::nack().nack_backoff(Backoff::exponential(Duration::from_millis(5))));
    let done = async {
        while invoices::<S>(&pool).await < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    run_until(Router::new().add(handler), done).await;
    assert_eq!((effects::<S>(&pool).await, invoices::<S>(&pool).await, orders::<S>(&pool).await), (3, 3, 0));
    assert!(!S::has_table(&pool, "_watermill_inbox").await);
}

pub(crate) async fn what_was_committed_is_done_whatever_becomes_of_its_delivery<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    publish::<S>(&pool, &["1"]).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default().joins_ack(true));
    let mut subscription = worker::<S>(&pool).subscribe("orders").await.unwrap();
    let delivery = tokio::time::timeout(watermill_testkit::patience(), subscription.next()).await;
    let (order, settlement) = delivery.expect("it comes").unwrap().unwrap().split();
    let step = || {
        inbox.once(&order, async |mut tx| Ok(S::write(&mut tx, "insert into effects values ('1')").await?))
    };
    assert_eq!(step().await.unwrap(), Some(()));
    assert_eq!((effects::<S>(&pool).await, orders::<S>(&pool).await), (1, 0));
    // Once more, its row is gone; and so it is for whoever nacks it.
    step().await.unwrap_err();
    settlement.nack();
    subscription.close().await.unwrap();
    assert_eq!((effects::<S>(&pool).await, orders::<S>(&pool).await), (1, 0));
}

pub(crate) async fn a_message_of_another_source_is_nacked_with_the_reason<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default().joins_ack(true));
    let source = ScriptedSubscriber::new().redeliver(false);
    source.push(message("1"));
    let bill = async |mut tx: Tx<S::Database>, id: MessageId| -> Result<(), BoxError> {
        Ok(S::write(&mut tx, &format!("insert into effects values ('{id}')")).await?)
    };
    let handler = Handler::new("bill", bill)
        .from(source.clone(), "orders")
        .layer(inbox.layer())
        .on_failure(FailurePolicy::retry(3).then_drop());
    let watched = source.clone();
    run_until(Router::new().add(handler), async move { drop(watched.settled(1).await) }).await;
    assert!(matches!(source.outcomes()[..], [(_, Outcome::Nack { .. })]));
    assert_eq!(effects::<S>(&pool).await, 0);
    let error = inbox.once(&message("1"), async |_| Ok(())).await.unwrap_err();
    assert!(error.to_string().contains("joins_ack"), "{error}");
}
