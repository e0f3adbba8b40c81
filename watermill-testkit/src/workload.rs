//! The one workload that every benchmark uses, so that their figures can be compared.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use watermill_core::Message;

/// The size of a body, in bytes.
pub const BODY_BYTES: usize = 256;

/// What all bodies are: JSON text, which every backend can store.
static BODY: [u8; BODY_BYTES] = {
    let mut body = [b'x'; BODY_BYTES];
    body[0] = b'"';
    body[BODY_BYTES - 1] = b'"';
    body
};

/// Message number `n` of the workload: a fresh id, three metadata entries as a service has them, and
/// a body of [`BODY_BYTES`] that was copied once, as one is that was just serialised.
pub fn message(n: usize) -> Message {
    Message::new(Bytes::copy_from_slice(&BODY))
        .with_metadata("content_type", "application/json")
        .with_metadata("event_name", "workload.measured")
        .with_metadata("sequence", n.to_string())
}

/// The same with one of `keys` keys, in turn.
pub fn keyed_message(n: usize, keys: usize) -> Message {
    message(n).with_key(format!("key-{}", n % keys))
}

/// The first `count` messages in calls of `call` messages.
pub fn calls(count: usize, call: usize) -> impl Iterator<Item = Vec<Message>> {
    (0..count).step_by(call).map(move |start| (start..count.min(start + call)).map(message).collect())
}

/// The number of things done in a second.
pub fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// The middle one of an odd number of rates: what else the machine does makes rounds slow, and sometimes one
/// side's fast.
pub fn middle(rates: impl IntoIterator<Item = f64>) -> f64 {
    let mut rates: Vec<f64> = rates.into_iter().collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Runs and times, several times, and returns the fastest time: of a loop that always does the same
/// work, the others show what else the machine did.
pub async fn fastest_of<F: Future<Output = ()>>(runs: usize, mut run: impl FnMut() -> F) -> Duration {
    let mut fastest = Duration::MAX;
    for _ in 0..runs {
        let start = Instant::now();
        run().await;
        fastest = fastest.min(start.elapsed());
    }
    fastest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_a_json_body_of_256_bytes_and_three_metadata_entries() {
        let message = message(7);
        assert_eq!(message.payload().len(), BODY_BYTES);
        assert!(message.decode_json::<String>().is_ok());
        assert_eq!(message.metadata().len(), 3);
        assert_eq!(message.metadata().get("sequence"), Some("7"));
    }

    #[test]
    fn calls_cover_every_message_once() {
        let calls: Vec<_> = calls(25, 10).collect();
        assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
        let sequence = calls
            .concat()
            .iter()
            .map(|m| m.metadata().get("sequence").unwrap().to_owned())
            .collect::<Vec<_>>();
        assert_eq!(sequence, (0..25).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}
