//! How far a subscription is behind.

use std::time::Duration;

use tokio::time;
use watermill_core::Subscriber as _;
use watermill_testkit::unique;

use crate::support::{config, messages, publish, subscriber, take, topic, within};

#[tokio::test]
async fn the_lag_of_each_partition_is_measured() {
    let topic = topic(2).await;
    publish(&topic, &messages(0..30, 30)).await;
    let config = config().group(unique("group")).lag_interval(Duration::from_millis(50));
    let subscriber = subscriber(config);
    let mut subscription = subscriber.subscribe(&topic).await.expect("it subscribes");
    for left in [20, 10, 0] {
        take(&mut subscription, 10).await;
        within("the lag is measured", async {
            loop {
                let lag = subscriber.lag();
                assert!(
                    lag.iter().all(|lag| lag.topic == topic && (0..2).contains(&lag.partition)),
                    "{lag:?}"
                );
                if lag.len() == 2 && lag.iter().map(|lag| lag.messages).sum::<u64>() == left {
                    break;
                }
                time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
    subscription.close().await.expect("it closes");
    assert!(subscriber.lag().is_empty(), "nothing is read any more");
}
