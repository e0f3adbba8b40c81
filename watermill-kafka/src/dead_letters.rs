//! Sends rejected messages to the dead-letter topic.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use watermill_core::{
    Backoff, DeadLetter, Message,
    error::{NotAccepted, PublishError, PublishErrorKind, chain},
    metadata_keys as keys,
};

use crate::{
    BACKEND,
    assigned::scope,
    settle::{RejectedDelivery, Shared},
};

/// How many are sent in one call.
const CALL: usize = 100;

/// The metadata entry of a dead letter without its payload that says how long that was; the record itself lies at
/// the partition and offset that the letter names.
const PAYLOAD_BYTES: &str = "payload_bytes_poisoned";

/// Sends what a subscription has rejected, in order, until the subscription is gone. What cannot be sent is
/// tried again until it can, and its place in the partition is held meanwhile.
pub(crate) async fn send_all(shared: Arc<Shared>, to: DeadLetter, retry: Backoff) {
    loop {
        let dead = shared.take_rejected(CALL);
        if dead.is_empty() {
            tokio::select! {
                () = shared.rejecting.notified() => continue,
                () = shared.left.cancelled() => return,
            }
        }
        tokio::select! {
            () = send(&shared, &to, &retry, dead) => {}
            () = shared.left.cancelled() => return,
        }
    }
}

async fn send(shared: &Shared, to: &DeadLetter, retry: &Backoff, mut dead: Vec<RejectedDelivery>) {
    for attempt in 0.. {
        let letters = dead.iter().map(|dead| letter(&shared.topic, dead)).collect();
        let sent = to.publisher().publish(to.topic(), letters).await;
        let left = match &sent {
            Ok(()) => Vec::new(),
            Err(error) => not_accepted(error, dead.len()),
        };
        let mut at = 0;
        dead.retain(|dead| {
            at += 1;
            let stays = left.binary_search(&(at - 1)).is_ok();
            if !stays {
                shared.dead_lettered(dead.token);
            }
            stays
        });
        let Err(error) = sent else { return };
        if error.kind() == PublishErrorKind::Message {
            // One of them cannot be held as it is, and the others are not to wait for it.
            for dead in dead {
                send_one(shared, to, retry, &dead).await;
            }
            return;
        }
        wait(to, retry, attempt, &error).await;
    }
}

/// Sends a letter in the first form that the dead-letter topic can hold. One that it can hold in none is passed, with an
/// error in the log: the record itself lies where it came from.
async fn send_one(shared: &Shared, to: &DeadLetter, retry: &Backoff, dead: &RejectedDelivery) {
    let (partition, offset) = (scope::partition(dead.token.scope), dead.token.position);
    for form in [Form::Whole, Form::WithoutPayload, Form::Bare] {
        for attempt in 0.. {
            let letter = form.of(letter(&shared.topic, dead), dead, &shared.topic);
            match to.publisher().publish(to.topic(), vec![letter]).await {
                Ok(()) => return shared.dead_lettered(dead.token),
                Err(error) if error.kind() == PublishErrorKind::Message => {
                    let (topic, error) = (&*shared.topic, chain(&error));
                    tracing::error!(
                        topic,
                        partition,
                        offset,
                        ?form,
                        error,
                        "a dead letter cannot be held as it is"
                    );
                    break;
                }
                Err(error) => wait(to, retry, attempt, &error).await,
            }
        }
    }
    let (topic, reason) = (&*shared.topic, &*dead.reason);
    tracing::error!(
        topic,
        partition,
        offset,
        reason,
        "rejected: the message is passed, for the dead-letter topic cannot hold it"
    );
    shared.dead_lettered(dead.token);
}

async fn wait(to: &DeadLetter, retry: &Backoff, attempt: u32, error: &PublishError) {
    let wait: Duration = retry.delay(attempt);
    let (topic, error) = (to.topic(), chain(error));
    tracing::error!(topic, error, ?wait, "dead letters could not be sent, trying again");
    tokio::time::sleep(wait).await;
}

fn not_accepted(error: &PublishError, len: usize) -> Vec<usize> {
    match error.not_accepted() {
        NotAccepted::At(positions) => positions.clone(),
        _ => (0..len).collect(),
    }
}

/// How much of a message its dead letter has.
#[derive(Clone, Copy, Debug)]
enum Form {
    Whole,
    WithoutPayload,
    /// Nothing but the id and the story of its rejection; where it lies is the key, for topics that want one.
    Bare,
}

impl Form {
    fn of(self, mut letter: Message, dead: &RejectedDelivery, topic: &str) -> Message {
        let bytes = letter.payload().len().to_string();
        match self {
            Self::Whole => return letter,
            Self::WithoutPayload => letter.set_payload(Bytes::new()),
            Self::Bare => {
                let id = letter.id().clone();
                let story = letter.metadata().iter().filter(|(name, _)| name.ends_with("_poisoned"));
                let bare = Message::with_id(id, Bytes::new());
                let place = format!("{topic}/{}/{}", scope::partition(dead.token.scope), dead.token.position);
                let bare = story.fold(bare, |bare, (name, value)| bare.with_metadata(name, value));
                letter = bare.with_key(place);
            }
        }
        letter.with_metadata(PAYLOAD_BYTES, bytes)
    }
}

/// The message as it came, with the story of its rejection.
fn letter(topic: &str, dead: &RejectedDelivery) -> Message {
    let RejectedDelivery { token, rejected, reason } = dead;
    let rejection = Rejection(reason.clone());
    let mut letter = DeadLetter::message(rejected.message.clone(), &rejection, rejected.attempts);
    let metadata = letter.metadata_mut();
    metadata.insert(keys::TOPIC_POISONED, topic);
    metadata.insert(keys::SUBSCRIBER_POISONED, BACKEND);
    metadata.insert(keys::PARTITION_POISONED, scope::partition(token.scope).to_string());
    metadata.insert(keys::OFFSET_POISONED, token.position.to_string());
    letter
}

#[derive(Debug)]
struct Rejection(String);

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Rejection {}
