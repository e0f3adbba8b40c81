//! The list of all metrics.

/// A metric, as the list has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, as Prometheus has it.
    pub name: &'static str,
    /// What kind of figure it is.
    pub kind: Kind,
    /// What it is counted in: `messages`, `seconds`, or what it says.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Who records it.
    pub by: RecordedBy,
    /// What it says.
    pub meaning: &'static str,
}

/// What kind of figure a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// It only grows, until the process ends.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// Who records a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordedBy {
    /// A router that is [measured as a whole](super::Metrics::on), or [`Metrics::layer`](super::Metrics::layer).
    Layer,
    /// [`Metrics::publisher`](super::Metrics::publisher), and the handlers of a router that is measured as a whole.
    Publisher,
    /// A router that is watched, and for subscribers without one [`Metrics::subscriber`](super::Metrics::subscriber).
    Router,
    /// A relay that is watched, and the daemon `watermill-forwarder`.
    Relay,
    /// The daemon alone.
    Daemon,
}

macro_rules! metrics {
    ($($name:ident = $text:literal, $kind:ident, $unit:literal, [$($label:literal),*], $by:ident, $meaning:literal;)*) => {
        $(pub(crate) const $name: &Metric = &Metric {
            name: $text, kind: Kind::$kind, unit: $unit, labels: &[$($label),*], by: RecordedBy::$by, meaning: $meaning,
        };)*

        /// Every metric of this crate and of the daemon, in the order of `METRICS.md`.
        pub const ALL: &[Metric] = &[$(*$name),*];
    };
}

