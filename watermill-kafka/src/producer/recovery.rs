//! What becomes of a producer's messages when its client has failed for good.
//!
//! A broker refuses a batch as a whole, and says of each of its messages that it is too large. So before one of them is
//! blamed they are sent again one by one, and what was queued behind them after them. What is accepted then has
//! shown that batches were too large, and the next ones are smaller.

use std::{sync::Arc, thread, time::Duration};

use rdkafka::{
    ClientConfig, Message as _,
    error::KafkaError,
    producer::{BaseRecord, Producer as _, PurgeConfig},
    types::RDKafkaErrorCode as Code,
};
use tokio::time::Instant;

use super::client::Client;
use crate::{error, report::Unsent};

/// How long the answers to what a dead client has sent are waited for; what is not answered by then may have been
/// written, and fails.
const ANSWERED_BY: Duration = Duration::from_secs(5);

const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// librdkafka's own default of `batch.size`.
const BATCH_BYTES: usize = 1_000_000;

/// What comes after a client that has failed.
pub(crate) struct Recovered {
    /// `None` where no client can be made, or none has to be.
    pub(crate) next: Option<Arc<Client>>,
    pub(crate) batch_bytes: Option<usize>,
}

/// Waits for what is on its way with a client, tells of its messages what is to be told, and makes another; blocks.
pub(crate) fn recover(
    client: &Client,
    config: &ClientConfig,
    batch_bytes: Option<usize>,
    is_to_go: bool,
) -> Recovered {
    let Some((code, reason)) = client.get().client().fatal_error() else {
        // Its messages were taken back.
        drain(client);
        fail(client.take_unsent(), None);
        return Recovered { next: if is_to_go { successor(config, batch_bytes) } else { None }, batch_bytes };
    };
    tracing::error!(%code, reason, "the producer failed for good and is replaced");
    drain(client);
    let mut unsent = client.take_unsent();
    let refused = unsent.iter().filter(|unsent| error::is_too_large(&unsent.error)).count();
    let mut batch_bytes = batch_bytes;
    // A batch of one needs no second look.
    if refused > 1 {
        let given = config.get("batch.size").and_then(|bytes| bytes.trim().parse().ok());
        let largest = batch_bytes.unwrap_or_else(|| given.unwrap_or(BATCH_BYTES));
        unsent.sort_by_key(Unsent::place);
        match one_by_one(config, unsent) {
            Ok(true) => {
                batch_bytes = Some((largest / 2).max(1));
                tracing::warn!(
                    batch_bytes,
                    "a broker takes no batches as large as they were; they are smaller now"
                );
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "no client to send a refused batch again with"),
        }
    } else {
        fail(unsent, Some(code));
    }
    Recovered { next: successor(config, batch_bytes), batch_bytes }
}

fn successor(config: &ClientConfig, batch_bytes: Option<usize>) -> Option<Arc<Client>> {
    let mut config = config.clone();
    if let Some(bytes) = batch_bytes {
        config.set("batch.size", bytes.to_string());
    }
    let next = Client::resending(&config);
    if let Err(error) = &next {
        tracing::error!(%error, "the next call tries to replace it again");
    }
    next.ok()
}

/// Sends messages again, each in a batch of its own: whether all were accepted. The first that is not ends that, and
/// what is behind it fails.
fn one_by_one(config: &ClientConfig, unsent: Vec<Unsent>) -> Result<bool, KafkaError> {
    let mut config = config.clone();
    config.set("batch.num.messages", "1");
    let client = match Client::resending(&config) {
        Ok(client) => client,
        Err(error) => {
            fail(unsent, None);
            return Err(error);
        }
    };
    let mut unsent = unsent.into_iter();
    for next in unsent.by_ref() {
        if let Err(error) = send(&client, &next) {
            next.call.fail_own(error);
            break;
        }
    }
    let mut accepted = unsent.len() == 0;
    drain_unless_dead(&client);
    let code = client.get().client().fatal_error().map(|(code, _)| code);
    let left = client.take_unsent();
    accepted &= left.is_empty() && code.is_none();
    fail(left.into_iter().chain(unsent), code);
    Ok(accepted)
}

/// Queues a message again, to the partition that it was meant for.
fn send(client: &Client, Unsent { record, call, .. }: &Unsent) -> Result<(), KafkaError> {
    loop {
        let mut again = BaseRecord::with_opaque_to(record.topic(), call.clone());
        (again.key, again.payload) = (record.key(), record.payload());
        again.headers = record.headers().cloned();
        again.partition = Some(record.partition()).filter(|partition| *partition >= 0);
        again.timestamp = record.timestamp().to_millis();
        match client.get().send(again) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(Code::QueueFull), _)) => pause(),
            Err((error, _)) => return Err(error),
        }
    }
}

/// Waits until everything is accepted, or the client is dead and has told all that it will.
fn drain_unless_dead(client: &Client) {
    // Each message has its own time limit.
    while client.get().in_flight_count() > 0 {
        if client.get().client().fatal_error().is_some() {
            return drain(client);
        }
        pause();
    }
}

/// Takes back what was not sent, and waits for the answers to what was.
fn drain(client: &Client) {
    let until = Instant::now() + ANSWERED_BY;
    while client.get().in_flight_count() > 0 && Instant::now() < until {
        // Again and again: what a broker has refused for what was before it goes back into the queue.
        client.get().purge(PurgeConfig::default().queue());
        pause();
    }
    client.get().purge(PurgeConfig::default().queue().inflight());
    while client.get().in_flight_count() > 0 && Instant::now() < until + ANSWERED_BY {
        pause();
    }
}

/// Tells the callers. What failed with its client has no reason of its own, and gets that of the client where
/// somebody must do something about it.
fn fail(unsent: impl IntoIterator<Item = Unsent>, cause: Option<Code>) {
    let cause = cause.filter(|code| !error::classify_code(*code).is_passing());
    for Unsent { call, error, .. } in unsent {
        match cause.filter(|_| error::is_of_dead_client(&error)) {
            Some(code) => call.fail_own(KafkaError::MessageProduction(code)),
            None => call.fail_own(error),
        }
    }
}

fn pause() {
    #[expect(clippy::disallowed_methods, reason = "this is no worker of a runtime")]
    thread::sleep(LOOK_AGAIN);
}
