//! Metadata keys with a meaning, shared with Go Watermill unless said otherwise.

/// Ties together everything that one cause set off.
pub const CORRELATION_ID: &str = "correlation_id";
/// The id of the message that was being handled when this one was made. Ours.
pub const CAUSATION_ID: &str = "causation_id";

/// What a command or an event is: the name of its type, `orders.OrderPlaced` or any other text.
pub const NAME: &str = "name";
/// Which version of its type a command or an event is, in decimal; without it, the first. Ours.
pub const SCHEMA_VERSION: &str = "schema_version";
/// The media type of the payload: `application/json`. Ours.
pub const CONTENT_TYPE: &str = "content_type";

/// Which request a command or a reply belongs to.
pub const REQUEST_REPLY_OPERATION_ID: &str = "_watermill_requestreply_op_id";
/// Whether the handler of a request has failed: `0` or `1`.
pub const REQUEST_REPLY_HAS_ERROR: &str = "_watermill_requestreply_has_error";
/// The text of its error.
pub const REQUEST_REPLY_ERROR: &str = "_watermill_requestreply_error";
/// Its error as JSON, where the error is of a type that can be sent. Ours.
pub const REQUEST_REPLY_ERROR_DETAILS: &str = "_watermill_requestreply_error_details";
/// The topic that a requester wants its replies on, where that is not the responder's own. Ours.
pub const REQUEST_REPLY_TOPIC: &str = "_watermill_requestreply_topic";

/// Why a message was dead-lettered: the error's text.
pub const REASON_POISONED: &str = "reason_poisoned";
/// The topic it was consumed from.
pub const TOPIC_POISONED: &str = "topic_poisoned";
/// The handler that failed.
pub const HANDLER_POISONED: &str = "handler_poisoned";
/// The kind of subscriber it came through.
pub const SUBSCRIBER_POISONED: &str = "subscriber_poisoned";
/// How often it was tried, in decimal. Ours.
pub const ATTEMPTS_POISONED: &str = "attempts_poisoned";
/// When it failed for the last time, in whole milliseconds since the Unix epoch. Ours.
pub const FAILED_AT_POISONED: &str = "failed_at_ms_poisoned";
/// The partition it was consumed from. Ours.
pub const PARTITION_POISONED: &str = "partition_poisoned";
/// The offset it was consumed at. Ours.
pub const OFFSET_POISONED: &str = "offset_poisoned";

/// When a message becomes due: RFC 3339, UTC. Go writes whole seconds.
pub const DELAYED_UNTIL: &str = "_watermill_delayed_until";
/// The delay that led to [`DELAYED_UNTIL`], as a Go duration: `1m30s`, `1.5s`.
pub const DELAYED_FOR: &str = "_watermill_delayed_for";
/// Where a message goes once it is due, while it waits in the queue of a
/// [`DelayPublisher`](crate::delay::DelayPublisher). Ours.
pub const DELAYED_TOPIC: &str = "_watermill_delayed_topic";

/// How often a requeuer has sent the message back, in decimal.
pub const REQUEUER_RETRIES: &str = "_watermill_requeuer_retries";
/// The topic that a [fan-in](crate::components::FanIn) took the message from. Ours.
pub const SOURCE_TOPIC: &str = "_watermill_source_topic";

/// Names the payload of the message in a store of large payloads: see
/// [`claim_check`](crate::components::claim_check). Ours.
pub const CLAIM: &str = "_watermill_claim";
/// How many bytes that payload has, in decimal. Ours.
pub const CLAIM_BYTES: &str = "_watermill_claim_bytes";

/// The message id, in backends that carry it beside the metadata (Kafka headers, Pub/Sub attributes).
pub const MESSAGE_UUID: &str = "_watermill_message_uuid";
/// The message key as text, in backends that have no place of their own for it. Ours.
pub const KEY: &str = "_watermill_key";
/// The same for a key that is not UTF-8: standard base64. Ours.
pub const KEY_BASE64: &str = "_watermill_key_base64";