metrics! {
    RECEIVED = "subscriber_messages_received_total", Counter, "messages", ["handler_name", "subscriber_name", "acked"], Router,
        "deliveries that were settled: `acked`, dead-lettered and dropped ones included, or `nacked`, rejected and lost ones included";
    HANDLER_SECONDS = "handler_execution_time_seconds", Histogram, "seconds", ["handler_name", "success"], Layer,
        "how long each try of the handler took, in a batch its wait for the others included; a panic is no success, nor is what a layer dead-letters";
    PUBLISH_SECONDS = "publish_time_seconds", Histogram, "seconds", ["handler_name", "publisher_name", "success"], Publisher,
        "how long a call to publish took";
    HANDLER_UP = "watermill_handler_up", Gauge, "0 or 1", ["handler_name"], Router,
        "whether the handler runs, or tries to";
    HANDLER_FAILED = "watermill_handler_failed", Gauge, "0 or 1", ["handler_name"], Router,
        "whether the handler has ended although nobody asked it to; it takes no more messages";
    HANDLER_RESTARTS = "watermill_handler_restarts_total", Counter, "restarts", ["handler_name"], Router,
        "how often the handler was started again";
    HANDLER_PANICS = "watermill_handler_panics_total", Counter, "tries", ["handler_name"], Router,
        "tries that ended in a panic";
    IN_FLIGHT = "watermill_messages_in_flight", Gauge, "messages", ["handler_name"], Router,
        "deliveries that the handler has taken and not settled";
    REDELIVERED = "watermill_messages_redelivered_total", Counter, "messages", ["handler_name"], Router,
        "deliveries of messages that had been delivered before, as far as the backend tells";
    RETRIED = "watermill_messages_retried_total", Counter, "tries", ["handler_name"], Router,
        "tries in place after the first";
    DEAD_LETTERED = "watermill_messages_dead_lettered_total", Counter, "messages", ["handler_name", "reason"], Router,
        "messages that the failure policy, or the layer `PoisonQueue`, dead-lettered: `panic`, `permanent`, `publish` (outputs not \
         accepted), `error`, or `rejected` to the backend's own dead letters";
    DROPPED = "watermill_messages_dropped_total", Counter, "messages", ["handler_name"], Router,
        "messages that failed and were acked, because the failure policy says so";
    LOST = "watermill_messages_lost_total", Counter, "messages", ["handler_name"], Router,
        "deliveries that were lost with a lease or a partition before they were settled; another owner gets the messages";
    SUBSCRIPTION_HEALTHY = "watermill_subscription_healthy", Gauge, "0 or 1", ["handler_name", "subscriber_name", "topic"], Router,
        "whether the subscription is connected and may read; a standby is not, and waits";
    SUBSCRIPTION_CHANGES = "watermill_subscription_changes_total", Counter, "changes", ["handler_name", "subscriber_name", "topic"], Router,
        "how often it was found to have become healthy, or to have stopped being so: leases that change hands, connections that break";
    SUBSCRIPTION_OUTSTANDING = "watermill_subscription_outstanding_messages", Gauge, "messages", ["handler_name", "subscriber_name", "topic"], Router,
        "deliveries that are handed out and not settled";
    SUBSCRIPTION_LAG = "watermill_subscription_lag_messages", Gauge, "messages", ["handler_name", "subscriber_name", "topic"], Router,
        "messages that the group has not settled, where the backend knows; `NaN` while it no longer does";
    SUBSCRIPTION_OLDEST = "watermill_subscription_oldest_message_seconds", Gauge, "seconds", ["handler_name", "subscriber_name", "topic"], Router,
        "how long ago the oldest message was published that the group has not settled, where the backend knows; `NaN` while it no longer does";
    SUBSCRIPTION_HELD_BACK = "watermill_subscription_held_back_seconds", Gauge, "seconds", ["handler_name", "subscriber_name", "topic"], Router,
        "for how long somebody else's transaction or lease has been seen to keep it from reading on";
    PUBLISH_MESSAGES = "watermill_publish_batch_messages", Histogram, "messages", ["publisher_name", "topic"], Publisher,
        "messages of a call to publish";
    PUBLISH_ERRORS = "watermill_publish_errors_total", Counter, "calls", ["publisher_name", "topic", "kind"], Publisher,
        "calls to publish that failed, by the kind of the error";
    RELAY_UP = "watermill_forwarder_relay_up", Gauge, "0 or 1", ["relay"], Relay,
        "whether the relay is subscribed, reading or standing by";
    RELAY_ACTIVE = "watermill_forwarder_relay_active", Gauge, "0 or 1", ["relay"], Relay,
        "whether this relay is the one that reads";
    RELAY_SOURCE_UP = "watermill_forwarder_source_up", Gauge, "0 or 1", ["relay"], Daemon,
        "whether the source has answered when it was asked last";
    RELAY_OWNED = "watermill_forwarder_source_owned", Gauge, "0 or 1", ["relay"], Daemon,
        "whether any process reads the source";
    RELAY_BACKLOG = "watermill_forwarder_backlog_messages", Gauge, "messages", ["relay"], Relay,
        "messages that wait in the source";
    RELAY_OLDEST = "watermill_forwarder_oldest_message_seconds", Gauge, "seconds", ["relay"], Relay,
        "the age of the oldest message that waits";
    RELAY_LETTERS = "watermill_forwarder_dead_letters_present", Gauge, "0 or 1", ["relay"], Daemon,
        "whether the source keeps dead letters";
    RELAY_HELD_BACK = "watermill_forwarder_held_back_seconds", Gauge, "seconds", ["relay"], Relay,
        "how long the relay waits for the transaction of somebody else";
    RELAY_IN_HAND = "watermill_forwarder_in_hand_messages", Gauge, "messages", ["relay"], Relay,
        "messages taken from the source and not settled";
    RELAY_HELD = "watermill_forwarder_held_messages", Gauge, "messages", ["relay", "destination"], Relay,
        "messages that wait for a destination or a key that fails or is paused";
    RELAY_FORWARDED = "watermill_forwarder_forwarded_total", Counter, "messages", ["relay", "destination"], Relay,
        "messages that their destinations have accepted";
    RELAY_DEAD_LETTERED = "watermill_forwarder_dead_lettered_total", Counter, "messages", ["relay", "reason"], Relay,
        "messages that were given up, by the kind of the last error";
    RELAY_OUTBOX = "watermill_forwarder_outbox_seconds", Histogram, "seconds", ["relay"], Relay,
        "how long messages were in the outbox until their destinations had accepted them, where the source says when they were written";
    RELAY_ATTEMPTS = "watermill_forwarder_publish_attempts_total", Counter, "calls", ["relay", "outcome"], Daemon,
        "calls to a destination, by what came of them";
    RELAY_LEASES = "watermill_forwarder_lease_changes_total", Counter, "changes", ["relay"], Daemon,
        "how often another process was found to read the source";
    RELAY_BATCH = "watermill_forwarder_batch_messages", Histogram, "messages", ["relay"], Daemon,
        "messages of a call to a destination";
    RELAY_SECONDS = "watermill_forwarder_publish_seconds", Histogram, "seconds", ["relay"], Daemon,
        "how long a call to a destination took";
}

impl Metric {
    /// The upper bounds of its buckets, where it is a histogram that this crate records: those of Go Watermill for its two.
    pub fn buckets(&self) -> &'static [f64] {
        match self.name {
            "handler_execution_time_seconds" => {
                &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]
            }
            "watermill_publish_batch_messages" => {
                &[1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0]
            }
            "watermill_forwarder_outbox_seconds" => OUTBOX_BUCKETS,
            _ => DEFAULT_BUCKETS,
        }
    }

    /// Its row in `METRICS.md`.
    pub fn row(&self) -> String {
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = self.labels.iter().map(|label| format!("`{label}`")).collect();
        let by = match self.by {
            RecordedBy::Layer => "layer",
            RecordedBy::Publisher => "publisher",
            RecordedBy::Router => "watched router",
            RecordedBy::Relay => "watched relay, daemon",
            RecordedBy::Daemon => "daemon",
        };
        let Self { name, unit, meaning, .. } = self;
        format!("| `{name}` | {kind} | {unit} | {} | {by} | {meaning} |", labels.join(", "))
    }
}

/// Those of `watermill_forwarder::OutboxTime`, in seconds.
pub(crate) const OUTBOX_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3_600.0];

/// Those of Prometheus's own clients, in seconds.
pub(crate) const DEFAULT_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
