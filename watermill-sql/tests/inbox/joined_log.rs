//! Acks that are part of the transaction: of a log in the same database.

use std::{num::NonZeroUsize, time::Duration};

use futures::StreamExt;
use watermill_core::{
    Backoff, Delivery, FailurePolicy, Handler, MessageId, Publisher, Subscriber, Subscription, Window,
    delivery::Settlement, error::find,
};
use watermill_sql::{
    InboxError, InboxErrorKind, SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig, Tx,
};

use super::*;

/// A database in which messages with these ids were published.
pub(crate) async fn published<S: Server>(server: &S, ids: &[&str]) -> Pool<S::Database> {
    let pool = prepared(server).await;
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    publisher.publish("orders", ids.iter().map(|id| message(id)).collect()).await.unwrap();
    pool
}

pub(crate) fn reader<S: Server>(
    pool: &Pool<S::Database>,
    config: SqlSubscriberConfig,
) -> SqlSubscriber<S::Database> {
    SqlSubscriber::new(pool.clone(), config).unwrap()
}

/// Records nothing by itself for as long as a test takes.
pub(crate) fn records_late() -> SqlSubscriberConfig {
    let (lease, ack_interval) = (Duration::from_secs(600), Duration::from_secs(500));
    SqlSubscriberConfig::default().lease(lease).ack_interval(ack_interval).batch_size(1000)
}

pub(crate) fn joining<S: Server>(pool: &Pool<S::Database>) -> SqlInbox<S::Database> {
    inbox::<S>(pool, SqlInboxConfig::default().joins_ack(true))
}

pub(crate) async fn next(subscription: &mut Subscription) -> (Message, Settlement) {
    let next = tokio::time::timeout(watermill_testkit::patience(), subscription.next()).await;
    Delivery::split(next.expect("it comes").expect("it goes on").expect("the database works"))
}

/// So many that are in hand at once, in any order.
fn at_once(subscription: &Subscription, count: usize) {
    subscription.set_window(Window::unordered(NonZeroUsize::new(count).unwrap()));
}

/// Runs a step that writes the message's effect.
pub(crate) async fn bill<S: Server>(
    inbox: &SqlInbox<S::Database>,
    order: &Message,
) -> Result<Option<()>, BoxError> {
    let effect = format!("insert into effects values ('{}')", order.id());
    inbox.once(order, async |mut tx| Ok(S::write(&mut tx, &effect).await?)).await
}

/// The offset up to which everything is done, as it is in the table.
pub(crate) async fn position<S: Server>(pool: &Pool<S::Database>) -> i64 {
    S::number(pool, "select coalesce(offset_acked, 0) from watermill_offsets_orders").await
}

/// Takes the lease away, as another process would whose database says that its owner is gone.
async fn take_the_lease_away<S: Server>(pool: &Pool<S::Database>) {
    S::execute(pool, "update _watermill_leases set token = token + 1, owner = null, expires_at_ms = 0").await;
}

/// Which ids somebody else gets who reads on from what is recorded.
async fn left<S: Server>(pool: &Pool<S::Database>, count: usize) -> Vec<String> {
    let other = reader::<S>(pool, SqlSubscriberConfig::default());
    let mut subscription = other.subscribe("orders").await.unwrap();
    at_once(&subscription, 100);
    let mut ids = Vec::new();
    for _ in 0..count {
        let (order, settlement) = next(&mut subscription).await;
        ids.push(order.id().to_string());
        settlement.ack();
    }
    subscription.close().await.unwrap();
    ids
}

pub(crate) async fn a_position_moves_in_the_transaction_and_leaves_no_mark<S: Server>() {
    let server = S::default();
    let pool = published(&server, &["1", "2"]).await;
    let inbox = joining::<S>(&pool);
    let mut subscription = reader::<S>(&pool, records_late()).subscribe("orders").await.unwrap();
    let (order, settlement) = next(&mut subscription).await;
    let failed = inbox.once(&order, async |mut tx| {
        S::write(&mut tx, "insert into effects values ('1')").await?;
        Err::<(), _>("not yet".into())
    });
    assert_eq!(failed.await.unwrap_err().to_string(), "not yet");
    assert_eq!((effects::<S>(&pool).await, position::<S>(&pool).await), (0, 0));
    bill::<S>(&inbox, &order).await.unwrap();
    assert_eq!((effects::<S>(&pool).await, position::<S>(&pool).await), (1, 1));
    // What is committed is done, whatever becomes of its delivery.
    settlement.nack();
    let (order, settlement) = next(&mut subscription).await;
    assert_eq!(order.id().as_str(), "2");
    bill::<S>(&inbox, &order).await.unwrap();
    settlement.ack_confirmed().await.unwrap();
    assert_eq!((effects::<S>(&pool).await, position::<S>(&pool).await), (2, 2));
    subscription.close().await.unwrap();
    assert!(!S::has_table(&pool, "_watermill_inbox").await);
}

