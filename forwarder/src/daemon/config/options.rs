//! Every option there is: what the file, the environment and the command line are read by, and what `check --explain` prints.

use super::value::Kind;

/// An option.
#[derive(Debug)]
pub(crate) struct Spec {
    /// Where it stands in the file. A `*` is the name of a relay, and at the end the name of a client's own option.
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    /// What it is unless somebody says otherwise; `None` where it is then nothing at all.
    pub(crate) default: Option<&'static str>,
    /// One sentence.
    pub(crate) help: &'static str,
}

const fn option(path: &'static str, kind: Kind, default: Option<&'static str>, help: &'static str) -> Spec {
    Spec { path, kind, default, help }
}

const LAYOUTS: Kind = Kind::Choice(&["log", "queue"]);

/// The table.
pub(crate) const OPTIONS: &[Spec] = &[
    option(
        "admin.listen",
        Kind::Text,
        Some("127.0.0.1:9464"),
        "where health, metrics, status, pause and resume are served; \"off\" for nowhere",
    ),
    option(
        "drain_timeout",
        Kind::Duration,
        Some("30s"),
        "how long a stop may take; then the process ends, and what is left stays in its source",
    ),
    option(
        "status_interval",
        Kind::Duration,
        Some("5s"),
        "how often the sources are asked for their backlog",
    ),
    option(
        "log.format",
        Kind::Choice(&["auto", "human", "json"]),
        Some("auto"),
        "how lines of the log look; auto is human on a terminal and json elsewhere",
    ),
    option(
        "log.level",
        Kind::Text,
        Some("info"),
        "error, warn, info, debug or trace, or directives such as \"info,sqlx=warn\"",
    ),
    option(
        "log.repeat_interval",
        Kind::Duration,
        Some("30s"),
        "how long a line that repeats is counted before it is written again",
    ),
    option(
        "relay.*.delivery",
        Kind::Choice(&["at-least-once", "exactly-once"]),
        Some("at-least-once"),
        "what readers of the destination see after a crash; exactly-once is for Kafka and databases",
    ),
    option(
        "relay.*.name_at_destination",
        Kind::Text,
        None,
        "exactly-once: what the destination knows the relay by; by default watermill- and the relay's name",
    ),
    option("relay.*.topic", Kind::Text, Some("forwarder_topic"), "where envelopes are read"),
    option("relay.*.batch_size", Kind::Count, Some("500"), "the most messages of one call"),
    option("relay.*.linger", Kind::Duration, Some("0"), "how long to wait for a batch to fill"),
    option(
        "relay.*.backoff_min",
        Kind::Duration,
        Some("100ms"),
        "the first wait between attempts; each is twice as long as the one before",
    ),
    option("relay.*.backoff_max", Kind::Duration, Some("30s"), "the longest wait between attempts"),
    option(
        "relay.*.call_timeout",
        Kind::Duration,
        Some("150s"),
        "how long a call may take before it is tried again",
    ),
    option(
        "relay.*.attempts",
        Kind::Attempts,
        Some("5"),
        "after how many attempts a message is dead-lettered that is refused for itself, or never",
    ),
    option(
        "relay.*.max_blocked",
        Kind::Count,
        Some("10000"),
        "the most messages held for what fails, is slow or paused",
    ),
    option(
        "relay.*.dead_letter_topic",
        Kind::Text,
        Some("forwarder_dead_letter"),
        "where dead letters go, in the source's database",
    ),
    option(
        "relay.*.dead_letters",
        Kind::Choice(&["source", "destination"]),
        Some("source"),
        "who keeps dead letters; what the destination does not take goes to the source",
    ),
    option(
        "relay.*.shards",
        Kind::Count,
        None,
        "a log: in how many shards a group reads it that has none yet; by default one process reads",
    ),
    option(
        "relay.*.destination_from",
        Kind::Text,
        None,
        "where messages go that are no envelopes, such as outbox.event.${aggregatetype}",
    ),
    option(
        "relay.*.key_from_metadata",
        Kind::Text,
        None,
        "the metadata entry that is the key of messages without one",
    ),
    option(
        "relay.*.key_from_json",
        Kind::Text,
        None,
        "the JSON pointer into the payload that finds the key of messages without one",
    ),
    option(
        "relay.*.on_unreadable",
        Kind::Choice(&["dead-letter", "ack", "nack"]),
        Some("dead-letter"),
        "what becomes of what is no envelope",
    ),
    option("relay.*.source.url", Kind::Text, None, "postgres://, mysql://, mariadb:// or sqlite:"),
    option("relay.*.source.url_file", Kind::Text, None, "a file with that URL, for one with a password"),
    option(
        "relay.*.source.password",
        Kind::Secret,
        None,
        "the password; better in a file or in the environment",
    ),
    option("relay.*.source.password_file", Kind::Text, None, "a file with the password"),
    option("relay.*.source.connections", Kind::Count, Some("5"), "the most connections to it"),
    option("relay.*.source.layout", LAYOUTS, Some("log"), "whether the topic is a log or a queue"),
    option(
        "relay.*.source.group",
        Kind::Text,
        None,
        "the consumer group of a log; by default the one that Go's library defaults to",
    ),
    option(
        "relay.*.source.lease",
        Kind::Duration,
        Some("5s"),
        "how long a relay that has vanished keeps others out; the visibility timeout of a queue",
    ),
    option(
        "relay.*.source.poll_interval_max",
        Kind::Duration,
        Some("250ms"),
        "the longest pause between two looks",
    ),
    option("relay.*.source.create_tables", Kind::Flag, Some("true"), "whether missing tables are made"),
    option(
        "relay.*.source.commit_order",
        Kind::Choice(&["auto", "lock-holders", "snapshot"]),
        Some("auto"),
        "PostgreSQL: how rows that commit late are waited for",
    ),
    option(
        "relay.*.source.table.preset",
        Kind::Choice(&["none", "debezium"]),
        Some("none"),
        "a table of yours: the columns that Debezium's outbox event router expects",
    ),
    option("relay.*.source.table.name", Kind::Text, None, "its name; outbox in the preset"),
    option("relay.*.source.table.schema", Kind::Text, None, "its schema, or its database on MySQL"),
    option("relay.*.source.table.id", Kind::Text, None, "the column of ids; by default id"),
    option(
        "relay.*.source.table.offset",
        Kind::Text,
        None,
        "the column that the database counts up; a log needs one",
    ),
    option("relay.*.source.table.payload", Kind::Text, None, "the column of payloads; by default payload"),
    option("relay.*.source.table.key", Kind::Text, None, "the column of keys; aggregateid in the preset"),
    option(
        "relay.*.source.table.order_by",
        Kind::Text,
        None,
        "a queue: the column in whose order rows are taken",
    ),
    option("relay.*.source.table.metadata_json", Kind::Text, None, "a column with a JSON object of metadata"),
    option(
        "relay.*.source.table.metadata.*",
        Kind::Text,
        None,
        "the column of a metadata entry of that name",
    ),
    option(
        "relay.*.source.table.after_ack",
        Kind::Choice(&["keep", "delete", "mark"]),
        Some("keep"),
        "what becomes of a row whose message was forwarded",
    ),
    option("relay.*.source.table.mark", Kind::Text, None, "the column that is marked"),
    option(
        "relay.*.destination.url",
        Kind::Text,
        None,
        "kafka://host:port,host:port, pubsub://project, redis://, nats://, amqp://, https://host/hooks/{topic}, or a database",
    ),
    option("relay.*.destination.url_file", Kind::Text, None, "a file with that URL, for one with a password"),
    option(
        "relay.*.destination.password",
        Kind::Secret,
        None,
        "the password of a database, of Redis, of NATS or of RabbitMQ, or the secret that webhooks are signed with",
    ),
    option("relay.*.destination.password_file", Kind::Text, None, "a file with that password"),
    option(
        "relay.*.destination.connections",
        Kind::Count,
        Some("5"),
        "a database: the most connections to it",
    ),
    option(
        "relay.*.destination.layout",
        LAYOUTS,
        Some("log"),
        "a database: whether topics are logs or queues",
    ),
    option(
        "relay.*.destination.payload",
        Kind::Choice(&["auto", "json", "bytes"]),
        Some("auto"),
        "a database: what payload columns hold",
    ),
    option("relay.*.destination.create_topics", Kind::Flag, Some("false"), "whether missing topics are made"),
    option(
        "relay.*.destination.partitions",
        Kind::Count,
        None,
        "Kafka: of topics that are made; by default the broker's default",
    ),
    option(
        "relay.*.destination.replication",
        Kind::Count,
        None,
        "Kafka: of topics that are made; by default the broker's default",
    ),
    option(
        "relay.*.destination.delivery_timeout",
        Kind::Duration,
        Some("2m"),
        "Kafka: how long a message may be on its way",
    ),
    option(
        "relay.*.destination.checkpoint_topic",
        Kind::Text,
        Some("watermill_checkpoints"),
        "exactly-once: where checkpoints are kept",
    ),
    option("relay.*.destination.emulator", Kind::Text, None, "Pub/Sub: host:port of an emulator"),
    option(
        "relay.*.destination.topology",
        Kind::Choice(&["pub_sub", "queue"]),
        Some("pub_sub"),
        "RabbitMQ: whether a topic is a fanout exchange, or a queue, which its reader makes",
    ),
    option(
        "relay.*.destination.options.*",
        Kind::Text,
        None,
        "Kafka: an option of librdkafka, such as security.protocol",
    ),
    option(
        "relay.*.destination.options_file.*",
        Kind::Text,
        None,
        "Kafka: a file with the value of such an option, such as sasl.password",
    ),
];

