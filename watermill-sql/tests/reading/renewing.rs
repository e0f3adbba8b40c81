//! Leases that are renewed together.

use super::*;

const LEASE: Duration = Duration::from_secs(4);

/// Several renewals of each, so that they have come to be renewed together.
async fn a_while() {
    tokio::time::sleep(LEASE * 2).await;
}

pub(crate) async fn leases_that_are_renewed_together_stay_with_their_owner<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let config = SqlSubscriberConfig::default().lease(LEASE);
    let (owner, other) = (reader::<S>(&pool, config.clone()), reader::<S>(&pool, config));
    let mut subscriptions = Vec::new();
    for topic in ["t", "u", "v"] {
        subscriptions.push(owner.subscribe(topic).await.unwrap());
    }
    let mut standby = other.subscribe("u").await.unwrap();
    a_while().await;
    let tokens = S::number(&pool, "select max(token) from _watermill_leases").await;
    assert_eq!(tokens, 1, "none has changed hands");
    publisher::<S>(&pool).publish("u", numbered(0..1)).await.unwrap();
    assert_eq!(read(&mut subscriptions[1], 1).await, ["0"]);
    assert!(standby.next().now_or_never().is_none());
}

pub(crate) async fn a_position_that_is_set_by_hand_is_noticed_among_many<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let owner = reader::<S>(&pool, SqlSubscriberConfig::default().group("g").lease(LEASE));
    let mut subscriptions = Vec::new();
    for topic in ["t", "u", "v"] {
        subscriptions.push(owner.subscribe(topic).await.unwrap());
        publisher::<S>(&pool).publish(topic, numbered(0..2)).await.unwrap();
        assert_eq!(read(subscriptions.last_mut().unwrap(), 2).await, ["0", "1"]);
    }
    a_while().await;
    S::execute(&pool, "update watermill_offsets_u set offset_acked = 0").await;
    assert_eq!(read(&mut subscriptions[1], 2).await, ["0", "1"]);
    for other in [0, 2] {
        assert!(subscriptions[other].next().now_or_never().is_none());
    }
}

pub(crate) async fn a_lease_that_somebody_holds_up_holds_up_no_other<S: Server>() {
    if !S::MANY_WRITERS {
        return;
    }
    let server = S::default();
    let pool = server.connect().await;
    let owner = reader::<S>(&pool, SqlSubscriberConfig::default().group("g").lease(LEASE));
    let mut subscriptions = Vec::new();
    for topic in ["t", "u", "v"] {
        subscriptions.push(owner.subscribe(topic).await.unwrap());
    }
    let mut transaction = pool.begin().await.unwrap();
    S::execute_in(&mut transaction, "update _watermill_leases set version = version where topic = 'u'").await;
    a_while().await;
    publisher::<S>(&pool).publish("t", numbered(0..1)).await.unwrap();
    assert_eq!(read(&mut subscriptions[0], 1).await, ["0"]);
    transaction.rollback().await.unwrap();
    let tokens = S::number(&pool, "select token from _watermill_leases where topic = 't'").await;
    assert_eq!(tokens, 1, "it has not changed hands");
}