pub(crate) async fn a_position_does_not_move_without_the_transaction<S: Server>() {
    let server = S::default();
    let pool = published(&server, &["1"]).await;
    let inbox = joining::<S>(&pool);
    let mut subscription = reader::<S>(&pool, records_late()).subscribe("orders").await.unwrap();
    let (order, settlement) = next(&mut subscription).await;
    let ended = inbox.once(&order, async |mut tx| {
        S::write(&mut tx, "insert into effects values ('1')").await?;
        Ok(S::write(&mut tx, "rollback").await?)
    });
    let error = ended.await.unwrap_err();
    let error = find::<InboxError>(&*error).expect("it is the inbox's");
    assert_eq!(error.kind(), InboxErrorKind::Refused, "{error}");
    assert_eq!((effects::<S>(&pool).await, position::<S>(&pool).await), (0, 0));
    // Nor was anything left behind that the next step would find.
    bill::<S>(&inbox, &order).await.unwrap();
    settlement.ack();
    subscription.close().await.unwrap();
    assert_eq!((effects::<S>(&pool).await, position::<S>(&pool).await), (1, 1));
}

pub(crate) async fn what_is_done_ahead_is_known_to_whoever_reads_on<S: Server>() {
    let server = S::default();
    let pool = published(&server, &["1", "2", "3", "4"]).await;
    let inbox = joining::<S>(&pool);
    let mut subscription = reader::<S>(&pool, records_late()).subscribe("orders").await.unwrap();
    at_once(&subscription, 4);
    let mut orders = Vec::new();
    for _ in 0..4 {
        orders.push(next(&mut subscription).await);
    }
    for done in [3, 1] {
        bill::<S>(&inbox, &orders[done].0).await.unwrap();
    }
    assert_eq!((effects::<S>(&pool).await, position::<S>(&pool).await), (2, 0));
    take_the_lease_away::<S>(&pool).await;
    let late = bill::<S>(&inbox, &orders[0].0).await.unwrap_err();
    assert_eq!(find::<InboxError>(&*late).unwrap().kind(), InboxErrorKind::Lost);
    assert_eq!(effects::<S>(&pool).await, 2, "another owner handles it");
    drop(orders);
    // It may have noticed, and have the lease again; otherwise there is nothing that it could record.
    let _ = subscription.close().await;
    assert_eq!(left::<S>(&pool, 2).await, ["1", "3"]);
}

pub(crate) async fn a_message_of_another_database_that_is_alike_moves_nothing<S: Server>() {
    let (here, there) = (S::default(), S::default());
    let (pool, other) = (published(&here, &["1"]).await, published(&there, &["a"]).await);
    let mut subscription = reader::<S>(&pool, records_late()).subscribe("orders").await.unwrap();
    let mut others = reader::<S>(&other, records_late()).subscribe("orders").await.unwrap();
    let (order, _settlement) = next(&mut subscription).await;
    let _in_hand = next(&mut others).await;
    let failed = bill::<S>(&joining::<S>(&other), &order).await.unwrap_err();
    assert_eq!(find::<InboxError>(&*failed).unwrap().kind(), InboxErrorKind::Lost);
    assert_eq!((effects::<S>(&other).await, position::<S>(&other).await), (0, 0));
}

pub(crate) async fn a_dead_letter_that_is_passed_is_kept_by_the_same_transaction<S: Server>() {
    let server = S::default();
    let pool = published(&server, &["1", "2"]).await;
    let inbox = joining::<S>(&pool);
    let config = records_late().dead_letter_topic("dead");
    let mut subscription = reader::<S>(&pool, config).subscribe("orders").await.unwrap();
    at_once(&subscription, 2);
    let (_, settlement) = next(&mut subscription).await;
    let (order, _settlement) = next(&mut subscription).await;
    settlement.reject("nobody can read it");
    bill::<S>(&inbox, &order).await.unwrap();
    assert_eq!(position::<S>(&pool).await, 2);
    assert_eq!(S::number(&pool, "select count(*) from watermill_dead").await, 1);
}

