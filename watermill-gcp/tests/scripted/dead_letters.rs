//! Rejected messages, where the dead letters can be sent and where they cannot.

use std::{collections::HashMap, time::Duration};

use crate::{
    server::{Pull, Server, State, received},
    support::{INVALID_ARGUMENT, PERMISSION_DENIED, UNAVAILABLE, config, next, subscribe_with},
    wire::{PubsubMessage, ReceivedMessage, Status},
};

fn attributes(letter: &PubsubMessage) -> HashMap<&str, &str> {
    letter.attributes.iter().map(|(name, value)| (&**name, &**value)).collect()
}

async fn reject_on(server: &Server) {
    let mut subscription = subscribe_with(config(server).dead_letter_topic("dead")).await;
    next(&mut subscription).await.reject("broken");
    server.until("the ack", |state| !state.acked.is_empty()).await;
    subscription.close().await.expect("it closes");
}

#[tokio::test]
async fn a_rejected_message_is_acked_when_its_dead_letter_is_accepted_and_not_before() {
    // Not allowed to, then refused for itself, as by a topic's schema, until somebody has mended both.
    let publishing = [PERMISSION_DENIED, INVALID_ARGUMENT, UNAVAILABLE].map(Status::new).into();
    let pulls = [Pull::Send(vec![received("1", "key")])].into();
    let server = Server::start(State { publishing, pulls, ..State::default() }).await;
    reject_on(&server).await;
    server.look(|state| {
        assert_eq!((state.requests, state.accepted.len()), (4, 1));
        let letter = &state.accepted[0];
        assert_eq!((&letter.data[..], &*letter.ordering_key), (&b"1"[..], "key"));
        let attributes = attributes(letter);
        assert_eq!(attributes["_watermill_message_uuid"], "1");
        assert_eq!((attributes["reason_poisoned"], attributes["topic_poisoned"]), ("broken", "topic"));
        assert_eq!(state.acked, ["ack-1"]);
    });
}

#[tokio::test]
async fn a_rejected_message_goes_back_when_its_dead_letter_cannot_be_sent_before_the_end() {
    let publishing = std::iter::repeat_n(Status::new(PERMISSION_DENIED), 1_000).collect();
    let pulls = [Pull::Send(vec![received("1", "")])].into();
    let server = Server::start(State { publishing, pulls, ..State::default() }).await;
    let soon = Duration::from_millis(200);
    let mut subscription =
        subscribe_with(config(&server).dead_letter_topic("dead").request_timeout(soon)).await;
    next(&mut subscription).await.reject("broken");
    server.until("some attempts", |state| state.requests > 2).await;
    subscription.close().await.expect_err("not everything is settled");
    server.until("the nack", |state| state.nacked == ["ack-1"]).await;
    server.look(|state| assert_eq!((state.acked.len(), state.accepted.len()), (0, 0)));
}

/// A message that is as large as one can be, with attributes that only the service may set.
fn full() -> ReceivedMessage {
    let mut full = received("1", "key");
    let message = full.message.as_mut().expect("a message");
    let names = (0..98).map(|number| format!("attribute-{number}"));
    message.attributes.extend(names.map(|name| (name, "v".repeat(1_024))));
    message.attributes.insert("googclient_schemaencoding".to_owned(), "JSON".to_owned());
    let taken: usize = message.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
    message.data = vec![b'x'; 10_000_000 - taken - message.ordering_key.len()];
    full
}

#[tokio::test]
async fn a_dead_letter_has_the_message_whole_and_as_much_of_the_story_as_there_is_room_for() {
    let full = full();
    let pulls = [Pull::Send(vec![full.clone()])].into();
    let server = Server::start(State { pulls, ..State::default() }).await;
    reject_on(&server).await;
    server.look(|state| {
        let (letter, mut message) = (&state.accepted[0], full.message.expect("a message"));
        assert_eq!(letter.data.len(), message.data.len());
        message.attributes.remove("googclient_schemaencoding");
        for (name, value) in &message.attributes {
            assert_eq!(letter.attributes.get(name), Some(value), "{name}");
        }
        let story: Vec<_> =
            letter.attributes.keys().filter(|name| !message.attributes.contains_key(*name)).collect();
        assert_eq!(story, ["reason_poisoned"]);
    });
}
