//! Readers that die.

use super::*;

/// Reads over a pool of its own, on a runtime of its own, which is gone with every connection at the end.
fn dies_while_it_reads<S: Server>(server: &S) {
    let lease = SqlSubscriberConfig::default().lease(Duration::from_secs(3_600));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let pool = server.connect().await;
                let mut subscription = reader::<S>(&pool, lease).subscribe("t").await.unwrap();
                read(&mut subscription, 1).await;
                // Neither closed nor dropped: the runtime stops under it.
                std::mem::forget(subscription);
            });
            runtime.shutdown_background();
        });
    });
}

/// The lease is an hour: who stands by takes over because the connection is gone, and where that cannot be
/// seen it waits.
pub(crate) async fn who_stands_by_takes_over_when_the_connection_of_the_owner_is_gone<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..2)).await.unwrap();
    let server = tokio::task::spawn_blocking(move || {
        dies_while_it_reads(&server);
        server
    })
    .await
    .unwrap();
    let lease = SqlSubscriberConfig::default().lease(Duration::from_secs(3_600));
    let mut subscription = reader::<S>(&pool, lease).subscribe("t").await.unwrap();
    if S::SEES_CONNECTIONS {
        let delivery = next(&mut subscription).await;
        assert_eq!(payload(&delivery), "1");
        assert!(delivery.info().redelivered(), "it may have been delivered before");
    } else {
        let early = tokio::time::timeout(Duration::from_millis(700), subscription.next()).await;
        assert!(early.is_err(), "{early:?}");
    }
    drop(subscription);
    drop(server);
}

pub(crate) async fn who_stands_by_leaves_a_lease_alone_whose_owner_is_connected<S: Server>() {
    let server = S::default();
    let (pool, other) = (server.connect().await, server.connect().await);
    publisher::<S>(&pool).publish("t", numbered(0..2)).await.unwrap();
    let lease = SqlSubscriberConfig::default().lease(Duration::from_secs(2));
    let mut owner = reader::<S>(&pool, lease.clone()).subscribe("t").await.unwrap();
    let mut standby = reader::<S>(&other, lease).subscribe("t").await.unwrap();
    let delivery = next(&mut owner).await;
    // For some renewals.
    let early = tokio::time::timeout(Duration::from_secs(3), standby.next()).await;
    assert!(early.is_err(), "{early:?}");
    delivery.ack_confirmed().await.unwrap();
    assert_eq!(read(&mut owner, 1).await, ["1"]);
}

/// A pool closes connections that are old or idle: to who stands by that must not look like an owner that has died.
pub(crate) async fn an_owner_whose_pool_closes_its_connections_keeps_its_lease<S: Server>() {
    let server = S::default();
    let standbys = server.connect().await;
    let brief = Duration::from_millis(50);
    let pool = sqlx::pool::PoolOptions::<S::Database>::new()
        .max_connections(3)
        .max_lifetime(brief)
        .idle_timeout(brief)
        .connect_with((*standbys.connect_options()).clone())
        .await
        .unwrap();
    let config = SqlSubscriberConfig::default().lease(Duration::from_secs(3)).watch(false);
    let mut owner = reader::<S>(&pool, config.clone()).subscribe("t").await.unwrap();
    let mut standby = reader::<S>(&standbys, config).subscribe("t").await.unwrap();
    let publisher = publisher::<S>(&standbys);
    let reading = async {
        for n in 0..40 {
            publisher.publish("t", numbered(n..n + 1)).await.unwrap();
            assert_eq!(read(&mut owner, 1).await, [n.to_string()], "in order, and nothing twice");
            tokio::time::sleep(2 * brief).await;
        }
    };
    tokio::select! {
        () = reading => {}
        event = standby.next() => panic!("{event:?}"),
    }
    let takes = "select max(token) from _watermill_leases";
    assert_eq!(S::number(&standbys, takes).await, 1, "nobody has taken over");
}
