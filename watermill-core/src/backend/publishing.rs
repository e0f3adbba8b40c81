//! What publishers of every backend check and reckon.

use std::{collections::HashSet, hash::Hash};

use crate::{
    Message,
    error::{PublishError, PublishErrorKind},
};

/// Refuses a call of which any message asks for a delay, for a publisher that keeps none: to be asked before
/// anything is sent (obligation 10 of [`Publisher`](crate::Publisher)).
///
/// # Errors
///
/// Of kind [`Unsupported`](PublishErrorKind::Unsupported), for the whole call.
#[inline]
pub fn refuse_delays(topic: &str, messages: &[Message]) -> Result<(), PublishError> {
    match messages.iter().find(|message| message.asks_for_delay()) {
        Some(message) => Err(cannot_keep_delay(topic, message)),
        None => Ok(()),
    }
}

#[cold]
fn cannot_keep_delay(topic: &str, message: &Message) -> PublishError {
    let id = message.id().as_str();
    PublishError::new(PublishErrorKind::Unsupported, topic)
        .because(format!("message {id:?} asks for a delay, which this topic cannot keep"))
}

/// Of the messages of a call some were not accepted: adds every later one of the same key, so that a key fails
/// from its first failure on (obligation 9 of [`Publisher`](crate::Publisher)). The backend must not have
/// accepted those that this adds, or have taken them back.
///
/// `keys` has the ordering key of each message of the call; messages without one stand for themselves.
/// Returns the positions in ascending order, for [`PublishError::with_not_accepted`].
pub fn rest_of_keys<K: Eq + Hash>(
    not_accepted: impl IntoIterator<Item = usize>,
    keys: impl IntoIterator<Item = Option<K>>,
) -> Vec<usize> {
    let not_accepted: HashSet<usize> = not_accepted.into_iter().collect();
    let mut failed = HashSet::new();
    let mut positions = Vec::new();
    for (position, key) in keys.into_iter().enumerate() {
        let fails = not_accepted.contains(&position);
        match key {
            Some(key) if fails => {
                failed.insert(key);
                positions.push(position);
            }
            Some(key) if failed.contains(&key) => positions.push(position),
            _ if fails => positions.push(position),
            _ => {}
        }
    }
    positions
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_fails_from_its_first_failure_on() {
        let keys = [Some("a"), Some("b"), Some("a"), None, Some("b"), None];
        assert_eq!(rest_of_keys([1], keys), [1, 4]);
        assert_eq!(rest_of_keys([2, 3], keys), [2, 3], "what was accepted before stays so");
        assert_eq!(rest_of_keys([], keys), [0_usize; 0]);
    }

    #[test]
    fn a_delay_is_refused_before_anything_is_sent() {
        let delayed = Message::new("x").delay_for(Duration::from_secs(1));
        let error = refuse_delays("t", &[Message::new("x"), delayed]).unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Unsupported);
        assert!(refuse_delays("t", &[Message::new("x")]).is_ok());
    }
}
