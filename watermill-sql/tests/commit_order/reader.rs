//! The readers: two of ours, and the one that everybody writes first.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use futures::StreamExt;
use tokio::{sync::oneshot, time::timeout};
use watermill_core::{Subscriber, Subscription};
use watermill_sql::{SqlDatabase, SqlSubscriber};
use watermill_testkit::patience;

use crate::server::{RowId, Server, row_id};

/// The last row of a table, by which readers know that there are no more.
pub(crate) const MARKER: RowId = (u32::MAX, 0);

/// Reads everything with one subscription.
pub(crate) async fn steady<D: SqlDatabase>(subscriber: SqlSubscriber<D>, topic: &str) -> Vec<RowId> {
    let mut subscription = subscriber.subscribe(topic).await.unwrap();
    let mut delivered = Vec::new();
    while delivered.last() != Some(&MARKER) {
        delivered.push(next(&mut subscription, delivered.len()).await);
    }
    subscription.close().await.unwrap();
    delivered
}

/// Reads everything with one subscription after another: each takes over where the last one has
/// stopped, which is closed or dropped, before the next one begins or while it stands by.
pub(crate) async fn handed_over<D: SqlDatabase>(
    subscriber: SqlSubscriber<D>,
    topic: &str,
    seed: u64,
) -> Vec<RowId> {
    let mut random = Rng::with_seed(seed);
    let mut subscription = subscriber.subscribe(topic).await.unwrap();
    let mut delivered = Vec::new();
    while delivered.last() != Some(&MARKER) {
        for _ in 0..random.u32(50..400) {
            delivered.push(next(&mut subscription, delivered.len()).await);
            if delivered.last() == Some(&MARKER) {
                break;
            }
        }
        if random.bool() {
            let successor = subscriber.subscribe(topic).await.unwrap();
            drop(std::mem::replace(&mut subscription, successor));
        } else {
            subscription.close().await.unwrap();
            subscription = subscriber.subscribe(topic).await.unwrap();
        }
    }
    subscription.close().await.unwrap();
    delivered
}

async fn next(subscription: &mut Subscription, before: usize) -> RowId {
    let next = async {
        loop {
            match subscription.next().await.expect("the stream goes on") {
                Ok(delivery) => return delivery,
                // A database that is slow to answer is asked again.
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    };
    let next = timeout(patience(), next).await;
    let delivery = next.unwrap_or_else(|_| {
        panic!("nothing comes after {before} deliveries: {:?}", subscription.status().health)
    });
    let row = row_id(delivery.payload());
    delivery.ack();
    row
}

/// Reads what is above the last offset it has seen, until the writers have ended.
pub(crate) async fn above_last<S: Server>(server: Arc<S>, mut ended: oneshot::Receiver<()>) -> Vec<RowId> {
    let mut read = Vec::new();
    let mut last = 0;
    loop {
        let over = ended.try_recv().is_ok();
        let rows = server.rows_after(last).await.unwrap();
        last = rows.last().map_or(last, |(offset, _)| *offset);
        read.extend(rows.into_iter().map(|(_, row)| row));
        if over {
            return read;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
