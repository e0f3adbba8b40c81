//! [`Log`]: what librdkafka says, in `tracing`, without its repetitions.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext, Statistics, config::RDKafkaLogLevel as Level, consumer::ConsumerContext, error::KafkaError,
};
use tokio::time::Instant;

/// How often the same is said.
const REPEATED_AFTER: Duration = Duration::from_secs(60);

/// How many different lines are remembered. What is beyond that is as good as one that was said.
const REMEMBERED_MAX: usize = 100;

/// The log of a client, under the target `librdkafka`. While brokers are away a client says the same many times a
/// second: a line is written at most once a minute, with the number of times that it was said since.
#[derive(Default)]
pub(crate) struct Log {
    said: Mutex<HashMap<String, Said>>,
}

struct Said {
    at: Instant,
    since: u64,
}

impl Log {
    /// A line that librdkafka writes.
    pub(crate) fn line(&self, level: Level, facility: &str, message: &str) {
        // That options are experimental, deprecated, or for clients of another kind: they were chosen with care.
        let level = if facility == "CONFWARN" { Level::Debug } else { level };
        match level {
            Level::Emerg | Level::Alert | Level::Critical | Level::Error => {
                if let Some(repeated) = self.is_due(facility, message) {
                    tracing::error!(target: "librdkafka", facility, message, repeated);
                }
            }
            Level::Warning => {
                if let Some(repeated) = self.is_due(facility, message) {
                    tracing::warn!(target: "librdkafka", facility, message, repeated);
                }
            }
            Level::Notice | Level::Info | Level::Debug => {
                tracing::debug!(target: "librdkafka", facility, message);
            }
        }
    }

    /// An error that librdkafka tells.
    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        if let Some(repeated) = self.is_due("error", reason) {
            tracing::warn!(target: "librdkafka", %error, reason, repeated, "trouble with Kafka");
        }
    }

    /// Whether a line is to be written, and how often it was not since it was written last.
    fn is_due(&self, facility: &str, message: &str) -> Option<u64> {
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let line = essence(facility, message);
        let Some(known) = said.get_mut(&line) else {
            if said.len() >= REMEMBERED_MAX {
                said.retain(|_, said| said.at + REPEATED_AFTER > now);
            }
            if said.len() >= REMEMBERED_MAX {
                return None;
            }
            said.insert(line, Said { at: now, since: 0 });
            return Some(0);
        };
        if now < known.at + REPEATED_AFTER {
            known.since += 1;
            return None;
        }
        known.at = now;
        Some(std::mem::take(&mut known.since))
    }
}

/// What makes a line the same as another: not its numbers, and not what librdkafka adds in brackets, such as for how long
/// a connection was in a state.
fn essence(facility: &str, message: &str) -> String {
    let mut depth = 0_u32;
    let kept = message.chars().filter(|c| {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => return depth == 0 && !c.is_ascii_digit(),
        }
        false
    });
    let kept: String = kept.collect();
    format!("{facility}:{}", kept.trim())
}

/// The context of a client for a few questions.
#[derive(Default)]
pub(crate) struct Quiet(Log);

impl ClientContext for Quiet {
    fn log(&self, level: Level, facility: &str, message: &str) {
        self.0.line(level, facility, message);
    }

    /// Nobody has asked for any.
    fn stats(&self, _: Statistics) {}

    /// Whoever asks gets the error.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
    }
}

impl ConsumerContext for Quiet {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_repeated_is_said_once_a_minute_with_a_count() {
        let log = Log::default();
        let line = |port: u16, ms: u16| {
            format!(
                "127.0.0.1:{port}/1: Connect to ipv4#127.0.0.1:{port} failed: Connection refused (after {ms}ms in state CONNECT)"
            )
        };
        assert_eq!(log.is_due("FAIL", &line(1, 0)), Some(0));
        for ms in 1..100 {
            assert_eq!(log.is_due("FAIL", &line(1, ms)), None);
        }
        assert_eq!(log.is_due("FAIL", "127.0.0.1:1/1: Disconnected"), Some(0), "another line");
        tokio::time::advance(REPEATED_AFTER).await;
        assert_eq!(log.is_due("FAIL", &line(1, 0)), Some(99));
        assert_eq!(log.is_due("FAIL", &line(1, 0)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_beyond_the_bound_are_not_said_before_others_are_old() {
        let log = Log::default();
        let line = |n: usize| "x".repeat(n);
        for n in 0..REMEMBERED_MAX {
            assert_eq!(log.is_due("", &line(n)), Some(0));
        }
        assert_eq!(log.is_due("", "new"), None);
        tokio::time::advance(REPEATED_AFTER).await;
        assert_eq!(log.is_due("", "new"), Some(0));
    }
}
