//! Rejected messages, as somebody reads them who knows nothing of watermill.

use futures::StreamExt;
use rdkafka::{
    ClientConfig, Message as _, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    message::Headers as _,
    topic_partition_list::Offset,
};
use watermill_core::{Message, Publisher as _};
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig};
use watermill_testkit::{patience, unique};

use crate::{mock_cluster, next, subscribe, topic};

/// The first record of a topic.
async fn first_record(topic: &str) -> rdkafka::message::OwnedMessage {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", mock_cluster::brokers())
        .set("group.id", unique("raw"))
        .create()
        .expect("a consumer");
    let partitions = {
        let topic = topic.to_owned();
        let asked: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", mock_cluster::brokers())
            .set("group.id", unique("raw"))
            .create()
            .expect("a consumer");
        tokio::task::spawn_blocking(move || {
            let metadata = asked.fetch_metadata(Some(&topic), patience()).expect("metadata");
            metadata.topics()[0].partitions().len()
        })
        .await
        .expect("the cluster answers")
    };
    let mut all = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions).expect("a few") {
        all.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&all).expect("it is assigned");
    let record = tokio::time::timeout(patience(), consumer.stream().next()).await.expect("a record comes");
    record.expect("the stream goes on").expect("no error").detach()
}

#[tokio::test]
async fn a_rejected_message_goes_to_the_dead_letters_as_it_came_with_its_story() {
    let (topic, dead) = (topic(), topic());
    let publisher =
        KafkaPublisher::new(KafkaPublisherConfig::new(mock_cluster::brokers())).expect("a valid config");
    let sent = Message::with_id("the-id", "the payload").with_key("the key").with_metadata("z", "kept");
    publisher.publish(&topic, vec![sent]).await.expect("it is accepted");

    let config = mock_cluster::subscriber_config().dead_letter_topic(&dead);
    let mut subscription = subscribe(config, &topic).await;
    next(&mut subscription).await.nack();
    let second = next(&mut subscription).await;
    let partition = second.info().partition().expect("a partition").to_string();
    second.reject("no such\ncustomer");
    // Closing waits for the dead letter.
    subscription.close().await.expect("it closes");

    let record = first_record(&dead).await;
    assert_eq!((record.key(), record.payload()), (Some(&b"the key"[..]), Some(&b"the payload"[..])));
    let headers = record.headers().expect("it has headers");
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|header| (header.key, std::str::from_utf8(header.value.expect("a value")).expect("text")))
        .filter(|(name, _)| *name != "failed_at_ms_poisoned")
        .collect();
    let expected = [
        ("_watermill_message_uuid", "the-id"),
        ("attempts_poisoned", "2"),
        ("offset_poisoned", "0"),
        ("partition_poisoned", &partition),
        ("reason_poisoned", "no such customer"),
        ("subscriber_poisoned", "kafka"),
        ("topic_poisoned", &topic),
        ("z", "kept"),
    ];
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn a_message_that_is_rejected_by_a_reader_of_the_dead_letters_does_not_come_back_to_it() {
    let dead = topic();
    let publisher =
        KafkaPublisher::new(KafkaPublisherConfig::new(mock_cluster::brokers())).expect("a valid config");
    let letters = ["1", "2"].map(|id| Message::with_id(id, "x").with_key("one"));
    publisher.publish(&dead, letters.to_vec()).await.expect("they are accepted");
    let config = mock_cluster::subscriber_config().dead_letter_topic(&dead);
    let mut subscription = subscribe(config, &dead).await;
    next(&mut subscription).await.reject("still no such customer");
    next(&mut subscription).await.ack();
    publisher.publish(&dead, vec![Message::with_id("3", "x").with_key("one")]).await.expect("it is accepted");
    assert_eq!(next(&mut subscription).await.id(), "3");
    subscription.close().await.expect("it closes");
}
