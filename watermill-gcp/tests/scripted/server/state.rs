//! [`State`]: the script, and what has happened.

use std::collections::VecDeque;

use prost::Message;

use crate::wire::{
    PublishRequest, PublishResponse, PubsubMessage, ReceivedMessage, Settling, Status, StreamingPullRequest,
};

/// What a stream does next.
#[derive(Clone, Debug)]
pub(crate) enum Pull {
    Send(Vec<ReceivedMessage>),
    /// So many messages of a kilobyte, as fast as they are taken, with no regard to what was asked for.
    Flood(usize),
    Break(Status),
}

#[derive(Default)]
pub(crate) struct State {
    /// Answers to publish requests; where there is none left, `Ok`.
    pub(crate) publishing: VecDeque<Status>,
    /// Publish requests have no answer while it is set.
    pub(crate) holds_publishing: bool,
    /// What streams do, one after the other; where nothing is left, they stay open.
    pub(crate) pulls: VecDeque<Pull>,
    /// Answers to acks; where there is none left, `Ok`.
    pub(crate) acking: VecDeque<Status>,
    /// Answers over HTTP/1, to what creates and looks at topics and subscriptions: a status and JSON. Where
    /// there is none left, it is forbidden.
    pub(crate) admin: VecDeque<(u16, String)>,
    pub(crate) exactly_once: bool,

    /// The messages that were accepted, and how many requests had an answer.
    pub(crate) accepted: Vec<PubsubMessage>,
    pub(crate) requests: usize,
    /// Publish requests, those without an answer included.
    pub(crate) arrived: usize,
    /// The most that were without an answer at once.
    pub(crate) arrived_at_once: usize,
    /// How each stream began.
    pub(crate) streams: Vec<StreamingPullRequest>,
    pub(crate) acked: Vec<String>,
    pub(crate) nacked: Vec<String>,
    /// Ack ids whose deadline was extended, and the new one in seconds.
    pub(crate) extended: Vec<(String, i32)>,
    /// `PUT /v1/projects/..` and so on.
    pub(crate) asked: Vec<String>,
    /// Of each gRPC request that has any.
    pub(crate) credentials: Vec<String>,
}

impl State {
    pub(super) fn answer(&mut self, method: &str, request: &[u8]) -> (Vec<u8>, Status) {
        let fine = || Status::new(0);
        match method {
            "Publish" => {
                let request = PublishRequest::decode(request).expect("a publish request");
                self.requests += 1;
                let status = self.publishing.pop_front().unwrap_or_else(fine);
                let message_ids = request.messages.iter().map(|_| "1".to_owned()).collect();
                if status.code == 0 {
                    self.accepted.extend(request.messages);
                }
                (PublishResponse { message_ids }.encode_to_vec(), status)
            }
            "Acknowledge" => {
                let ids = Settling::decode(request).expect("an acknowledge request").acked;
                let status = self.acking.pop_front().unwrap_or_else(fine);
                if status.code == 0 {
                    self.acked.extend(ids);
                }
                (Vec::new(), status)
            }
            _ => {
                let Settling { deadline, modified, .. } =
                    Settling::decode(request).expect("a request for other deadlines");
                if deadline == 0 {
                    self.nacked.extend(modified);
                } else {
                    self.extended.extend(modified.into_iter().map(|id| (id, deadline)));
                }
                (Vec::new(), fine())
            }
        }
    }
}
