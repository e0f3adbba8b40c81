//! Google's client by hand: its futures awaited call by call, its stream, its handlers.

use std::{collections::VecDeque, time::Duration};

use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::{
    client::{Publisher, Subscriber},
    model::Message as Native,
    subscriber::MessageStream,
};
use tokio::time::Instant;
use watermill_core::{Message, metadata_keys::MESSAGE_UUID};
use watermill_testkit::workload;

use crate::{CALL, KEYS, MESSAGES, Place};

/// Messages that may be on their way to the other topic.
const IN_FLIGHT: usize = 1_000;

pub(crate) async fn publish(place: &Place) -> Duration {
    let publisher = publisher(place, &place.topic(0, None).await).await;
    publisher.publish(native(&workload::message(0))).await.expect("it is accepted");
    let calls: Vec<Vec<Message>> = workload::calls(MESSAGES, CALL).collect();
    let started = Instant::now();
    for messages in calls {
        let sent: Vec<_> = messages.iter().map(|message| publisher.publish(native(message))).collect();
        for sent in sent {
            sent.await.expect("it is accepted");
        }
    }
    started.elapsed()
}

pub(crate) async fn subscribe(place: &Place) -> Duration {
    let mut stream = stream(place, &place.topic(MESSAGES, None).await).await;
    let mut started = None;
    for _ in 0..MESSAGES {
        let (_, handler) = stream.next().await.expect("the stream goes on").expect("no error");
        started.get_or_insert_with(Instant::now);
        handler.ack();
    }
    started.expect("there are messages").elapsed()
}

pub(crate) async fn move_all(place: &Place) -> Duration {
    let (from, to) = (place.topic(MESSAGES, Some(KEYS)).await, place.topic(0, None).await);
    let (mut stream, publisher) = (stream(place, &from).await, publisher(place, &to).await);
    let mut on_their_way = VecDeque::with_capacity(IN_FLIGHT);
    let mut started = None;
    for _ in 0..MESSAGES {
        let (message, handler) = stream.next().await.expect("the stream goes on").expect("no error");
        started.get_or_insert_with(Instant::now);
        if on_their_way.len() == IN_FLIGHT {
            settle(on_their_way.pop_front().expect("it is full")).await;
        }
        let again = Native::new()
            .set_data(message.data)
            .set_attributes(message.attributes)
            .set_ordering_key(message.ordering_key);
        on_their_way.push_back((publisher.publish(again), handler));
    }
    for sent in on_their_way {
        settle(sent).await;
    }
    started.expect("there are messages").elapsed()
}

type Sent =
    (google_cloud_pubsub::publisher::PublishFuture, google_cloud_pubsub::subscriber::handler::Handler);

/// The next one in order: its id, and then its ack.
async fn settle((sent, handler): Sent) {
    sent.await.expect("it is accepted");
    handler.ack();
}

async fn publisher(place: &Place, topic: &str) -> Publisher {
    Publisher::builder(format!("projects/{}/topics/{topic}", place.project))
        .with_endpoint(format!("http://{}", place.host))
        .with_credentials(anonymous::Builder::new().build())
        // As ours.
        .set_delay_threshold(Duration::from_millis(1))
        .build()
        .await
        .expect("a client")
}

async fn stream(place: &Place, subscription: &str) -> MessageStream {
    let client = Subscriber::builder()
        .with_endpoint(format!("http://{}", place.host))
        .with_credentials(anonymous::Builder::new().build())
        .build()
        .await
        .expect("a client");
    client.subscribe(format!("projects/{}/subscriptions/{subscription}", place.project)).build()
}

fn native(message: &Message) -> Native {
    let metadata = message.metadata().iter();
    let attributes = std::iter::once((MESSAGE_UUID, message.id().as_str())).chain(metadata);
    Native::new().set_data(message.payload().clone()).set_attributes(attributes)
}
