//! With lapin: publishing so that no message waits for another, and acking many with one word.

use std::{hint::black_box, time::Duration};

use futures::{StreamExt, future::join_all};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::time::Instant;
use watermill_core::{Message, metadata_keys::MESSAGE_UUID};
use watermill_testkit::{Service, workload};

use crate::{CALL, MESSAGES, PREFETCH, queue};

async fn channel() -> (Connection, Channel) {
    let url = Service::RABBITMQ.url();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("it connects");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// Calls of so many messages; all of one are confirmed before the next.
pub(crate) async fn publish() -> Duration {
    let topic = queue(0).await;
    let (_connection, channel) = channel().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let calls: Vec<Vec<Message>> = workload::calls(MESSAGES, CALL).collect();
    let started = Instant::now();
    for messages in calls {
        let sent = join_all(messages.iter().map(|message| {
            let mut headers = FieldTable::default();
            for (name, value) in message.metadata().iter() {
                headers.insert(name.into(), AMQPValue::LongString(value.into()));
            }
            headers.insert(MESSAGE_UUID.into(), AMQPValue::LongString(message.id().as_str().into()));
            let properties = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            channel.basic_publish("".into(), topic.as_str().into(), options, message.payload(), properties)
        }));
        for confirm in sent.await {
            let confirmed = confirm.expect("it is sent").await.expect("it is confirmed");
            assert!(confirmed.is_ack(), "it is accepted");
        }
    }
    started.elapsed()
}

/// From the first message to the last, id and metadata read, each acked.
pub(crate) async fn subscribe() -> Duration {
    let topic = queue(MESSAGES).await;
    let (_connection, channel) = channel().await;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.expect("a prefetch");
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel
        .basic_consume(topic.as_str().into(), "".into(), options, arguments)
        .await
        .expect("a consumer");
    let mut started = None;
    for n in 1..=MESSAGES {
        let delivery = consumer.next().await.expect("it goes on").expect("no error");
        started.get_or_insert_with(Instant::now);
        let headers: Vec<(String, String)> = delivery
            .properties
            .headers()
            .iter()
            .flat_map(|headers| headers.inner())
            .map(|(name, value)| match value {
                AMQPValue::LongString(text) => (name.to_string(), text.to_string()),
                _ => (name.to_string(), String::new()),
            })
            .collect();
        black_box((headers, delivery.data));
        if n % CALL == 0 {
            let acked = channel.basic_ack(delivery.delivery_tag, BasicAckOptions { multiple: true });
            acked.await.expect("it is acked");
        }
    }
    started.expect("there are messages").elapsed()
}
