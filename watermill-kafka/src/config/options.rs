//! [`Options`]: what is passed through to librdkafka.

use std::{collections::BTreeMap, fmt};

use rdkafka::ClientConfig;

/// Options of librdkafka, by name. Its debug form shows no secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Options(BTreeMap<String, String>);

/// An option that is not passed through, and why.
pub(super) struct Refused {
    pub(super) name: &'static str,
    pub(super) reason: &'static str,
}

/// What every client of ours sets itself.
const REFUSED: &[Refused] = &[
    Refused { name: "bootstrap.servers", reason: "give the brokers to `new`" },
    Refused { name: "metadata.broker.list", reason: "give the brokers to `new`" },
    Refused {
        name: "allow.auto.create.topics",
        reason: "a misspelled topic would come into being; `create_topics` makes them on purpose",
    },
];

/// The most that librdkafka lets `message.max.bytes` be.
const RECORD_BYTES_MAX: &str = "1000000000";

impl Options {
    pub(super) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// The value that the user has given to an option.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Over the defaults there are, so that the user has the last word.
    pub(crate) fn apply(&self, config: &mut ClientConfig) {
        for (name, value) in &self.0 {
            config.set(name, value);
        }
    }

    /// Those that say how to connect, which is the same for consumers and producers.
    pub(crate) fn connection(&self) -> Self {
        const CONNECTION: &[&str] =
            &["security.", "ssl.", "sasl.", "enable.ssl", "client.", "socket.", "broker.", "reconnect."];
        let connects = |name: &&String| CONNECTION.iter().any(|prefix| name.starts_with(prefix));
        Self(self.0.iter().filter(|(name, _)| connects(name)).map(|(n, v)| (n.clone(), v.clone())).collect())
    }

    /// The same for a producer of dead letters: it takes what has been read, and its broker has the last word.
    pub(crate) fn dead_letters(&self) -> Self {
        let sizes = |name: &&String| name.starts_with("message.") || name.starts_with("compression.");
        let mut options = self.connection();
        options.0.insert("message.max.bytes".to_owned(), RECORD_BYTES_MAX.to_owned());
        options.0.extend(self.0.iter().filter(|(name, _)| sizes(name)).map(|(n, v)| (n.clone(), v.clone())));
        options
    }

    /// Everything that is wrong: options that break a promise, and what librdkafka itself does not know.
    pub(super) fn problems(&self, refused: &[Refused]) -> Vec<String> {
        let mut problems = Vec::new();
        for Refused { name, reason } in REFUSED.iter().chain(refused) {
            if self.0.contains_key(*name) {
                problems.push(format!("option {name}: {reason}"));
            }
        }
        for (name, value) in &self.0 {
            if let Err(problem) = ClientConfig::new().set(name, value).create_native_config() {
                // Its own text repeats the value, which may be a secret.
                let shown = if is_secret(name) {
                    "the value is not accepted".to_owned()
                } else {
                    problem.to_string()
                };
                problems.push(format!("option {name}: {shown}"));
            }
        }
        problems
    }
}

/// Names the options whose values do not belong in a log.
fn is_secret(name: &str) -> bool {
    ["password", "secret", "pem", "oauthbearer", "jaas", "token"].iter().any(|part| name.contains(part))
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|(name, value)| (name, if is_secret(name) { "***" } else { value }));
        f.debug_map().entries(shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let mut options = Options::default();
        pairs.iter().for_each(|(name, value)| options.set(*name, *value));
        options
    }

    #[test]
    fn secrets_are_not_shown() {
        let options =
            options(&[("sasl.password", "hunter2"), ("ssl.key.pem", "hunter2"), ("client.id", "me")]);
        let text = format!("{options:?}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("\"me\""), "{text}");
    }

    #[test]
    fn dead_letters_are_of_any_size_unless_the_reader_says_otherwise() {
        let given =
            options(&[("compression.type", "lz4"), ("sasl.username", "me"), ("fetch.min.bytes", "1")]);
        let expected =
            [("compression.type", "lz4"), ("message.max.bytes", RECORD_BYTES_MAX), ("sasl.username", "me")];
        assert_eq!(given.dead_letters(), options(&expected));
        let given = options(&[("message.max.bytes", "2000")]);
        assert_eq!(given.dead_letters(), given);
    }

    #[test]
    fn what_librdkafka_does_not_know_is_a_problem_and_shows_no_secret() {
        let problems = options(&[("no.such.option", "1"), ("no.such.password", "hunter2")]).problems(&[]);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("option no.such.option: "), "{problems:?}");
        assert!(!problems.concat().contains("hunter2"), "{problems:?}");
    }

    #[test]
    fn options_that_would_break_a_promise_are_refused_with_the_reason() {
        let refused = Refused { name: "enable.auto.commit", reason: "because" };
        let given = options(&[("enable.auto.commit", "true"), ("bootstrap.servers", "x")]);
        let problems = given.problems(&[refused]);
        assert_eq!(
            problems,
            ["option bootstrap.servers: give the brokers to `new`", "option enable.auto.commit: because"]
        );
    }
}
