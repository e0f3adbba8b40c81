//! Every process receives everything that is published in its life, and leaves nothing behind.

use rdkafka::consumer::Consumer as _;
use watermill_core::Subscriber as _;
use watermill_kafka::StartPosition;

use crate::support::{ask, config, messages, publish, quiet, subscriber, take, topic};

#[tokio::test]
async fn without_a_group_and_from_the_latest_on_every_process_receives_what_is_published_in_its_life() {
    let topic = topic(3).await;
    publish(&topic, &messages(0..5, 5)).await;
    let broadcast = || subscriber(config().start(StartPosition::Latest));
    let (stays, ends) = (broadcast(), broadcast());
    let mut staying = stays.subscribe(&topic).await.expect("it subscribes");
    let mut ending = ends.subscribe(&topic).await.expect("it subscribes");
    publish(&topic, &messages(5..15, 5)).await;
    let expected: Vec<_> = (5..15).map(|number| format!("{number:04}")).collect();
    assert_eq!(take(&mut staying, 10).await, expected);
    assert_eq!(take(&mut ending, 10).await, expected);
    // One closes, as a service does that is stopped, and is not there for what comes then.
    ending.close().await.expect("it closes");
    ends.close().await.expect("it closes");
    publish(&topic, &messages(15..16, 1)).await;
    assert_eq!(take(&mut staying, 1).await, ["0015"]);
    let mut again = broadcast().subscribe(&topic).await.expect("it subscribes");
    quiet(&mut again).await;
    publish(&topic, &messages(16..17, 1)).await;
    assert_eq!(take(&mut again, 1).await, ["0016"]);
    again.close().await.expect("it closes");
    // The other is killed.
    drop((staying, stays));
    let groups = ask(|consumer, timeout| {
        let groups = consumer.fetch_group_list(None, timeout).expect("groups");
        groups.groups().iter().map(|group| group.name().to_owned()).collect::<Vec<_>>()
    });
    assert!(!groups.await.iter().any(|group| group.starts_with("watermill-")), "a group was left");
}