/// The option of a path, if there is one.
pub(crate) fn find(path: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| matches(spec.path, path))
}

/// The name of the relay that a path is about.
pub(crate) fn relay_of(path: &str) -> Option<&str> {
    path.strip_prefix("relay.")?.split('.').next()
}

/// Whether `pattern` is that of `path`. The last `*` takes all that is left, with its dots.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern, path);
    loop {
        if pattern == "*" {
            return !path.is_empty();
        }
        let (wanted, more_wanted) = pattern.split_once('.').map_or((pattern, None), |(a, b)| (a, Some(b)));
        let (found, more_found) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
        if wanted != found && (wanted != "*" || found.is_empty()) {
            return false;
        }
        match (more_wanted, more_found) {
            (Some(wanted), Some(found)) => (pattern, path) = (wanted, found),
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// What was meant by a path that is none: the nearest one of as many parts.
pub(crate) fn nearest(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('.').collect();
    let like = |spec: &Spec| {
        let wanted: Vec<&str> = spec.path.split('.').collect();
        (wanted.len() == parts.len()).then(|| {
            let named = wanted.iter().zip(&parts).map(|(a, b)| if *a == "*" { *b } else { *a });
            named.collect::<Vec<_>>().join(".")
        })
    };
    let close = OPTIONS.iter().filter_map(like).map(|candidate| (distance(&candidate, path), candidate));
    close.filter(|(distance, _)| *distance <= 3).min().map(|(_, candidate)| candidate)
}

/// How many letters are to be added, left out or changed.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_matched_with_the_name_of_its_relay_and_of_a_clients_option() {
        for (path, pattern) in [
            ("relay.shop.source.url", "relay.*.source.url"),
            ("relay.shop.destination.options.sasl.mechanism", "relay.*.destination.options.*"),
            ("log.level", "log.level"),
        ] {
            assert_eq!(find(path).unwrap().path, pattern);
        }
        for path in [
            "relay.shop",
            "relay..topic",
            "log",
            "relay.shop.source",
            "log.level.x",
            "relay.shop.destination.options",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
        assert_eq!(relay_of("relay.shop.topic"), Some("shop"));
    }

    #[test]
    fn what_was_meant_is_named() {
        assert_eq!(nearest("relay.shop.batchsize").unwrap(), "relay.shop.batch_size");
        assert_eq!(nearest("log.levle").unwrap(), "log.level");
        assert_eq!(nearest("nothing.like.it"), None);
    }

    #[test]
    fn every_default_is_a_value_of_its_option() {
        for spec in OPTIONS {
            if let Some(default) = spec.default {
                assert!(spec.kind.read(default).is_ok(), "{}", spec.path);
            }
        }
    }
}
