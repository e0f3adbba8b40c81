//! Rows that are too large to be in memory by the thousand.

use super::*;

const BYTES: usize = 200_000;
const ROWS: usize = 60;

/// JSON that can be compressed well, with its number in front.
fn large(n: usize) -> Message {
    Message::new(format!("\"{n} {}\"", "x".repeat(BYTES)))
}

fn number(delivery: &Delivery) -> usize {
    payload(delivery).trim_start_matches('"').split(' ').next().unwrap().parse().unwrap()
}

/// With small ones before and after them, which fetches ask for by the batch.
pub(crate) async fn rows_that_do_not_fit_into_one_fetch_come_in_order_and_once<S: Server>() {
    for config in S::ways() {
        let server = S::default();
        let pool = server.connect().await;
        let messages =
            (0..ROWS).map(|n| if n % 20 < 5 { Message::new(format!("\"{n} \"")) } else { large(n) });
        publisher::<S>(&pool).publish("t", messages.collect()).await.unwrap();
        let config = config.batch_size(1_000).batch_bytes(3 * BYTES);
        let mut subscription = reader::<S>(&pool, config).subscribe("t").await.unwrap();
        for n in 0..ROWS {
            let delivery = next(&mut subscription).await;
            assert_eq!((number(&delivery), delivery.info().attempt()), (n, 1));
            delivery.ack();
        }
        // One that is larger than all that may be there at once.
        publisher::<S>(&pool)
            .publish("t", vec![Message::new(format!("\"60 {}\"", "x".repeat(5 * BYTES)))])
            .await
            .unwrap();
        assert_eq!(number(&next(&mut subscription).await), ROWS);
        subscription.close().await.unwrap();
    }
}

pub(crate) async fn a_worker_claims_no_more_than_fits<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let config = SqlPublisherConfig::default().layout(Layout::Queue);
    let queue = SqlPublisher::new(pool.clone(), config).unwrap();
    queue.publish("t", (0..ROWS).map(large).collect()).await.unwrap();
    let config = SqlQueueSubscriberConfig::default().batch_size(1_000).batch_bytes(5 * BYTES);
    let worker = SqlQueueSubscriber::new(pool.clone(), config).unwrap();
    let mut subscription = worker.subscribe("t").await.unwrap();
    subscription.set_window(watermill_core::Window::unordered(std::num::NonZeroUsize::new(40).unwrap()));
    let (mut seen, mut most) = (Vec::new(), 0);
    while seen.len() < ROWS {
        let delivery = next(&mut subscription).await;
        seen.push(number(&delivery));
        let claimed = "select count(*) from watermill_t where owner is not null";
        most = most.max(S::number(&pool, claimed).await);
        within("the ack", delivery.ack_confirmed()).await.unwrap();
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..ROWS).collect::<Vec<_>>());
    // In hand, waiting, and a claim that is under way.
    assert!((1..=12).contains(&most), "{most} rows were claimed");
}
