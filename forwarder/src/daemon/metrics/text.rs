//! The text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write as _;

use watermill_core::router::Phase;
use watermill_forwarder::ForwarderStatus;

use super::{Histogram, Measured};

/// What one relay shows.
pub(crate) struct Shown {
    pub(crate) relay: String,
    /// None until it could be made.
    pub(crate) status: Option<ForwarderStatus>,
    pub(crate) measured: Measured,
    /// For how long it has been held back by somebody else's transaction, in seconds.
    pub(crate) held_back: f64,
}

/// A page of metrics.
struct Page(String);

/// All relays.
pub(crate) fn render(relays: &[Shown]) -> String {
    let mut page = Page(String::new());
    page.gauge("relay_up", "whether the relay is subscribed, reading or standing by", relays, |relay| {
        Some(f64::from(relay.status.as_ref().is_some_and(|status| status.phase == Phase::Running)))
    });
    page.gauge("relay_active", "whether this relay is the one that reads", relays, |relay| {
        let status = relay.status.as_ref();
        Some(f64::from(status.is_some_and(|status| status.source.active)))
    });
    page.gauge("source_up", "whether the source has answered when it was asked last", relays, |relay| {
        Some(f64::from(relay.measured.source.is_some()))
    });
    page.gauge("source_owned", "whether any process reads the source", relays, |relay| {
        Some(f64::from(relay.measured.source.as_ref()?.has_owner?))
    });
    page.gauge("backlog_messages", "messages that wait in the source", relays, |relay| {
        Some(relay.measured.source.as_ref()?.backlog? as f64)
    });
    page.gauge("oldest_message_seconds", "the age of the oldest message that waits", relays, |relay| {
        Some(relay.measured.source.as_ref()?.oldest?.as_secs_f64())
    });
    page.gauge("dead_letters_present", "whether the source keeps dead letters", relays, |relay| {
        Some(f64::from(relay.measured.source.as_ref()?.has_dead_letters))
    });
    page.gauge(
        "held_back_seconds",
        "how long the relay waits for the transaction of somebody else",
        relays,
        |relay| Some(relay.held_back),
    );
    page.gauge("in_hand_messages", "messages taken from the source and not settled", relays, |relay| {
        Some(relay.status.as_ref()?.in_hand as f64)
    });
    page.held(relays);
    page.counters(relays);
    page.histogram("batch_messages", "messages of a call to a destination", relays, |relay| {
        Some(relay.measured.batches.clone())
    });
    page.histogram("publish_seconds", "how long a call to a destination took", relays, |relay| {
        Some(relay.measured.latencies.clone())
    });
    page.histogram(
        "outbox_seconds",
        "how long messages were in the outbox until their destinations had accepted them",
        relays,
        |relay| Some(Histogram::from(&relay.status.as_ref()?.counts.outbox)),
    );
    page.0
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(
            self.0,
            "# HELP watermill_forwarder_{name} {help}\n# TYPE watermill_forwarder_{name} {kind}"
        );
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(self.0, "watermill_forwarder_{name}{{{}}} {value}", labels.join(","));
    }

    fn gauge(&mut self, name: &str, help: &str, relays: &[Shown], value: impl Fn(&Shown) -> Option<f64>) {
        self.head(name, "gauge", help);
        for relay in relays {
            if let Some(value) = value(relay) {
                self.line(name, &[("relay", &relay.relay)], value);
            }
        }
    }

    fn held(&mut self, relays: &[Shown]) {
        self.head(
            "held_messages",
            "gauge",
            "messages that wait for a destination or a key that fails or is paused",
        );
        for relay in relays {
            let mut by_destination = std::collections::BTreeMap::<&str, f64>::new();
            for held in relay.status.iter().flat_map(|status| &status.held) {
                *by_destination.entry(held.destination.as_deref().unwrap_or_default()).or_default() +=
                    held.messages as f64;
            }
            for (destination, messages) in by_destination {
                self.line(
                    "held_messages",
                    &[("relay", &relay.relay), ("destination", destination)],
                    messages,
                );
            }
        }
    }

    fn counters(&mut self, relays: &[Shown]) {
        self.head("forwarded_total", "counter", "messages that their destinations have accepted");
        for relay in relays {
            for (destination, report) in relay.status.iter().flat_map(|status| &status.counts.destinations) {
                let labels = [("relay", &*relay.relay), ("destination", destination)];
                self.line("forwarded_total", &labels, report.forwarded as f64);
            }
        }
        self.head(
            "dead_lettered_total",
            "counter",
            "messages that were given up, by the kind of the last error",
        );
        for relay in relays {
            for (reason, count) in relay.status.iter().flat_map(|status| &status.counts.dead_letter_reasons) {
                self.line(
                    "dead_lettered_total",
                    &[("relay", &relay.relay), ("reason", reason)],
                    *count as f64,
                );
            }
        }
        self.head("publish_attempts_total", "counter", "calls to a destination, by what came of them");
        for relay in relays {
            for (outcome, count) in &relay.measured.attempts {
                let labels = [("relay", &*relay.relay), ("outcome", outcome)];
                self.line("publish_attempts_total", &labels, *count as f64);
            }
        }
        self.head("lease_changes_total", "counter", "how often another process was found to read the source");
        for relay in relays {
            self.line("lease_changes_total", &[("relay", &relay.relay)], relay.measured.lease_changes as f64);
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        relays: &[Shown],
        histogram: impl Fn(&Shown) -> Option<Histogram>,
    ) {
        self.head(name, "histogram", help);
        let (bucket, sum, count) = (format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count"));
        for relay in relays {
            let Some(histogram) = histogram(relay) else { continue };
            let label = ("relay", &*relay.relay);
            for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
                self.line(&bucket, &[label, ("le", &bound.to_string())], *count as f64);
            }
            self.line(&bucket, &[label, ("le", "+Inf")], histogram.count as f64);
            self.line(&sum, &[label], histogram.sum);
            self.line(&count, &[label], histogram.count as f64);
        }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::SourceFigures, *};

    #[test]
    fn what_is_not_known_of_a_source_is_not_shown() {
        let of = |source: SourceFigures| {
            let measured = Measured { source: Some(source), ..Measured::default() };
            render(&[Shown { relay: "a".to_owned(), status: None, measured, held_back: 0.0 }])
        };
        let names = ["backlog_messages{", "oldest_message_seconds{", "source_owned{"];
        let unknown = of(SourceFigures::default());
        assert!(names.iter().all(|name| !unknown.contains(name)), "{unknown}");
        let known = SourceFigures {
            backlog: Some(0),
            oldest: Some(Duration::ZERO),
            has_owner: Some(false),
            has_dead_letters: false,
        };
        let known = of(known);
        assert!(names.iter().all(|name| known.contains(name)), "{known}");
    }

    #[test]
    fn the_time_in_the_outbox_is_shown_in_buckets_that_count_what_is_below_them() {
        let mut times = watermill_forwarder::OutboxTime::default();
        (times.messages, times.total, times.longest) =
            (3, Duration::from_millis(9_025), Duration::from_secs(9));
        (times.buckets[0], times.buckets[2], times.buckets[10]) = (1, 1, 1);
        let histogram = Histogram::from(&times);
        let mut page = Page(String::new());
        let relays =
            [Shown { relay: "a".to_owned(), status: None, measured: Measured::default(), held_back: 0.0 }];
        page.histogram("outbox_seconds", "how long", &relays, |_| Some(histogram.clone()));
        for line in [
            "# TYPE watermill_forwarder_outbox_seconds histogram",
            "watermill_forwarder_outbox_seconds_bucket{relay=\"a\",le=\"0.005\"} 1",
            "watermill_forwarder_outbox_seconds_bucket{relay=\"a\",le=\"0.025\"} 2",
            "watermill_forwarder_outbox_seconds_bucket{relay=\"a\",le=\"3600\"} 3",
            "watermill_forwarder_outbox_seconds_bucket{relay=\"a\",le=\"+Inf\"} 3",
            "watermill_forwarder_outbox_seconds_sum{relay=\"a\"} 9.025",
            "watermill_forwarder_outbox_seconds_count{relay=\"a\"} 3",
        ] {
            assert!(page.0.lines().any(|found| found == line), "{line} is not in:\n{}", page.0);
        }
    }

    #[test]
    fn every_metric_has_help_a_type_and_the_name_of_its_relay() {
        let shown = |relay: &str| Shown {
            relay: relay.to_owned(),
            status: None,
            measured: Measured { source: Some(Default::default()), ..Measured::default() },
            held_back: 1.5,
        };
        let text = render(&[shown("a"), shown("b\"")]);
        assert!(text.contains("# TYPE watermill_forwarder_held_back_seconds gauge\n"), "{text}");
        assert!(text.contains("watermill_forwarder_held_back_seconds{relay=\"a\"} 1.5\n"), "{text}");
        assert!(
            text.contains("watermill_forwarder_batch_messages_bucket{relay=\"b\\\"\",le=\"+Inf\"} 0\n"),
            "{text}"
        );
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("watermill_forwarder_") && line.contains("relay=\""), "{line}");
        }
    }
}
