//! The messages of `google.pubsub.v1` that the script needs.

use std::collections::HashMap;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PubsubMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) data: Vec<u8>,
    #[prost(map = "string, string", tag = "2")]
    pub(crate) attributes: HashMap<String, String>,
    #[prost(string, tag = "3")]
    pub(crate) message_id: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) publish_time: Option<Timestamp>,
    #[prost(string, tag = "5")]
    pub(crate) ordering_key: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PublishRequest {
    #[prost(string, tag = "1")]
    pub(crate) topic: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) messages: Vec<PubsubMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PublishResponse {
    #[prost(string, repeated, tag = "1")]
    pub(crate) message_ids: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReceivedMessage {
    #[prost(string, tag = "1")]
    pub(crate) ack_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) message: Option<PubsubMessage>,
    #[prost(int32, tag = "3")]
    pub(crate) delivery_attempt: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StreamingPullRequest {
    #[prost(string, tag = "1")]
    pub(crate) subscription: String,
    #[prost(int32, tag = "5")]
    pub(crate) lease_seconds: i32,
    #[prost(int64, tag = "7")]
    pub(crate) outstanding_messages: i64,
    #[prost(int64, tag = "8")]
    pub(crate) outstanding_bytes: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SubscriptionProperties {
    #[prost(bool, tag = "1")]
    pub(crate) exactly_once_delivery_enabled: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StreamingPullResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) received_messages: Vec<ReceivedMessage>,
    #[prost(message, optional, tag = "4")]
    pub(crate) subscription_properties: Option<SubscriptionProperties>,
}

/// `AcknowledgeRequest`, and of `ModifyAckDeadlineRequest` what tells its kind: the two share no tag here.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Settling {
    #[prost(string, repeated, tag = "2")]
    pub(crate) acked: Vec<String>,
    #[prost(int32, tag = "3")]
    pub(crate) deadline: i32,
    #[prost(string, repeated, tag = "4")]
    pub(crate) modified: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ErrorInfo {
    #[prost(string, tag = "1")]
    pub(crate) reason: String,
    #[prost(map = "string, string", tag = "3")]
    pub(crate) metadata: HashMap<String, String>,
}

impl Status {
    pub(crate) fn new(code: i32) -> Self {
        Self { code, message: "as the script says".to_owned(), details: Vec::new() }
    }

    /// What exactly-once delivery says of each ack id.
    pub(crate) fn with_ack_ids(mut self, said: &[(&str, &str)]) -> Self {
        let metadata = said.iter().map(|(id, said)| ((*id).to_owned(), (*said).to_owned())).collect();
        let info = ErrorInfo { reason: "ACK".to_owned(), metadata };
        let type_url = "type.googleapis.com/google.rpc.ErrorInfo".to_owned();
        self.details.push(Any { type_url, value: prost::Message::encode_to_vec(&info) });
        self
    }
}
