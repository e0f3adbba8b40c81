//! Renewing and recording wait for nobody: not for connections that handlers have, and not for what is fetched.

use super::*;

const TIME: Duration = Duration::from_secs(1);

/// Two processes; the first one's handlers have its whole pool for three times the lease.
async fn keeps_its_messages<S: Server>(
    subscriber: impl Fn(&Pool<S::Database>) -> Box<dyn Subscriber>,
    layout: Layout,
) {
    let server = S::default();
    let (pool, others) = (server.pool(2).await, server.pool(2).await);
    publisher::<S>(&others, layout).publish("t", numbered(0..1)).await.unwrap();
    let busy = subscriber(&pool);
    let mut subscription = busy.subscribe("t").await.unwrap();
    let delivery = next(&mut subscription).await;
    let standing_by = subscriber(&others);
    let mut other = standing_by.subscribe("t").await.unwrap();

    let handlers = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    let came = tokio::time::timeout(3 * TIME, other.next()).await;
    assert!(!matches!(came, Ok(Some(Ok(_)))), "it is renewed while handlers have the pool");
    assert!(!delivery.is_lost());
    // Recorded while they still have it.
    within("the ack", delivery.ack_confirmed()).await.unwrap();
    drop(handlers);
}

pub(crate) async fn a_reader_keeps_its_messages_while_handlers_have_the_pool<S: Server>() {
    let reader = |pool: &_| -> Box<dyn Subscriber> {
        Box::new(reader::<S>(pool, SqlSubscriberConfig::default().lease(TIME)))
    };
    keeps_its_messages::<S>(reader, Layout::Log).await;
}

pub(crate) async fn a_worker_keeps_its_messages_while_handlers_have_the_pool<S: Server>() {
    for ordered in [false, true] {
        let worker = |pool: &_| -> Box<dyn Subscriber> {
            let config = SqlQueueSubscriberConfig::default().visibility_timeout(TIME).ordered_by_key(ordered);
            Box::new(worker::<S>(pool, config))
        };
        keeps_its_messages::<S>(worker, Layout::Queue).await;
    }
}

/// The log's rows cannot be read for three times the lease, by either of two readers.
pub(crate) async fn a_reader_keeps_its_lease_while_fetching_fails<S: Server>() {
    let server = S::default();
    let (pool, others) = (server.pool(3).await, server.pool(3).await);
    publisher::<S>(&others, Layout::Log).publish("t", numbered(0..1)).await.unwrap();
    let config = SqlSubscriberConfig::default().lease(TIME);
    let mut subscription = reader::<S>(&pool, config.clone()).subscribe("t").await.unwrap();
    let delivery = next(&mut subscription).await;
    let other = reader::<S>(&others, config);
    let _other = other.subscribe("t").await.unwrap();
    let owner = "select count(distinct owner) from _watermill_leases where token = 1 and owner is not null";
    let mut locker = others.acquire().await.unwrap();
    S::execute(&mut locker, S::LOCK).await;
    tokio::time::sleep(3 * TIME).await;
    assert_eq!(S::number(&others, owner).await, 1, "the lease is the first owner's");
    assert!(!delivery.is_lost());
    within("the ack", delivery.ack_confirmed()).await.unwrap();
    S::execute(&mut locker, S::UNLOCK).await;
}

/// Nothing can be claimed, because other rows than those in hand cannot be: a claim waits for the table.
pub(crate) async fn a_worker_keeps_its_messages_while_claiming_fails<S: Server>() {
    let server = S::default();
    let (pool, others) = (server.pool(3).await, server.pool(3).await);
    publisher::<S>(&others, Layout::Queue).publish("t", numbered(0..1)).await.unwrap();
    let config = SqlQueueSubscriberConfig::default().visibility_timeout(TIME);
    let mut subscription = worker::<S>(&pool, config).subscribe("t").await.unwrap();
    subscription.set_window(window(10));
    let delivery = next(&mut subscription).await;
    // What is claimed next cannot be given to anybody.
    S::execute(&mut others.acquire().await.unwrap(), S::REFUSE_CLAIMS).await;
    publisher::<S>(&others, Layout::Queue).publish("t", numbered(1..2)).await.unwrap();
    tokio::time::sleep(3 * TIME).await;
    assert!(!delivery.is_lost());
    within("the ack", delivery.ack_confirmed()).await.unwrap();
}

pub(crate) async fn a_nack_that_came_too_late_is_not_confirmed<S: Server>() {
    let server = S::default();
    let pool = server.pool(3).await;
    publisher::<S>(&pool, Layout::Queue).publish("t", numbered(0..3)).await.unwrap();
    let mut subscription =
        worker::<S>(&pool, SqlQueueSubscriberConfig::default()).subscribe("t").await.unwrap();
    subscription.set_window(window(3));
    let held = [next(&mut subscription).await, next(&mut subscription).await, next(&mut subscription).await];
    let taken = held[0].info().offset().unwrap();
    let take =
        format!("update watermill_t set owner = 'another', attempts = 7 where {} = {taken}", S::OFFSET);
    S::execute(&mut pool.acquire().await.unwrap(), &take).await;
    let nack = || Outcome::Nack { delay: Duration::from_secs(3_600) };
    let nacked = futures::future::join_all(held.map(|delivery| delivery.settle_confirmed(nack()))).await;
    let kinds: Vec<_> = nacked.into_iter().map(|nacked| nacked.map_err(|error| error.kind())).collect();
    assert_eq!(kinds, [Err(SettleErrorKind::Lost), Ok(()), Ok(())]);
    let others = "select count(*) from watermill_t where owner = 'another' and attempts = 7";
    assert_eq!(S::number(&pool, others).await, 1, "the other one's row is left alone");
}

pub(crate) async fn what_others_have_deleted_is_lost_and_no_dead_letter<S: Server>() {
    for (ordered, marked) in [(false, false), (false, true), (true, false), (true, true)] {
        let server = S::default();
        let pool = server.pool(3).await;
        let keyed = numbered(0..3).into_iter().enumerate();
        let keyed = keyed.map(|(n, message)| message.with_key(n.to_string())).collect();
        publisher::<S>(&pool, Layout::Queue).publish("t", keyed).await.unwrap();
        let config = SqlQueueSubscriberConfig::default().dead_letter_topic("dead").ordered_by_key(ordered);
        let mut subscription = worker::<S>(&pool, config).subscribe("t").await.unwrap();
        subscription.set_window(window(3));
        let [one, two, three] =
            [next(&mut subscription).await, next(&mut subscription).await, next(&mut subscription).await];
        // As another worker that had them meanwhile, and is done with them.
        let settled = match marked {
            false => "delete from watermill_t",
            true => "update watermill_t set acked = true, owner = null, attempts = attempts + 1",
        };
        let gone = [&one, &two].map(|delivery| delivery.info().offset().unwrap().to_string()).join(", ");
        let settled = format!("{settled} where {} in ({gone})", S::OFFSET);
        S::execute(&mut pool.acquire().await.unwrap(), &settled).await;
        assert_eq!(one.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
        let reject = |reason: &str| Outcome::Reject { reason: reason.to_owned() };
        let (two, three) =
            tokio::join!(two.settle_confirmed(reject("too late")), three.settle_confirmed(reject("in time")));
        assert_eq!(two.unwrap_err().kind(), SettleErrorKind::Lost);
        three.unwrap();
        assert_eq!(count::<S>(&pool, "dead").await, 1);
        subscription.close().await.unwrap();
    }
}
