//! Sends rejected messages to the dead-letter topic.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use watermill_core::{
    Backoff, DeadLetter, Message,
    delivery::Token,
    error::{NotAccepted, PublishError, chain},
    metadata_keys as keys,
};

use crate::{BACKEND, assigned::scope, ledger::Rejected, settle::Shared};

/// How many are sent in one call.
const CALL: usize = 100;

/// A rejected message that is to be sent.
pub(crate) struct RejectedDelivery {
    pub(crate) token: Token,
    pub(crate) rejected: Rejected,
    pub(crate) reason: String,
}

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
        let wait: Duration = retry.delay(attempt);
        tracing::error!(
            topic = to.topic(),
            error = chain(&error),
            ?wait,
            "dead letters could not be sent, trying again"
        );
        tokio::time::sleep(wait).await;
    }
}

fn not_accepted(error: &PublishError, len: usize) -> Vec<usize> {
    match error.not_accepted() {
        NotAccepted::At(positions) => positions.clone(),
        _ => (0..len).collect(),
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
