//! Queues whose acked rows stay.

use watermill_sql::{Layout, OnAck, SqlQueueSubscriber, SqlQueueSubscriberConfig};

use super::*;
use crate::server::age;

pub(crate) async fn marked_rows_of_a_queue_are_deleted_and_others_stay<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let publisher =
        SqlPublisher::new(pool.clone(), SqlPublisherConfig::default().layout(Layout::Queue)).unwrap();
    publisher.publish("t", (0..5).map(|n| Message::new(n.to_string())).collect()).await.unwrap();
    let config = SqlQueueSubscriberConfig::default().on_ack(OnAck::Mark);
    let worker = SqlQueueSubscriber::new(pool.clone(), config).unwrap();
    let mut subscription = worker.subscribe("t").await.unwrap();
    for _ in 0..3 {
        next(&mut subscription).await.ack_confirmed().await.unwrap();
    }
    assert_eq!(run::<S>(&pool, by_the_day(), "t").await.deleted, 0, "nothing is old");
    age::<S>(&pool, "1 = 1").await;
    assert_eq!(run::<S>(&pool, by_the_day().batch_size(2), "t").await.deleted, 3);
    for expected in ["3", "4"] {
        let delivery = next(&mut subscription).await;
        assert_eq!(payload(&delivery), expected);
        delivery.ack_confirmed().await.unwrap();
    }
}