pub(crate) async fn steps_of_a_log_that_run_side_by_side_are_each_done_once<S: Server>() {
    const MESSAGES: usize = 40;
    let server = S::default();
    let ids: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
    let pool = published(&server, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let inbox = joining::<S>(&pool);
    let tries = Count::default();
    let bill = move |mut tx: Tx<S::Database>, id: MessageId| {
        let number = tries.up();
        async move {
            S::write(&mut tx, &format!("insert into effects values ('{id}')")).await?;
            tokio::task::yield_now().await;
            // Some fail behind their statement, and come again.
            if number % 5 == 0 { Err::<Message, BoxError>("not yet".into()) } else { invoice(id.as_str()) }
        }
    };
    let handler = Handler::new("bill", bill)
        .from(reader::<S>(&pool, SqlSubscriberConfig::default()), "orders")
        .to_topic("invoices")
        .layer(inbox.layer())
        .concurrency(4)
        .on_failure(FailurePolicy::nack().nack_backoff(Backoff::exponential(Duration::from_millis(5))));
    let done = async {
        while position::<S>(&pool).await < MESSAGES as i64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    run_until(Router::new().add(handler), done).await;
    let all = MESSAGES as i64;
    assert_eq!((effects::<S>(&pool).await, invoices::<S>(&pool).await), (all, all));
    assert_eq!(S::number(&pool, "select count(distinct id) from effects").await, all);
}

pub(crate) async fn a_batch_of_a_log_is_acked_in_its_transaction<S: Server>() {
    let server = S::default();
    let pool = published(&server, &["1", "bad", "2", "3"]).await;
    let inbox = joining::<S>(&pool);
    async fn bill<S: Server>(mut tx: Tx<S::Database>, ids: Vec<MessageId>) -> Vec<Result<Message, BoxError>> {
        let mut outcomes = Vec::new();
        for id in &ids {
            let written = S::write(&mut tx, &format!("insert into effects values ('{id}')")).await;
            outcomes.push(match id.as_str() {
                "bad" => Err("it is bad".into()),
                _ => written.map_err(Into::into).and_then(|()| invoice(id.as_str())),
            });
        }
        outcomes
    }
    let handler = Handler::batch("bill", 4, Duration::from_millis(20), inbox.batch(bill::<S>))
        .from(reader::<S>(&pool, SqlSubscriberConfig::default()), "orders")
        .to_topic("invoices")
        .on_failure(FailurePolicy::nack().nack_backoff(Backoff::exponential(Duration::from_millis(5))));
    let done = async {
        while effects::<S>(&pool).await < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    run_until(Router::new().add(handler), done).await;
    assert_eq!(
        (effects::<S>(&pool).await, invoices::<S>(&pool).await, position::<S>(&pool).await),
        (3, 3, 1)
    );
    assert_eq!(left::<S>(&pool, 1).await, ["bad"]);
    assert_eq!(position::<S>(&pool).await, 4);
}

/// By a trigger, so that it is known what of it.
#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_dead_letter_that_is_refused_fails_one_step_and_less_of_it_is_kept_by_the_next() {
    type Server = crate::postgres_database::Database;
    let server = Server::default();
    let pool = published(&server, &["1", "2"]).await;
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    publisher.publish("dead", vec![message("before")]).await.unwrap();
    let refuse = "create function refuse() returns trigger language plpgsql as $$ begin
                      if new.metadata::text not like '%payload_poisoned%' then
                          raise exception using errcode = '22000';
                      end if;
                      return new;
                  end $$;
                  create trigger refuse before insert on watermill_dead for each row execute function refuse()";
    <Server as crate::server::Server>::execute(&pool, refuse).await;
    let inbox = joining::<Server>(&pool);
    let config = records_late().dead_letter_topic("dead");
    let mut subscription = reader::<Server>(&pool, config).subscribe("orders").await.unwrap();
    at_once(&subscription, 2);
    let (_, settlement) = next(&mut subscription).await;
    let (order, _settlement) = next(&mut subscription).await;
    settlement.reject("nobody can read it");
    let failed = bill::<Server>(&inbox, &order).await.unwrap_err();
    assert_eq!(find::<InboxError>(&*failed).unwrap().kind(), InboxErrorKind::Unavailable);
    bill::<Server>(&inbox, &order).await.unwrap();
    assert_eq!((effects::<Server>(&pool).await, position::<Server>(&pool).await), (1, 2));
}
