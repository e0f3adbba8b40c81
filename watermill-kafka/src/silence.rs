//! [`Silence`]: for how long brokers have owed an answer.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rdkafka::statistics::Broker;
use tokio::time::Instant;

/// Notices brokers that are connected and do not answer: frozen, or behind a network that drops packets.
/// librdkafka itself takes a minute to give such a connection up, and until then reports nothing.
pub(crate) struct Silence {
    /// When every broker that owes an answer had last said something.
    heard: Mutex<Instant>,
    limit: Duration,
}

impl Silence {
    /// `session` is how long a group waits for a member of its own, and so for whom nothing should look fine
    /// longer than that.
    pub(crate) fn new(session: Duration) -> Self {
        Self { heard: Mutex::new(Instant::now()), limit: session / 3 * 2 }
    }

    /// How often the client must be asked, so that silence is noticed in time.
    pub(crate) fn look_interval(session: Duration) -> Duration {
        session / 4
    }

    /// Takes note of what the client says of its brokers. While it says nothing, because the thread that
    /// serves it waits for an answer, the time counts as silence.
    pub(crate) fn note(&self, brokers: &HashMap<String, Broker>) {
        // The group's coordinator has a connection of its own, a logical one, and answers who joins when
        // everybody has joined.
        let owing = brokers.values().filter(|broker| broker.waitresp_cnt > 0 && broker.source != "logical");
        let silent = owing.filter_map(|broker| u64::try_from(broker.rxidle).ok()).max().unwrap_or_default();
        let now = Instant::now();
        let heard = now.checked_sub(Duration::from_micros(silent)).unwrap_or(now);
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    }

    /// For how long no answer has come, if that is too long.
    pub(crate) fn too_long(&self) -> Option<Duration> {
        let silent = self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        (silent >= self.limit).then_some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(source: &str, owed: i64, idle: Duration) -> (String, Broker) {
        let rxidle = idle.as_micros().try_into().unwrap();
        let broker = Broker { source: source.to_owned(), waitresp_cnt: owed, rxidle, ..Broker::default() };
        (format!("{source}-{owed}"), broker)
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_owes_an_answer_for_too_long_is_noticed() {
        let silence = Silence::new(Duration::from_secs(6));
        let minutes = Duration::from_secs(600);
        let fine = [
            broker("learned", 1, Duration::from_millis(300)),
            broker("configured", 0, minutes),
            // It answers a member that joins when all the others have joined.
            broker("logical", 1, minutes),
        ];
        silence.note(&HashMap::from(fine));
        assert_eq!(silence.too_long(), None);

        silence.note(&HashMap::from([broker("learned", 1, Duration::from_secs(5))]));
        assert!(silence.too_long().is_none_or(|silent| silent >= Duration::from_secs(4)));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(silence.too_long().is_some(), "the client says nothing any more");
        silence.note(&HashMap::new());
        assert_eq!(silence.too_long(), None);
    }
}
