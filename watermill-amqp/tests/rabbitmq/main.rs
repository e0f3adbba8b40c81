//! What is special about RabbitMQ, on a real server.

mod failing;
mod queues;

use futures::StreamExt as _;
use lapin::{Channel, Connection as Native, ConnectionProperties};
use tokio::time::timeout;
use watermill_amqp::{AmqpPublisher, AmqpPublisherConfig, AmqpSubscriber, AmqpSubscriberConfig, Topology};
use watermill_core::{Delivery, Message, Subscription};
use watermill_testkit::{Service, patience};

fn publishing(topology: Topology) -> AmqpPublisherConfig {
    AmqpPublisherConfig::new(Service::RABBITMQ.url(), topology)
}

fn reading(topology: Topology) -> AmqpSubscriberConfig {
    AmqpSubscriberConfig::new(Service::RABBITMQ.url(), topology)
}

fn publisher(topology: Topology) -> AmqpPublisher {
    AmqpPublisher::new(publishing(topology)).unwrap()
}

fn subscriber(topology: Topology) -> AmqpSubscriber {
    AmqpSubscriber::new(reading(topology)).unwrap()
}

/// The client itself, for what tests ask the server.
async fn raw() -> (Native, Channel) {
    let native = Native::connect(&Service::RABBITMQ.url(), ConnectionProperties::default()).await.unwrap();
    let channel = native.create_channel().await.unwrap();
    (native, channel)
}

fn messages(count: usize) -> Vec<Message> {
    (0..count).map(|n| Message::with_id(n.to_string(), "x")).collect()
}

async fn next(subscription: &mut Subscription) -> Delivery {
    let next = timeout(patience(), subscription.next()).await;
    next.expect("it comes in time").expect("the stream goes on").expect("there is no error")
}
